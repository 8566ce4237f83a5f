"""Evidence: baselines, comparisons, classifiers, robustness and metrics. The product never imports it."""

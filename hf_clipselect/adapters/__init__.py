"""Adapters on the two projections: training on cached features, keeping, saving, loading."""

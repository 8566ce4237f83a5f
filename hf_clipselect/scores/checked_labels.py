"""Labels that a person looked at, in what the noise model says."""

from dataclasses import replace

import numpy as np

from .noise_model import LabelNoise


def with_checked_labels(noise: LabelNoise, labels: np.ndarray, is_right: np.ndarray) -> LabelNoise:
    """What the noise model says, where a person took the labels of some rows for right.

    The model is fitted as if nobody had looked: to all rows, by the labels that they have now. Then what the person
    says takes the place of its verdict: a right label is wrong with probability 0, and is itself the class that is
    most probably true. The share of wrong labels is the mean over all rows, as before. What is known of a row has no
    error, so that the standard error of the share shrinks with the part of the rows that nobody looked at.

    Args:
        noise ([`LabelNoise`]): Of N rows.
        labels (`np.ndarray` of shape `(N,)`): Their labels, int64, numbered as in `noise`.
        is_right (`np.ndarray` of shape `(N,)`): Which of these a person took for right, bool.

    Returns:
        [`LabelNoise`]
    """
    error_probability = np.where(is_right, np.float32(0), noise.error_probability)
    return replace(
        noise,
        error_probability=error_probability,
        clean_label=np.where(is_right, labels, noise.clean_label),
        share=float(error_probability.mean(dtype=np.float64)),
        share_error=noise.share_error * float(1 - is_right.mean()),
    )

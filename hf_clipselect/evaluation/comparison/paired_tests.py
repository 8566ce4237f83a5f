"""Whether methods differ by more than their seeds: paired t-tests over seeds, corrected for how many there are.

Legend: M methods, S seeds, K tests.
"""

import numpy as np
from scipy.stats import ttest_1samp


# What counts as separated: a corrected p-value below this.
LEVEL = 0.05
# Differences that are equal but for rounding have no spread: as a share of the largest of them.
_EQUAL = 1e-9


def paired_p_values(differences: np.ndarray) -> np.ndarray:
    """Two-sided p-values of the paired t-test over seeds.

    The test divides by the spread of the differences. Where they have none, which is so for one seed and where all of
    them are equal, it is 1: seeds that change nothing, such as those of right labels for methods that draw nothing,
    are one observation that is repeated, however many they are.

    Args:
        differences (`np.ndarray` of shape `(..., S)`): One method less another of the same seed, of at least one seed.

    Returns:
        `np.ndarray` of shape `(...)`: In [0, 1].
    """
    num_seeds = differences.shape[-1]
    largest = np.abs(differences).max(axis=-1)
    equal = np.ptp(differences, axis=-1) <= _EQUAL * largest
    # What is equal has no p-value; any numbers that differ keep it from being computed.
    spread = np.where(equal[..., None], np.arange(num_seeds), differences)
    p_values = ttest_1samp(spread, 0, axis=-1).pvalue if num_seeds > 1 else np.ones_like(largest)
    return np.where(equal, 1.0, p_values)


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values with Holm's correction (1979, https://www.jstor.org/stable/4615733).

    Args:
        p_values (`np.ndarray` of shape `(K,)`): In [0, 1].

    Returns:
        `np.ndarray` of shape `(K,)`: Those below a level may be called so together, whatever depends on what.
    """
    order = np.argsort(p_values)
    steps = p_values[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def separated_best(values: np.ndarray, *, highest: bool) -> int | None:
    """The method with the best mean, if the test separates it from the second.

    It is tested against each of the others, with Holm's correction over them.

    Args:
        values (`np.ndarray` of shape `(M, S)`): Of the same seeds.
        highest (`bool`): Whether high values are good.

    Returns:
        `int`, *optional*: Its row; None where there is no other, or one of the others with the second best mean has a
            corrected p-value of at least `LEVEL`.
    """
    means = values.mean(axis=1) if highest else -values.mean(axis=1)
    best = int(means.argmax())
    others = np.delete(np.arange(len(values)), best)
    if not len(others):
        return None
    corrected = holm(paired_p_values(values[best] - values[others]))
    second = means[others] == means[others].max()
    return best if corrected[second].max() < LEVEL else None

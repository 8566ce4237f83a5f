"""Random rows: what every other method has to beat."""

import numpy as np


# Another stream than `default_rng(seed)`, which draws the rows that `add_label_noise` of the same seed changes.
_STREAM = 4


def random_scores(num_rows: int, *, seed: int) -> np.ndarray:
    """A random order as scores, no two alike.

    Args:
        num_rows (`int`): Number of rows N.
        seed (`int`): Seed of the draw.

    Returns:
        `np.ndarray` of shape `(num_rows,)`: Scores, float32, whole numbers from 1 - N to 0, higher is kept first.
    """
    return -np.random.default_rng([seed, _STREAM]).permutation(num_rows).astype(np.float32)

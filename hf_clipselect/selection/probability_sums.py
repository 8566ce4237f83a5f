"""Sums of probabilities that do not depend on the order of the rows: integers, in place of floats that round."""

import numpy as np


# A probability is a multiple of 1 / UNITS. Sums of up to 2^31 rows stay within int64.
UNITS = 2**32


def in_units(probability: np.ndarray) -> np.ndarray:
    """Probabilities, of any shape, in [0, 1] -> int64 in [0, UNITS], rounded to the nearest."""
    return np.rint(np.asarray(probability, dtype=np.float64) * UNITS).astype(np.int64)

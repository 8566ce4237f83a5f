"""How many bits the grey values of a dataset really have: cameras and scanners store 10, 12 or 14 bits in 16."""

import numpy as np
from datasets import Dataset

from .images import FULL_WHITE, largest_wide_grey


_BITS = (8, 10, 12, 14)
_SAMPLE = 64


def white_level(dataset: Dataset, image_column: str) -> int:
    """The value that is white in the 16-bit grey images of a dataset: 255, 1023, 4095, 16383 or 65535.

    The largest value of a sample of images, spread evenly over the rows, decides: one below 4,096 means 12 bits. All
    images of a dataset are scaled alike, so that a dark one stays darker than a bright one. It is 65535 where the
    sample holds no 16-bit grey image. The column holds undecoded images.
    """
    rows = np.unique(np.linspace(0, len(dataset) - 1, _SAMPLE).astype(np.int64))
    largest = max(largest_wide_grey(value) for value in dataset[rows][image_column])
    return next((2**bits - 1 for bits in _BITS if 0 < largest < 2**bits), FULL_WHITE)

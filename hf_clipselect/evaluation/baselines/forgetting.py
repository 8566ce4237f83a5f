"""Forgetting: how often a network unlearns a row.

Toneva, Sordoni, Tachet des Combes, Trischler, Bengio and Gordon, "An Empirical Study of Example Forgetting during Deep
Neural Network Learning", ICLR 2019, https://huggingface.co/papers/1812.05159.

A row is forgotten where it was classified rightly the last time that it came up in a batch, and is not now. Rows that
are forgotten often are kept; a row that was never right counts as forgotten more often than any other. Wrong labels
are among the first.
"""

import numpy as np


class ForgettingCounter:
    """Counts the events of one training, epoch by epoch; only what the last epoch showed is held.

    Args:
        num_rows (`int`): Number of rows N.
    """

    def __init__(self, num_rows: int) -> None:
        self._num_epochs = 0
        self._was_right = np.zeros(num_rows, dtype=bool)
        self._was_ever_right = np.zeros(num_rows, dtype=bool)
        self._events = np.zeros(num_rows, dtype=np.int64)

    def add_epoch(self, is_right: np.ndarray) -> None:
        """Take down one epoch.

        Args:
            is_right (`np.ndarray` of shape `(N,)`, bool): Whether each row was classified as its label says.
        """
        self._num_epochs += 1
        self._events += self._was_right & ~is_right
        self._was_ever_right |= is_right
        self._was_right = is_right.copy()

    def scores(self) -> np.ndarray:
        """Forgetting events; for rows that were never right the number of epochs, which no row can reach otherwise.

        Returns:
            `np.ndarray` of shape `(N,)`: Float32, at least 0, higher is kept first.
        """
        return np.where(self._was_ever_right, self._events, self._num_epochs).astype(np.float32)

"""What a subset of another size would be: rows, classes, wrong labels, and the rows of each class before and after."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...selection import column_suffix
from ..scores_table import column_values
from .explored import Explored


@dataclass(frozen=True)
class SizePreview:
    """A subset of one ratio.

    `wrong_kept` and `wrong_dropped` are the estimated shares of wrong labels among its rows and among the readable
    others, in [0, 1]; without a noise model, the shares whose label is not what CLIP predicts. None where there are no
    such rows. `classes` has for each class its name, its rows, and those of them that are kept.
    """

    ratio: float
    rows: int
    rows_before: int
    wrong_kept: float | None
    wrong_dropped: float | None
    classes: list[tuple[str, int, int]]

    @property
    def num_classes(self) -> int:
        """Classes of which at least one row is kept."""
        return sum(kept > 0 for _, _, kept in self.classes)


@lru_cache(maxsize=64)
def preview_size(explored: Explored, ratio: float) -> SizePreview:
    """What [`SelectionResult.at`] gives for a ratio in (0, 1]; raises what that raises."""
    result = explored.result.at(ratio)
    kept = column_values(result.scores, f"selected_{column_suffix(ratio)}")
    dropped = ~kept & explored.readable
    wrong = (
        explored.column("label_error_probability") if explored.has_noise_model else ~explored.column("label_agrees")
    )
    labels, num_classes = explored.column("label"), len(explored.names)
    before, after = (np.bincount(which, minlength=num_classes) for which in (labels, labels[kept]))
    return SizePreview(
        ratio=ratio,
        rows=int(kept.sum()),
        rows_before=len(kept),
        wrong_kept=_mean(wrong[kept]),
        wrong_dropped=_mean(wrong[dropped]),
        classes=list(zip(explored.names, before.tolist(), after.tolist(), strict=True)),
    )


def _mean(values: np.ndarray) -> float | None:
    return float(values.astype(np.float64).mean()) if len(values) else None

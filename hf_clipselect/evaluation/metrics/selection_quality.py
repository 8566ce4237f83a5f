"""What a selection keeps: wrong labels, damaged images, classes, coverage and redundancy.

Shapes: N rows, K of them kept, D embedding dimension, B rows of a block.
"""

from typing import Any

import datasets
import evaluate
import numpy as np
from sklearn.metrics import roc_auc_score

from hf_clipselect.errors import InputError
from hf_clipselect.scores.arrays import as_numpy, checked_embeds, checked_labels, row_blocks, row_lengths, unit_rows
from hf_clipselect.selection.exact import finite_scores


_DESCRIPTION = """
What a selection keeps of a data set of which more is known than the selection knew: which labels are wrong, which
images are damaged. Shares are fractions of 1. A figure that does not exist, such as the part of the wrong labels where
there are none, is NaN.
"""

_INPUTS = """
Args:
    selected (`list` or `np.ndarray` of shape `(N,)`): Whether each row was kept, bool; a column `selected_<percent>`
        of the scores table, or `np.isin(np.arange(N), result.selected)`.
    references (`list` or `np.ndarray` of shape `(N,)`): Given classes, integers from 0.
    is_noisy (`list` or `np.ndarray` of shape `(N,)`, *optional*): Whether the label is wrong, bool.
    scores (`list` or `np.ndarray` of shape `(N,)`, *optional*): What the rows were ranked by, higher is kept first;
        used with `is_noisy`.
    is_corrupted (`list` or `np.ndarray` of shape `(N,)`, *optional*): Whether the image is damaged, bool.
    embeds (`np.ndarray` or `torch.Tensor` of shape `(N, D)`, *optional*): Image embeddings, normalised here.

Returns:
    `dict[str, float]`: What the inputs allow of

    - `num_kept`: K.
    - `class_max_min`: Kept rows of the largest class over those of the smallest, among the classes that the data set
      has; 1 or more, lower is more balanced, infinite where a class is lost.
    - `class_entropy`: Entropy of the classes of the kept rows over the logarithm of the number of classes that the
      data set has; in [0, 1], higher is more balanced, 1 where all are equal (and for a single class).
    - `noise_share` (`is_noisy`): Wrong labels among the kept rows, in [0, 1], lower is better; random rows have the
      rate of the whole.
    - `noise_kept` (`is_noisy`): Part of all wrong labels that was kept, in [0, 1], lower is better; random rows
      have K / N.
    - `noise_auroc` (`is_noisy`, `scores`): Area under the ROC curve of finding wrong labels by their low score: the
      probability that a right label scores higher than a wrong one, ties counting half; in [0, 1], higher is better,
      0.5 is chance.
    - `corrupted_share` (`is_corrupted`): Damaged images among the kept rows, in [0, 1], lower is better.
    - `coverage` (`embeds`): Mean over all N rows of the cosine with the most similar kept row (1 for a kept one);
      higher is better covered, -1 to 1. Facility location over N.
    - `redundancy` (`embeds`): Mean over the kept rows of the cosine with the most similar other kept row; in [-1, 1],
      lower repeats less, 1 where each has a copy. NaN for one row.

    `embeds` cost O(N K D) time, in blocks. Compare selections of the same size.
"""


class SelectionQuality(evaluate.Metric):
    """What a selection keeps, from what is known of the rows; [`compute`] has the inputs and the figures."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"selected": datasets.Value("bool"), "references": datasets.Value("int64")}),
        )

    def _compute(
        self,
        selected: Any,
        references: Any,
        *,
        is_noisy: Any = None,
        scores: Any = None,
        is_corrupted: Any = None,
        embeds: Any = None,
        **_of_others: Any,
    ) -> dict[str, float]:
        selected = np.asarray(selected)
        if not selected.any():
            raise InputError(
                f"selected must keep at least one of the {len(selected)} rows; it marks each with True or False."
            )
        labels = checked_labels(np.asarray(references), num_rows=len(selected))
        figures = {"num_kept": int(selected.sum()), **_class_balance(labels, selected)}
        if is_noisy is not None:
            noisy = _checked_marks(is_noisy, len(selected), "is_noisy")
            figures["noise_share"] = float(noisy[selected].mean())
            figures["noise_kept"] = float(selected[noisy].mean()) if noisy.any() else float("nan")
            if scores is not None:
                figures["noise_auroc"] = _auroc(noisy, scores)
        if is_corrupted is not None:
            corrupted = _checked_marks(is_corrupted, len(selected), "is_corrupted")
            figures["corrupted_share"] = float(corrupted[selected].mean())
        if embeds is not None:
            figures.update(_spread(embeds, selected))
        return figures


def _checked_marks(marks: Any, num_rows: int, name: str) -> np.ndarray:
    marks = np.asarray(marks)
    if marks.shape != (num_rows,) or not np.isin(marks, (0, 1)).all():
        raise InputError(
            f"{name} must be {num_rows} values True or False, one per row, got {marks.dtype} of shape {marks.shape}."
        )
    return marks.astype(bool)


def _class_balance(labels: np.ndarray, selected: np.ndarray) -> dict[str, float]:
    classes, numbers = np.unique(labels, return_inverse=True)
    counts = np.bincount(numbers[selected], minlength=len(classes))
    shares = counts[counts > 0] / counts.sum()
    entropy = float(-(shares * np.log(shares)).sum() / np.log(len(classes))) if len(classes) > 1 else 1.0
    return {
        "class_max_min": float(counts.max() / counts.min()) if counts.min() else float("inf"),
        "class_entropy": min(abs(entropy), 1.0),  # rounding, and -0
    }


def _auroc(noisy: np.ndarray, scores: Any) -> float:
    scores = finite_scores(scores)
    if len(scores) != len(noisy):
        raise InputError(f"scores must be {len(noisy)} numbers, one per row, got {len(scores)}.")
    return float(roc_auc_score(~noisy, scores)) if 0 < noisy.sum() < len(noisy) else float("nan")


def _spread(embeds: Any, selected: np.ndarray) -> dict[str, float]:
    embeds = checked_embeds(embeds, "embeds")
    if len(embeds) != len(selected):
        raise InputError(
            f"embeds must have one row for each of the {len(selected)} rows of selected, got {len(embeds)}."
        )
    rows = as_numpy(unit_rows(embeds, slice(None), row_lengths(embeds, "embeds")))
    kept = rows[selected]
    place = np.cumsum(selected) - 1  # of a kept row among the kept
    nearest, nearest_other = np.empty((2, len(rows)))
    for block in row_blocks(len(rows), width=max(kept.shape)):
        cosines = rows[block] @ kept.T
        nearest[block] = cosines.max(axis=1)
        own = np.flatnonzero(selected[block])
        cosines[own, place[block][own]] = -np.inf
        nearest_other[block] = cosines.max(axis=1)
    nearest[selected] = 1
    redundancy = float(nearest_other[selected].mean()) if len(kept) > 1 else float("nan")
    return {"coverage": _clipped(nearest.mean()), "redundancy": _clipped(redundancy)}


def _clipped(cosine: float) -> float:
    return float(np.clip(cosine, -1, 1))

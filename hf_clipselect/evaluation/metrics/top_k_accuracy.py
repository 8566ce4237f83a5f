"""Top-1 and top-5 accuracy.

Shapes: N rows, C classes.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from hf_clipselect.errors import InputError


_DESCRIPTION = "Share of the rows whose class is among the k with the highest logits."

_INPUTS = """
Args:
    predictions (`list`, `np.ndarray` or `torch.Tensor` of shape `(N, C)`): Logits or probabilities.
    references (`list`, `np.ndarray` or `torch.Tensor` of shape `(N,)`): Classes, in `[0, C)`.
    top_k (`int` or `Sequence[int]`, *optional*, defaults to `(1, 5)`): Each k, at least 1.

Returns:
    `dict[str, float]`: `top_<k>_accuracy` for each k, in [0, 1], higher is better. Of equal logits the lower class
    comes first, as in `argmax`. 1 where k is C or more: all classes are among the first k.
"""


class TopKAccuracy(evaluate.Metric):
    """Share of the rows whose class is among the k with the highest logits; [`compute`] has the inputs."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(
                {"predictions": datasets.List(datasets.Value("float32")), "references": datasets.Value("int64")}
            ),
        )

    def _compute(
        self, predictions: Any, references: Any, *, top_k: int | Sequence[int] = (1, 5), **_of_others: Any
    ) -> dict[str, float]:
        logits = _checked_logits(predictions)
        labels = _checked_classes(references, logits.shape[1])
        own = logits[np.arange(len(logits)), labels][:, None]
        earlier = np.arange(logits.shape[1]) < labels[:, None]
        before = (logits > own).sum(axis=1) + ((logits == own) & earlier).sum(axis=1)
        return {f"top_{k}_accuracy": float((before < k).mean()) for k in _checked_top_k(top_k)}


def _checked_logits(predictions: Any) -> np.ndarray:
    widths = {len(row) for row in predictions}
    if len(widths) != 1 or widths == {0}:
        raise InputError(
            f"predictions must be logits of the same classes in every row, got rows of {sorted(widths)} numbers."
        )
    logits = np.asarray(predictions, dtype=np.float32)
    if np.isnan(logits).any():
        row = int(np.isnan(logits).any(axis=1).argmax())
        raise InputError(f"predictions must be numbers, got NaN in row {row}.")
    return logits


def _checked_classes(references: Any, num_classes: int) -> np.ndarray:
    labels = np.asarray(references)
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        row = int(outside.argmax())
        raise InputError(
            f"references must lie in [0, {num_classes}), as many classes as logits, got {labels[row]} in row {row}."
        )
    return labels


def _checked_top_k(top_k: int | Sequence[int]) -> Sequence[int]:
    several = [top_k] if isinstance(top_k, int) else top_k
    for k in several:
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise InputError(f"top_k must be integers of at least 1, such as (1, 5), got {k!r}.")
    return several

"""How often a right class is among the first.

Shapes: N rows, C classes, L right classes of a row.
"""

import numpy as np


def top_k_accuracy(logits: np.ndarray, targets: np.ndarray, *, classes: np.ndarray | None = None) -> dict[str, float]:
    """Share of rows whose class is predicted first, or among the first five.

    Ties go to the lower class number.

    Args:
        logits (`np.ndarray` of shape `(N, C)`, floating): Scores of the classes.
        targets (`np.ndarray` of shape `(N, L)`, int64): Right classes of each row; places that are not used hold -1.
        classes (`np.ndarray` of shape `(number allowed,)`, int64, *optional*): Only these classes may be predicted.

    Returns:
        `dict[str, float]`: `accuracy`, and `top_5_accuracy` where more than five classes may be predicted; in [0, 1].
    """
    hits = _first_hits(logits, targets, classes)
    result = {"accuracy": float(hits[:, 0].mean())}
    if (logits.shape[1] if classes is None else len(classes)) > 5:
        result["top_5_accuracy"] = float(hits.any(axis=1).mean())
    return result


def first_is_right(logits: np.ndarray, targets: np.ndarray, *, classes: np.ndarray | None = None) -> np.ndarray:
    """Whether the class that is predicted first is a right one.

    Args:
        logits, targets, classes: As of [`top_k_accuracy`].

    Returns:
        `np.ndarray` of shape `(N,)`, bool: Its mean is the accuracy.
    """
    return _first_hits(logits, targets, classes)[:, 0]


def _first_hits(logits: np.ndarray, targets: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
    """Whether each of the first five classes is a right one, `(N, 5)` or fewer."""
    allowed = np.arange(logits.shape[1]) if classes is None else np.sort(classes)
    order = np.argsort(-logits[:, allowed].astype(np.float64), axis=1, kind="stable")[:, :5]
    return (allowed[order][:, :, None] == targets[:, None, :]).any(axis=2)

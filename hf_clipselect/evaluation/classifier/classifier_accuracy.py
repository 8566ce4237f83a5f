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
    allowed = np.arange(logits.shape[1]) if classes is None else np.sort(classes)
    order = np.argsort(-logits[:, allowed].astype(np.float64), axis=1, kind="stable")[:, :5]
    hits = (allowed[order][:, :, None] == targets[:, None, :]).any(axis=2)
    result = {"accuracy": float(hits[:, 0].mean())}
    if len(allowed) > 5:
        result["top_5_accuracy"] = float(hits.any(axis=1).mean())
    return result

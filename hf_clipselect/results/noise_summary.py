"""How wrong the labels of a scores table look: the entry `noise` of a report.

Legend: N rows, of which R could be read; C classes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Dataset

from ..scores.noise_model import LabelNoise, check_auto
from .scores_table import column_values


MAX_TRANSITIONS = 20


def has_noise_model(scores: Dataset) -> bool:
    """Whether a scores table has the columns that a noise model writes."""
    return {"label_error_probability", "clean_label"} <= set(scores.column_names)


def noise_summary(scores: Dataset, share_error: float | None = None) -> dict[str, Any] | None:
    """What the columns `label_error_probability` and `clean_label` say of all R rows that could be read.

    Args:
        scores (`Dataset`): The scores table of N rows, with or without a selection: it does not count.
        share_error (`float`, *optional*): Standard error of the share, which the table does not tell.

    Returns:
        `dict` or `None`: In plain JSON types, None where the table lacks the two columns or no row could be read:

        - estimated_share (`float`): Mean probability that a label is wrong, in [0, 1], lower is cleaner.
        - share_error (`float` or `None`): As given.
        - by_class (`dict[str, float]`): The same mean over the rows of each given class that has any, in the order of
          the classes.
        - transitions (`list[dict]`): How often a label is given where another class is the most probable one: `label`,
          `clean_label` (`str`) and `rows` (`int`), most frequent first, at most 20; ties go by the numbers of the
          classes.
    """
    if not has_noise_model(scores):
        return None
    readable = column_values(scores, "predicted_label") >= 0
    if not readable.any():
        return None
    names = scores.features["label"].names
    labels, clean = (column_values(scores, name)[readable] for name in ("label", "clean_label"))
    wrong = column_values(scores, "label_error_probability")[readable].astype(np.float64)
    rows = np.bincount(labels, minlength=len(names))
    sums = np.bincount(labels, weights=wrong, minlength=len(names))
    return {
        "estimated_share": float(wrong.mean()),
        "share_error": share_error,
        "by_class": {names[c]: float(sums[c] / rows[c]) for c in np.flatnonzero(rows).tolist()},
        "transitions": _transitions(labels, clean, names),
    }


def check_share(scores: Dataset, noise: Mapping[str, Any] | None) -> None:
    """Raise `InputError`, as a run does, where the size "auto" is asked for and the share of wrong labels is too
    uncertain for it, by the entry `noise` of a report; that of another program may not tell.
    """
    if noise is None or noise["share_error"] is None or not has_noise_model(scores):
        return
    wrong, clean = column_values(scores, "label_error_probability"), column_values(scores, "clean_label")
    check_auto(LabelNoise(wrong, clean, share=float(np.nanmean(wrong)), share_error=noise["share_error"]))


def _transitions(labels: np.ndarray, clean: np.ndarray, names: list[str]) -> list[dict[str, Any]]:
    differs = labels != clean
    pairs, counts = np.unique(labels[differs] * len(names) + clean[differs], return_counts=True)
    most = np.argsort(-counts, kind="stable")[:MAX_TRANSITIONS]
    return [
        {"label": names[pair // len(names)], "clean_label": names[pair % len(names)], "rows": count}
        for pair, count in zip(pairs[most].tolist(), counts[most].tolist(), strict=True)
    ]

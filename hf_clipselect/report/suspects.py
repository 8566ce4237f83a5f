"""The most likely wrong labels of a selection, with the class or caption that CLIP proposes."""

import numpy as np
import pyarrow as pa
from datasets import Dataset

from ..errors import InputError
from ..score_table import column_values
from .row_texts import Captions, row_texts


def pick_suspects(scores: Dataset, *, num: int | None = None, label: str | None = None) -> np.ndarray:
    """Pick the rows whose label is most likely wrong: another class or caption fits better, lowest margin first.

    Args:
        scores (`Dataset`): The scores table of N rows.
        num (`int`, *optional*): At most this many; by default all.
        label (`str`, *optional*): Only rows of this class, or cluster.

    Returns:
        `np.ndarray`: Row numbers of `scores`, int64. Ties break by row number; rows without scores are left out.

    Raises:
        InputError: There is no such class.
    """
    margin = column_values(scores, "margin")
    chosen = ~column_values(scores, "label_agrees") & np.isfinite(margin)
    if label is not None:
        names = scores.features["label"].names
        if label not in names:
            raise InputError(
                f"There is no class {label!r}; the classes are {', '.join(map(repr, names[:20]))}"
                f"{f' and {len(names) - 20} more' if len(names) > 20 else ''}."
            )
        chosen &= column_values(scores, "label") == names.index(label)
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(margin[rows], kind="stable")][:num]


def suspects_table(scores: Dataset, rows: np.ndarray, captions: Captions | None = None) -> pa.Table:
    """What is known about some rows, with class names or captions, for other programs and for people.

    Args:
        scores (`Dataset`): The scores table of N rows.
        rows (`np.ndarray`): Row numbers of `scores`, from [`pick_suspects`].
        captions (`Callable`, *optional*): As for [`row_texts`].

    Returns:
        `pa.Table`: source_index (int64), label and proposed_label (string), sas and margin (float32), and for each subset
            selected_<ratio> (bool), one row for each of `rows`, in their order.
    """
    kept = [name for name in scores.column_names if name.startswith("selected_")]
    columns = {name: column_values(scores, name)[rows] for name in ("source_index", "sas", "margin", *kept)}
    label, proposed = (pa.array(texts, pa.string()) for texts in row_texts(scores, rows, captions))
    index = columns.pop("source_index")
    return pa.table({"source_index": index, "label": label, "proposed_label": proposed, **columns})

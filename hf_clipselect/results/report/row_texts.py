"""The given and the proposed label of rows in words, to stand beside their images."""

from collections.abc import Callable, Sequence

import numpy as np
from datasets import Dataset

from ..scores_table import column_values


# source_index of rows -> their captions
Captions = Callable[[np.ndarray], Sequence[str]]


def captions_of(dataset: Dataset, column: str, source_index: np.ndarray | None = None) -> Captions:
    """Look up captions in the dataset that was selected from.

    Args:
        dataset (`Dataset`): The dataset, or the rows of it that were considered.
        column (`str`): Its text column.
        source_index (`np.ndarray`, *optional*): Of the rows of `dataset`, rising; default their row numbers.

    Returns:
        `Callable`: `source_index` of some rows -> their captions, as a list of strings.
    """
    texts = dataset.with_format(None).select_columns([column])

    def look_up(wanted: np.ndarray) -> list[str]:
        return texts[wanted if source_index is None else np.searchsorted(source_index, wanted)][column]

    return look_up


def row_texts(scores: Dataset, rows: np.ndarray, captions: Captions | None = None) -> tuple[list[str], list[str]]:
    """What a row is labelled, and what CLIP proposes instead.

    Args:
        scores (`Dataset`): The scores table of N rows.
        rows (`np.ndarray`): Row numbers of `scores`, of readable rows.
        captions (`Callable`, *optional*): From [`captions_of`]; without it rows with captions are called by their
            clusters.

    Returns:
        `tuple[list[str], list[str]]`: Names of classes or clusters, or captions: the given and the best one of each
        row.
    """
    if captions is not None and "better_caption" in scores.column_names:
        own, better = (column_values(scores, name)[rows] for name in ("source_index", "better_caption"))
        return list(captions(own)), list(captions(np.where(better < 0, own, better)))
    names = scores.features["label"].names
    given, best = (column_values(scores, name)[rows] for name in ("label", "predicted_label"))
    return [names[label] for label in given], [names[label] for label in best]

"""One row in words and numbers, for a page."""

from dataclasses import dataclass, field

import numpy as np

from .explored import Explored


# Columns in the words of a reader; others are called by their names.
WORDS = {
    "source_index": "row",
    "label": "label",
    "given_label": "label in the source",
    "group": "group",
    "predicted_label": "CLIP predicts",
    "label_agrees": "CLIP agrees",
    "clean_label": "most probable class",
    "label_error_probability": "label is wrong with probability",
    "sas": "alignment with the label (sas)",
    "margin": "margin to the next class",
    "ensemble": "ensemble score",
    "sds": "diversity in the class (sds)",
    "sas_quantile": "alignment, quantile in the class",
    "sds_quantile": "diversity, quantile in the class",
    "class_rank": "place in the order of its class",
    "duplicate_group": "near-duplicates, first row of them",
    "better_caption": "row of the caption that fits better",
    "must_keep": "must be kept",
    "must_drop": "must be dropped",
    "leak_of": "copy of reference row",
    "quality_issues": "quality",
    "reason": "reason",
}
# Of rows with captions, where clusters stand for classes.
_WORDS_OF_CAPTIONS = {
    "label": "cluster",
    "predicted_label": "cluster of the caption that fits best",
    "label_agrees": "its own caption fits best",
    "sas": "alignment with the caption (sas)",
    "margin": "margin to another caption",
    "sds": "diversity in the cluster (sds)",
    "sas_quantile": "alignment, quantile in the cluster",
    "sds_quantile": "diversity, quantile in the cluster",
}


@dataclass(frozen=True)
class RowView:
    """What a page shows of a row.

    `given` is its label in the source, and `label` the one after the decisions that the selection was made with. Of a
    row with captions `given`, `label` and `proposed` are these, in full.
    """

    source_index: int
    given: str
    label: str
    proposed: str
    probability: float | None
    reason: str
    kept: bool
    values: list[tuple[str, str]] = field(default_factory=list)


def views_of(explored: Explored, rows: np.ndarray, *, with_values: bool = False) -> list[RowView]:
    """What is shown of some rows, in their order; with all columns as texts for `with_values`."""
    if explored.has_captions:
        texts = [(own, own, better) for own, better in explored.captions(rows)]
    else:
        columns = (column[rows].tolist() for column in (explored.given, explored.labels, explored.proposed))
        texts = list(zip(*(map(explored.name_of, column) for column in columns), strict=True))
    kept = explored.column(f"selected_{explored.sizes[0]}")[rows]
    wrong = explored.column("label_error_probability")[rows] if explored.has_noise_model else None
    return [
        RowView(
            source_index=int(explored.source_index[row]),
            given=given,
            label=label,
            proposed=proposed,
            probability=None if wrong is None or np.isnan(wrong[place]) else float(wrong[place]),
            reason=explored.column("reason")[row],
            kept=bool(kept[place]),
            values=_values(explored, int(row)) if with_values else [],
        )
        for place, (row, (given, label, proposed)) in enumerate(zip(rows, texts, strict=True))
    ]


def view_of(explored: Explored, row: int) -> RowView:
    return views_of(explored, np.array([row]), with_values=True)[0]


def column_words(explored: Explored, name: str) -> str:
    """A column in the words of a reader."""
    if name.startswith("selected_"):
        return f"kept in the subset of {size_words(name.removeprefix('selected_'))}"
    if name.startswith("selection_score_"):
        return f"score for the subset of {size_words(name.removeprefix('selection_score_'))}"
    words = WORDS | _WORDS_OF_CAPTIONS if explored.has_captions else WORDS
    return words.get(name, name)


def size_words(suffix: str) -> str:
    """`30` -> 30 %, `12_5` -> 12.5 %, `auto` -> auto, `count_500` -> 500 rows."""
    if suffix.startswith("count_"):
        return f"{int(suffix.removeprefix('count_')):,} rows"
    return suffix if suffix == "auto" else f"{suffix.replace('_', '.')} %"


def text_of(explored: Explored, name: str, row: int) -> str:
    """A cell of the table as a text; empty where the row has no value."""
    value = explored.column(name)[row]
    if name in ("label", "given_label", "predicted_label", "clean_label"):
        return explored.name_of(int(value))
    if isinstance(value, np.bool_):
        return "yes" if value else "no"
    if isinstance(value, np.floating):
        return "" if np.isnan(value) else f"{value:.4f}"
    if isinstance(value, np.integer):
        return "" if value < 0 else str(value)
    return "" if value is None else str(value)


def _values(explored: Explored, row: int) -> list[tuple[str, str]]:
    texts = [(column_words(explored, name), text_of(explored, name, row)) for name in explored.scores.column_names]
    return [(name, text) for name, text in texts if text]

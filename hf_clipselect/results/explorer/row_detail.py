"""One row enlarged, with all its scores, its near-duplicates side by side, and the reference row that it copies."""

import numpy as np

from .examples import examples_of
from .explored import Explored
from .panels import panel, serial
from .row_view import view_of, views_of


MOST_DUPLICATES = 24


def duplicates_of(explored: Explored, row: int) -> np.ndarray:
    """The rows that look the same, the row itself among them, int64; none where there are none."""
    group = explored.column("duplicate_group")
    return np.flatnonzero(group == group[row]) if group[row] >= 0 else np.empty(0, dtype=np.int64)


def detail(explored: Explored, row: int) -> str:
    """What lies over the page when a row is clicked, as HTML."""
    view, strips = view_of(explored, row), []
    copies = duplicates_of(explored, row)
    if len(copies):
        more = f", {MOST_DUPLICATES} of {len(copies):,}" if len(copies) > MOST_DUPLICATES else ""
        strips.append((f"Near-duplicates, this row among them{more}", copies[:MOST_DUPLICATES]))
    nearest = examples_of(explored, row)
    if nearest.are_nearest:
        strips.append((nearest.words, nearest.rows))
    shown = [
        (title, views_of(explored, rows), explored.images.thumbnails(explored.source_index[rows]))
        for title, rows in strips
    ]
    image = explored.images.large(view.source_index)
    return panel("detail", view, image, shown, _copied(explored, row), explored.has_captions, serial())


def _copied(explored: Explored, row: int) -> tuple[str, str | None, str] | None:
    """The row of the reference that a row is a copy of: in words, its image, and why there is none."""
    if not explored.has("leak_of") or explored.column("leak_of")[row] < 0:
        return None
    number = int(explored.column("leak_of")[row])
    name = (explored.result.report.get("leaks") or {}).get("reference", "the reference")
    image = explored.reference.large(number)
    return f"Row {number} of {name}, which it copies", image, explored.reference.missing

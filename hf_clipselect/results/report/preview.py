"""The picture of a dataset card: rows that a subset keeps, and those that it keeps although their label looks wrong.

It shows rows of the subset alone, whose images are published beside it: of the others no image may be given on.
"""

import io

import numpy as np
from datasets import Dataset
from PIL import Image, ImageDraw

from ...data.source import DatasetSource
from ..scores_table import column_values
from .grid import PICTURE_SIDE, draw_tiles, heading_font, name_lines, suspect_lines
from .suspects import captions_of, pick_suspects
from .thumbnails import small_images


_COLUMNS = 5
_NUM_KEPT, _NUM_SUSPECT = 10, 5
MAX_IN_PREVIEW = _NUM_KEPT + _NUM_SUSPECT
_HEADING = 34
_MOST_BYTES = 300_000
_QUALITIES = (88, 75, 60, 40, 20)


def draw_preview(scores: Dataset, subset: Dataset, source: DatasetSource, suffix: str) -> bytes:
    """Draw ten rows that a subset keeps first, of as many classes as there are, and at most five suspects among its
    rows.

    Args:
        scores (`Dataset`): The scores table, with `selected_<suffix>` and `selection_score_<suffix>`.
        subset (`Dataset`): The kept rows, at least one, in the order of the table, with their images and labels.
        source (`DatasetSource`):
            Names the column of the images, and that of the labels, or captions where the table has `better_caption`.
        suffix (`str`): That of the columns of the subset.

    Returns:
        `bytes`: A JPEG of at most 300 kB; the same for the same rows.
    """
    kept = np.flatnonzero(column_values(scores, f"selected_{suffix}"))
    first = _first_of_each_class(scores, kept, suffix)
    suspects = pick_suspects(scores)
    suspects = suspects[np.isin(suspects, kept)][:_NUM_SUSPECT]
    shown = np.concatenate([first, suspects])
    places = np.searchsorted(kept, shown)
    images = small_images(subset, source.image_column, places, max_side=PICTURE_SIDE)
    captions = None
    if "better_caption" in scores.column_names:
        captions = dict(zip(shown.tolist(), captions_of(subset, source.label_column)(places), strict=True))
    parts = []
    for heading, rows in (("Kept first", first), ("Kept, though the label looks wrong", suspects)):
        if len(rows):
            lines = _lines(scores, rows, captions, suspect=rows is suspects)
            tiles = draw_tiles([images[int(place)] for place in np.searchsorted(kept, rows)], lines, columns=_COLUMNS)
            parts.append((heading, tiles))
    return _as_jpeg(_stacked(parts))


def _first_of_each_class(scores: Dataset, kept: np.ndarray, suffix: str) -> np.ndarray:
    """Of classes spread over all of them, in their order, the kept rows of the highest scores, class by class."""
    labels, score = column_values(scores, "label")[kept], column_values(scores, f"selection_score_{suffix}")[kept]
    classes = np.unique(labels)
    classes = classes[np.unique(np.linspace(0, len(classes) - 1, _NUM_KEPT).astype(np.int64))]
    order = np.lexsort((-score, labels))
    order = order[np.isin(labels[order], classes)]
    by_class = labels[order]
    rank = np.arange(len(order)) - np.searchsorted(by_class, by_class)
    chosen = np.lexsort((by_class, rank))[:_NUM_KEPT]
    return kept[order[chosen]]


def _lines(
    scores: Dataset, rows: np.ndarray, captions: dict[int, str] | None, *, suspect: bool
) -> list[list[tuple[str, str, str]]]:
    if suspect and captions is None:
        return suspect_lines(scores, rows, None)
    labels, names = column_values(scores, "label")[rows], scores.features["label"].names
    # What a caption is compared with may be that of a row that is not published.
    texts = [names[label] for label in labels] if captions is None else [captions[int(row)] for row in rows]
    return [name_lines(text, otherwise=f"class {label}") for text, label in zip(texts, labels, strict=True)]


def _stacked(parts: list[tuple[str, Image.Image]]) -> Image.Image:
    width, height = max(tiles.width for _, tiles in parts), sum(_HEADING + tiles.height for _, tiles in parts)
    picture, top = Image.new("RGB", (width, height), "#ffffff"), 0
    draw = ImageDraw.Draw(picture)
    for heading, tiles in parts:
        draw.text((10, top + _HEADING // 2 + 4), heading, fill="#1b1b1b", font=heading_font(), anchor="lm")
        picture.paste(tiles, (0, top + _HEADING))
        top += _HEADING + tiles.height
    return picture


def _as_jpeg(picture: Image.Image) -> bytes:
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        picture.save(buffer, format="jpeg", quality=quality, subsampling=0)
        if buffer.tell() <= _MOST_BYTES:
            break
    return buffer.getvalue()

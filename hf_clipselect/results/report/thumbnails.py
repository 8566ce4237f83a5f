"""Which rows the page shows, and their images made small."""

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, Image
from PIL import Image as PILImage

from ...encoder.bit_depth import white_level
from ...encoder.images import UnreadableImageError, open_image
from ..scores_table import column_values
from .suspects import pick_suspects


NUM_SHOWN = 24
MAX_SIDE = 96


def pick_rows(scores: Dataset, suffix: str) -> dict[str, np.ndarray]:
    """Row numbers worth looking at, at most 24 of each kind; ties break by row number.

    `best` and `cut` are kept, of the highest and lowest selection score; `dropped` are spread evenly from just below
    the cut to the lowest score; `suspect` are those whose label [`pick_suspects`] doubts, lowest margin first.
    """
    score = column_values(scores, f"selection_score_{suffix}")
    kept = column_values(scores, f"selected_{suffix}")
    dropped_rows = _descending(score, ~kept & np.isfinite(score))
    spread = np.linspace(0, len(dropped_rows) - 1, min(NUM_SHOWN, len(dropped_rows))).astype(np.int64)
    return {
        "best": _descending(score, kept & np.isfinite(score))[:NUM_SHOWN],
        "cut": _descending(-score, kept & np.isfinite(score))[:NUM_SHOWN],
        "dropped": dropped_rows[spread],
        "suspect": pick_suspects(scores, num=NUM_SHOWN),
    }


def make_thumbnails(dataset: Dataset, image_column: str, rows: Iterable[int]) -> dict[int, str | None]:
    """As [`small_images`] of at most 96 pixels a side, each as a data URI."""
    return {
        row: None if image is None else _data_uri(image, "jpeg" if is_reduced else "png")
        for row, (image, is_reduced) in _open_small(dataset, image_column, rows, MAX_SIDE)
    }


def small_images(
    dataset: Dataset, image_column: str, rows: Iterable[int], *, max_side: int
) -> dict[int, PILImage.Image | None]:
    """Decode only these rows, in any order, and make them small: RGB images of at most `max_side` pixels a side.

    One that can't be read is None.
    """
    return {row: image for row, (image, _) in _open_small(dataset, image_column, rows, max_side)}


def _open_small(
    dataset: Dataset, image_column: str, rows: Iterable[int], max_side: int
) -> Iterator[tuple[int, tuple[PILImage.Image | None, bool]]]:
    rows = sorted({int(row) for row in rows})
    undecoded = dataset.with_format(None).select_columns([image_column]).cast_column(image_column, Image(decode=False))
    white = white_level(undecoded, image_column) if rows else 0
    for row, value in zip(rows, undecoded[rows][image_column], strict=True):
        yield row, _small(value, max_side, white)


def _descending(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(-values[rows], kind="stable")]


def _small(value: Any, max_side: int, white: int) -> tuple[PILImage.Image | None, bool]:
    """The image, and whether pixels of it were lost: PNG for photographs would make the page several times larger."""
    try:
        image = open_image(value, white=white)
    except UnreadableImageError:
        return None, False
    longer = max(image.size)
    if longer > max_side:
        return image.resize(_scaled(image.size, max_side / longer), PILImage.Resampling.LANCZOS), True
    # A whole factor keeps all pixels of a small image the same size.
    return image.resize(_scaled(image.size, max_side // longer), PILImage.Resampling.NEAREST), False


def _scaled(size: Sequence[int], factor: float) -> tuple[int, int]:
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _data_uri(image: PILImage.Image, kind: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"

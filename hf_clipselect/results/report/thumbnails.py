"""Images of single rows, made small."""

import base64
import io
from collections.abc import Iterable, Sequence
from typing import Any

from datasets import Dataset, Image
from PIL import Image as PILImage

from ...encoder.bit_depth import white_level
from ...encoder.images import UnreadableImageError, open_image


MAX_SIDE = 96


def make_thumbnails(
    dataset: Dataset, image_column: str, rows: Iterable[int], *, max_side: int = MAX_SIDE, white: int | None = None
) -> dict[int, str | None]:
    """As [`small_images`], each as a data URI."""
    return {
        row: None if image is None else _data_uri(image)
        for row, image in small_images(dataset, image_column, rows, max_side=max_side, white=white).items()
    }


def small_images(
    dataset: Dataset, image_column: str, rows: Iterable[int], *, max_side: int, white: int | None = None
) -> dict[int, PILImage.Image | None]:
    """Decode only these rows, in any order, and make them small: RGB images of at most `max_side` pixels a side.

    One that can't be read is None. `white` is [`white_of`] the dataset, where it is known already.
    """
    rows = sorted({int(row) for row in rows})
    if not rows:
        return {}
    undecoded = _undecoded(dataset, image_column)
    white = white_level(undecoded, image_column) if white is None else white
    return {
        row: _small(value, max_side, white) for row, value in zip(rows, undecoded[rows][image_column], strict=True)
    }


def white_of(dataset: Dataset, image_column: str) -> int:
    """The value that is white in the images of a dataset, which reads some of them."""
    return white_level(_undecoded(dataset, image_column), image_column)


def _undecoded(dataset: Dataset, image_column: str) -> Dataset:
    return dataset.with_format(None).select_columns([image_column]).cast_column(image_column, Image(decode=False))


def _small(value: Any, max_side: int, white: int) -> PILImage.Image | None:
    try:
        image = open_image(value, white=white)
    except UnreadableImageError:
        return None
    longer = max(image.size)
    if longer > max_side:
        return image.resize(_scaled(image.size, max_side / longer), PILImage.Resampling.LANCZOS)
    # A whole factor keeps all pixels of a small image the same size.
    return image.resize(_scaled(image.size, max_side // longer), PILImage.Resampling.NEAREST)


def _scaled(size: Sequence[int], factor: float) -> tuple[int, int]:
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _data_uri(image: PILImage.Image) -> str:
    """PNG, which loses nothing, where it is the shorter one: photographs would make the page several times larger."""
    found = []
    for kind in ("png", "jpeg"):
        buffer = io.BytesIO()
        image.save(buffer, format=kind, quality=80)
        found.append((len(buffer.getvalue()), kind, buffer.getvalue()))
    _, kind, content = min(found)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"

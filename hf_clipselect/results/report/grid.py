"""Suspect rows as one picture: each image with its given label, what is proposed, how wrong it is and its number."""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from datasets import Dataset
from PIL import Image, ImageDraw, ImageFont

from ..noise_summary import has_noise_model
from ..scores_table import column_values
from .figures import can_draw
from .suspects import Captions, proposals


# A text, its colour and its weight.
Line = tuple[str, str, str]

GRID_COLUMNS = 8
PICTURE_SIDE = 144
_TILE_WIDTH = 184
_PADDING = 10
_FONT_SIZE = 13
_HEADING_SIZE = 16
_LINE = 17
_NAME_LINES = 2
_INK, _SOFT, _PAGE, _BOX = "#1b1b1b", "#595959", "#ffffff", "#f6f6f4"


def draw_grid(
    scores: Dataset,
    rows: np.ndarray,
    images: Mapping[int, Image.Image | None],
    captions: Captions | None = None,
) -> Image.Image:
    """Draw some rows, at least one, eight side by side, each with its texts as [`proposals`] gives them.

    The images, by source_index, have at most 144 pixels a side; None stands for one that can't be read. The picture is
    RGB, and 1,560 pixels wide for eight rows and more.
    """
    source_index = column_values(scores, "source_index")[rows]
    return draw_tiles([images[int(index)] for index in source_index], suspect_lines(scores, rows, captions))


def draw_tiles(
    images: Sequence[Image.Image | None], texts: Sequence[Sequence[Line]], *, columns: int = GRID_COLUMNS
) -> Image.Image:
    """Draw images, at least one, of at most 144 pixels a side, side by side, each with its lines below it."""
    height = PICTURE_SIDE + 3 * _PADDING + _LINE * max(map(len, texts))
    columns = min(columns, len(images))
    lines = -(-len(images) // columns)
    across, down = _TILE_WIDTH + _PADDING, height + _PADDING
    picture = Image.new("RGB", (columns * across + _PADDING, lines * down + _PADDING), _PAGE)
    draw = ImageDraw.Draw(picture)
    for place, (image, lines_of_row) in enumerate(zip(images, texts, strict=True)):
        left, top = _PADDING + place % columns * across, _PADDING + place // columns * down
        draw.rectangle((left, top, left + _TILE_WIDTH - 1, top + height - 1), fill=_BOX)
        _draw_image(picture, draw, image, left + _TILE_WIDTH // 2, top + _PADDING + PICTURE_SIDE // 2)
        for number, (text, color, weight) in enumerate(lines_of_row):
            place_of_line = left + _PADDING, top + PICTURE_SIDE + 2 * _PADDING + number * _LINE
            draw.text(place_of_line, text, fill=color, font=_font(weight))
    return picture


def suspect_lines(scores: Dataset, rows: np.ndarray, captions: Captions | None) -> list[list[Line]]:
    """For each row its number, how wrong its label is, the label and what is proposed."""
    of_model = has_noise_model(scores)
    measure, clean = ("label_error_probability", "clean_label") if of_model else ("margin", "predicted_label")
    columns = [column_values(scores, name)[rows] for name in ("source_index", "label", clean, measure)]
    texts = []
    for index, label, proposed, value, given, best in zip(*columns, *proposals(scores, rows, captions), strict=True):
        how_wrong = f"{value:.2f} wrong" if of_model else f"margin {value:.3f}"
        lines = [(f"row {index}", _SOFT, "normal"), (how_wrong, _SOFT, "normal")]
        said = "looks like" if of_model else "CLIP says"
        for word, name, number, weight in (("label", given, label, "normal"), (said, best, proposed, "bold")):
            lines.append((word, _SOFT, "normal"))
            lines += name_lines(name, otherwise=f"class {number}", weight=weight)
        texts.append(lines)
    return texts


def name_lines(name: str, *, otherwise: str, weight: str = "normal") -> list[Line]:
    """A name in at most two lines; `otherwise` where the font has no signs for it."""
    name = name if can_draw(name) else otherwise
    return [(line, _INK, weight) for line in _wrap(name, _font(weight), _TILE_WIDTH - 2 * _PADDING)]


def _draw_image(picture: Image.Image, draw: ImageDraw.ImageDraw, image: Image.Image | None, x: int, y: int) -> None:
    if image is None:
        draw.text((x, y), "can't be read", fill=_SOFT, font=_font(), anchor="mm")
    else:
        picture.paste(image, (x - image.width // 2, y - image.height // 2))


def _wrap(name: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The name in at most two lines, broken after a space or underscore where there is one, and shortened."""
    lines: list[str] = []
    name = " ".join(name.split())[:200]  # more than two lines hold, and little to measure
    while name and len(lines) < _NAME_LINES:
        fits = next(end for end in range(len(name), 0, -1) if end == 1 or font.getlength(name[:end]) <= width)
        if fits < len(name) and len(lines) == _NAME_LINES - 1:
            while fits > 1 and font.getlength(name[:fits] + "\N{HORIZONTAL ELLIPSIS}") > width:
                fits -= 1
            lines.append(name[:fits] + "\N{HORIZONTAL ELLIPSIS}")
            break
        if fits < len(name):
            fits = max((end for end in range(1, fits + 1) if name[end - 1] in " _-"), default=fits)
        lines.append(name[:fits].rstrip())
        name = name[fits:].lstrip()
    return lines


def heading_font() -> ImageFont.FreeTypeFont:
    """The font of a line above a picture."""
    return _font("bold", _HEADING_SIZE)


@cache
def _font(weight: str = "normal", size: int = _FONT_SIZE) -> ImageFont.FreeTypeFont:
    from matplotlib.font_manager import FontProperties, findfont

    return ImageFont.truetype(findfont(FontProperties(family="DejaVu Sans", weight=weight)), size)

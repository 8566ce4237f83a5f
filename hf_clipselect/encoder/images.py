"""Turns any image of a dataset into upright 8-bit RGB, with PIL alone, so that DataLoader workers can run it."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from ..errors import InputError
from ..runtime.failures import is_of_the_machine
from ..runtime.files import read_plain_file
from ..runtime.words import cut, in_one_line


# White in 16-bit grey images that use all bits.
FULL_WHITE = 65535

# Letters of a path in a message.
_LONGEST_SHOWN = 300
# What turns an image upright, by its EXIF orientation. `PIL.ImageOps.exif_transpose` also rewrites the EXIF block,
# which fails on odd blocks of sound images.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImageError(InputError):
    """An image that cannot be decoded. The message says in one line why, and of which file where that is known."""


def open_image(
    source: dict[str, Any] | bytes | Image.Image,
    *,
    white: int = FULL_WHITE,
    draft: Callable[[Image.Image], Image.Image] | None = None,
) -> Image.Image:
    """Decode an image in full: a new PIL image, upright, of mode RGB, without metadata.

    The EXIF orientation is applied; an EXIF block that can't be parsed is ignored. The first of several frames is
    taken. Modes are converted as by [`to_rgb`]; `white` is that of 16-bit grey images, as `white_level` finds it for a
    dataset.

    `source` is a value of a `datasets.Image(decode=False)` column (`{"bytes": ..., "path": ...}`; the path is read
    only where there are no bytes), an encoded image, or a PIL image, which is not modified. `draft` gets an encoded
    one opened and not decoded, to decode a smaller one instead if it can.

    Raises `UnreadableImageError` where there is no image in it, the file is missing or no plain file, or PIL can't
    decode it whole: it is no image, truncated, or so large that PIL takes it for a decompression bomb.
    """
    try:
        if isinstance(source, Image.Image):
            image = source
        else:
            image = Image.open(io.BytesIO(_read_bytes(source)))
            image = image if draft is None else draft(image)
        # PIL decodes lazily: without this a truncated file would pass until its pixels are used.
        image.load()
        rgb = to_rgb(_upright(image), white=white)
    except UnidentifiedImageError as error:
        raise _unreadable(source, "not an image in a format that PIL knows") from error
    except Exception as error:  # PIL's decoders raise anything from OSError to SyntaxError
        if is_of_the_machine(error):
            raise  # it says nothing about the image
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise _unreadable(source, reason) from error
    rgb.info.clear()  # the EXIF block would turn the image a second time
    return rgb


def largest_wide_grey(source: dict[str, Any]) -> int:
    """The largest value of a grey image of more than 8 bits; 0 for all others, which are not decoded."""
    try:
        image = Image.open(io.BytesIO(_read_bytes(source)))
        return int(np.asarray(image).max()) if image.mode.startswith("I") else 0
    except Exception as error:  # as `open_image` meets them
        if is_of_the_machine(error):
            raise
        return 0


def to_rgb(image: Image.Image, *, white: int = FULL_WHITE) -> Image.Image:
    """A new image of mode RGB and the same size, of one of any mode that PIL converts.

    Transparency, of a channel, a palette or a single colour, is composited over white. Grey values of more than 8 bits
    are scaled, not clipped: 16-bit modes from [0, white], or from [0, 65535] where an image exceeds that; integer (I)
    and float (F) modes from the smallest usual range that holds all values of the image ([0, 1] for F only, [0, 255]
    or, for I, [0, white], then [0, 65535]), else from their minimum and maximum. Raises `ValueError` where values of a
    float image are not finite, or PIL knows no conversion from the mode.
    """
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = _grey_to_8_bits(image, white)
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.new("RGBA", rgba.size, "white")
        image.alpha_composite(rgba)
    return image.convert("RGB")


def _grey_to_8_bits(image: Image.Image, white: int) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("the image holds values that are not finite")
    tops = [white, FULL_WHITE]
    if image.mode == "F":
        tops = [1, 255, FULL_WHITE]
    elif image.mode == "I" and white == FULL_WHITE:
        tops = [255, FULL_WHITE]
    low, high = float(values.min()), float(values.max())
    top = next((float(top) for top in tops if low >= 0 and high <= top), None)
    low, high = (low, max(high, low + 1.0)) if top is None else (0.0, top)
    return Image.fromarray(np.floor((values - low) * 255.0 / (high - low) + 0.5).astype(np.uint8))


def is_turned(image: Image.Image) -> bool:
    """Whether width and height of an image change places when it is turned upright."""
    return _orientation(image) in (5, 6, 7, 8)


def _upright(image: Image.Image) -> Image.Image:
    orientation = _orientation(image)
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # a broken EXIF block raises anything, and the pixels may be whole
        return None


def _read_bytes(source: dict[str, Any] | bytes) -> bytes:
    if isinstance(source, dict):
        if source.get("bytes") is None and source.get("path") is None:
            raise ValueError("neither bytes nor a path is given")
        source = read_plain_file(source["path"]) if source.get("bytes") is None else source["bytes"]
    if not isinstance(source, bytes):
        raise TypeError(f"expected a dictionary with bytes or path, bytes or a PIL image, got {type(source).__name__}")
    if not source:
        raise ValueError("there are no bytes")
    return source


def _unreadable(source: object, reason: str) -> UnreadableImageError:
    path = source.get("path") if isinstance(source, dict) else None
    name = f"image {cut(str(path), _LONGEST_SHOWN)}" if path else "image"
    return UnreadableImageError(f"Cannot read {name}: {in_one_line(reason).rstrip('.')}.")

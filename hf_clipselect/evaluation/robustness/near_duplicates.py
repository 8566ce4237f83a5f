"""Near-duplicates in a known number: rows again, with images that look the same."""

from typing import Any

import numpy as np
from datasets import Dataset, Value, concatenate_datasets
from PIL import Image as PILImage
from PIL import ImageEnhance

from ...config.checks import check_seed
from ...errors import InputError
from ...selection.counts import round_half_up
from .image_rows import check_column_is_free, check_image_column, decoded_image, eight_bit_image, with_changed_images


DUPLICATE_OF_COLUMN = "duplicate_of"
NO_DUPLICATE = -1

# At most a tenth of each side is cut away, and the brightness changes by at most a tenth.
_LEAST_SIDE, _BRIGHTNESS = 0.9, 0.1


def near_duplicate(image: PILImage.Image, *, rng: np.random.Generator) -> PILImage.Image:
    """An image that a person takes for the same: cropped a little, enlarged again, a little darker or brighter.

    Args:
        image (`PIL.Image.Image`): An image of 8 bits. L and RGB stay what they are, every other mode becomes RGB.
        rng (`np.random.Generator`): Draws how much is cut away (at most a tenth of each side), where, and the
            brightness.

    Returns:
        `PIL.Image.Image`: A new image of the same size.

    Raises:
        InputError: The image has more than 8 bits.
    """
    image = eight_bit_image(image)
    kept = rng.uniform(_LEAST_SIDE, 1, size=2) * image.size
    left, top = rng.uniform(0, 1, size=2) * (image.size - kept)
    box = (left, top, min(left + kept[0], image.width), min(top + kept[1], image.height))
    cropped = image.resize(image.size, PILImage.Resampling.BICUBIC, box=box)
    return ImageEnhance.Brightness(cropped).enhance(rng.uniform(1 - _BRIGHTNESS, 1 + _BRIGHTNESS))


def add_near_duplicates(dataset: Dataset, *, image_column: str = "image", rate: float, seed: int) -> Dataset:
    """Append near-duplicates of a fraction of the rows of a dataset.

    Exactly `floor(rate * N + 0.5)` rows are appended, with the rate taken as written in decimals, each the
    [`near_duplicate`] of another row. All other columns are copied, so whether wrong labels come twice depends on what
    is done first. Which rows, and what becomes of each, is drawn with the seed; a higher rate duplicates further rows,
    and those of a lower one the same way.

    Args:
        dataset (`Dataset`): A split with an image column.
        image_column (`str`, *optional*, defaults to `"image"`): Its name.
        rate (`float`): Rows to append, as a fraction of those there are, in `[0, 1]`.
        seed (`int`): Seed of the draw, 0 or more.

    Returns:
        `Dataset`: The rows as they were, then the duplicates, with a last column `duplicate_of` (int64): the row
        number of the original, or -1 where the row is no duplicate.

    Raises:
        InputError: The rate or the seed is out of range, the column holds no images, the dataset has a column
            `duplicate_of`, or an image that was drawn cannot be decoded.
    """
    check_image_column(dataset, image_column)
    check_column_is_free(dataset, DUPLICATE_OF_COLUMN, "of which row each one is a duplicate")
    check_seed(seed)
    if not 0 <= rate <= 1:
        raise InputError(f"rate is the fraction of rows to duplicate and must lie in [0, 1], got {rate}.")
    # A stream of its own: with the seed alone, the rows with wrong labels would be those that are duplicated.
    rows = np.random.default_rng([seed, 4]).permutation(len(dataset))[: round_half_up(rate, len(dataset))]
    originals = dataset.with_format(None).add_column(
        DUPLICATE_OF_COLUMN, np.full(len(dataset), NO_DUPLICATE), feature=Value("int64")
    )
    if len(rows) == 0:
        return originals
    copies = with_changed_images(
        originals, rows, _duplicate_row, image_column=image_column, desc="Duplicating images", seed=seed
    )
    return concatenate_datasets([originals, copies])


def _duplicate_row(
    row: dict[str, Any], index: int, *, image_column: str, rows: np.ndarray, seed: int
) -> dict[str, Any]:
    original = int(rows[index])
    image = decoded_image(row, image_column, original, before="rows are duplicated")
    rng = np.random.default_rng([seed, 5, original])
    return {image_column: near_duplicate(image, rng=rng), DUPLICATE_OF_COLUMN: original}

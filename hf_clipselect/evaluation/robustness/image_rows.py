"""What all that changes images or labels of a dataset checks first."""

from collections.abc import Callable
from typing import Any

import numpy as np
from datasets import Dataset, Image
from PIL import Image as PILImage

from ...errors import InputError


# Grey levels wider than 8 bits, whose range depends on the source.
_WIDE_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def check_image_column(dataset: Dataset, image_column: str) -> None:
    """Refuse a column that holds no images."""
    if not isinstance(dataset.features.get(image_column), Image):
        images = [column for column, feature in dataset.features.items() if isinstance(feature, Image)]
        raise InputError(
            f"{image_column!r} is not an image column of the dataset; choose image_column from: "
            f"{', '.join(images) or 'none'} (all columns: {', '.join(dataset.column_names)}; "
            "dataset.cast_column(column, datasets.Image()) makes one)."
        )


def check_column_is_free(dataset: Dataset, column: str, tells: str) -> None:
    """Refuse a dataset that has a column of that name, which would tell something else."""
    if column in dataset.column_names:
        raise InputError(
            f"The dataset has a column {column!r}, which tells {tells}; rename it with dataset.rename_column, or "
            "start from the dataset as it was before."
        )


def with_changed_images(
    dataset: Dataset,
    rows: np.ndarray,
    change: Callable[..., dict[str, Any]],
    *,
    image_column: str,
    desc: str,
    **settings: Any,
) -> Dataset:
    """Some rows of a dataset with their images changed; `map`, which writes every row anew, sees only these.

    Args:
        dataset (`Dataset`): With an image column.
        rows (`np.ndarray` of shape `(count,)`): Row numbers, at least one.
        change (`Callable`): Gets a row, its place in `rows`, and as keywords `image_column`, `rows` and the settings.
        image_column (`str`): Column of the images.
        desc (`str`): Title of the progress bar.
        **settings: Passed on.

    Returns:
        `Dataset`: The rows in the order of `rows`, with the features of the dataset.
    """
    feature = dataset.features[image_column]
    some = dataset.select(rows).cast_column(image_column, Image(mode=feature.mode))
    changed = some.map(
        change,
        with_indices=True,
        features=some.features,
        fn_kwargs={"image_column": image_column, "rows": rows, **settings},
        desc=desc,
    )
    return changed.cast_column(image_column, feature)


def decoded_image(row: dict[str, Any], image_column: str, source_row: int, *, before: str) -> PILImage.Image:
    """The image of a row, with an error that names the row.

    Args:
        row (`dict`): The row, which decodes its image when it is read.
        image_column (`str`): Column of the image.
        source_row (`int`): Number of the row in the dataset as it was passed.
        before (`str`): What comes next, for the error: "images are corrupted".

    Returns:
        `PIL.Image.Image`

    Raises:
        InputError: There is no image, or it can't be decoded.
    """
    try:
        image = row[image_column]
    except (OSError, SyntaxError, ValueError) as error:  # what PIL's decoders raise
        raise InputError(
            f"The image of row {source_row} cannot be decoded ({error}); mend it, or remove the row, before {before}."
        ) from error
    if image is None:
        raise InputError(f"Row {source_row} has no image in column {image_column!r}; remove it before {before}.")
    return image


def eight_bit_image(image: PILImage.Image) -> PILImage.Image:
    """The image in mode L or RGB, which other modes become; one of more than 8 bits is refused."""
    if image.mode in _WIDE_MODES:
        raise InputError(
            f"Images are changed at 8 bits, got one of mode {image.mode}; scale it to L (grey) or RGB first."
        )
    return image if image.mode in ("L", "RGB") else image.convert("RGB")

"""Damaged images in a known number of rows: the five corruptions of the paper.

Section 4.4 of https://huggingface.co/papers/2410.11215 names them and points to Xia et al. (ICLR 2023,
https://openreview.net/forum?id=7D5EECbOaf9) for how they are made. Severity 5 is about what their code does to images
of 32 pixels, which few people still recognise; lower severities are milder, and 3 leaves most images recognisable. All
sizes are relative to the image, so that a severity means the same at 8 pixels as at 224. Where their code differs (a
constant added to the noise, an occlusion always at the same place and black, a motion always of 45 degrees) the
comments say so.

Shapes: H x W pixels, K channels (1 or 3), float32 in [0, 1].
"""

from typing import Any

import numpy as np
from datasets import Dataset, Value, concatenate_datasets
from PIL import Image as PILImage

from ...config.checks import check_seed
from ...errors import InputError
from ...selection.counts import round_half_up
from .image_rows import check_column_is_free, check_image_column, decoded_image, eight_bit_image, with_changed_images


CORRUPTION_COLUMN = "corruption"
NOT_CORRUPTED = "none"
SEVERITIES = (1, 2, 3, 4, 5)


def gaussian_noise(pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Add independent noise to every value: a standard deviation of the whole range at 5, half of it at 4, down to
    1/16 at 1.

    Args:
        pixels (`np.ndarray` of shape `(H, W, K)`): Float32 in [0, 1].
        severity (`int`): 1 to 5.
        rng (`np.random.Generator`): Draws the noise.

    Returns:
        `np.ndarray` of shape `(H, W, K)`: May leave [0, 1].
    """
    # Xia et al. also brighten by 0.2 and let values below 0 wrap around to white, which no camera does.
    return pixels + 2.0 ** (severity - 5) * rng.standard_normal(pixels.shape)


def occlusion(pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Cover 5 % of the area for each severity by a grey rectangle of the image's proportions, anywhere inside it.

    Args:
        pixels (`np.ndarray` of shape `(H, W, K)`): Float32 in [0, 1].
        severity (`int`): 1 to 5.
        rng (`np.random.Generator`): Draws the place.

    Returns:
        `np.ndarray` of shape `(H, W, K)`
    """
    sides = [max(1, round(side * (0.05 * severity) ** 0.5)) for side in pixels.shape[:2]]
    top, left = (rng.integers(0, side - covered + 1) for side, covered in zip(pixels.shape[:2], sides, strict=True))
    covered = pixels.copy()
    # Black, as Xia et al. have it, does nothing to the background of a white digit.
    covered[top : top + sides[0], left : left + sides[1]] = 0.5
    return covered


def resolution(pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Shrink both sides to 85, 70, 55, 40 or 25 % and enlarge them again, bicubic.

    Args:
        pixels (`np.ndarray` of shape `(H, W, K)`): Float32 in [0, 1].
        severity (`int`): 1 to 5.
        rng (`np.random.Generator`): Not used; there is nothing to draw.

    Returns:
        `np.ndarray` of shape `(H, W, K)`: May leave [0, 1].
    """
    height, width = pixels.shape[:2]
    small = [max(1, round(side * (1 - 0.15 * severity))) for side in (height, width)]
    return _resize(_resize(pixels, *small), height, width)


def fog(pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Veil the image in uneven grey: `x * t + 0.5 * (1 - t)`, where `-log t` is 0.4 for each severity on average.

    Args:
        pixels (`np.ndarray` of shape `(H, W, K)`): Float32 in [0, 1].
        severity (`int`): 1 to 5.
        rng (`np.random.Generator`): Draws where the fog is thick (1.5 times the average) and where thin (half of it).

    Returns:
        `np.ndarray` of shape `(H, W, K)`
    """
    # Xia et al. make it thinner from the centre outwards, the same way in every image, and thicker in larger images.
    patches = rng.uniform(0.5, 1.5, size=(4, 4, 1)).astype(np.float32)
    transmission = np.exp(-0.4 * severity * _resize(patches, *pixels.shape[:2]))
    return pixels * transmission + 0.5 * (1 - transmission)


def motion_blur(pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Average along a straight line of any direction, 10 % of the shorter side long for each severity.

    Beyond the border the outermost pixels are repeated. The work grows with the length in pixels.

    Args:
        pixels (`np.ndarray` of shape `(H, W, K)`): Float32 in [0, 1].
        severity (`int`): 1 to 5.
        rng (`np.random.Generator`): Draws the direction.

    Returns:
        `np.ndarray` of shape `(H, W, K)`
    """
    height, width = pixels.shape[:2]
    kernel = _line_kernel(0.1 * severity * min(height, width), angle=rng.uniform(0, np.pi))
    reach = len(kernel) // 2
    padded = np.pad(pixels, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    blurred = np.zeros_like(pixels)
    for down, right in zip(*np.nonzero(kernel), strict=True):
        blurred += kernel[down, right] * padded[down : down + height, right : right + width]
    return blurred


CORRUPTIONS = {
    "gaussian_noise": gaussian_noise,
    "occlusion": occlusion,
    "resolution": resolution,
    "fog": fog,
    "motion_blur": motion_blur,
}


def corrupt_image(
    image: PILImage.Image, corruption: str, *, severity: int = 3, rng: np.random.Generator
) -> PILImage.Image:
    """Damage one image.

    Args:
        image (`PIL.Image.Image`):
            An image of 8 bits. L and RGB stay what they are, every other mode becomes RGB. It is not modified.
        corruption (`str`): `"gaussian_noise"`, `"occlusion"`, `"resolution"`, `"fog"` or `"motion_blur"`.
        severity (`int`, *optional*, defaults to 3): 1 (hardly visible) to 5 (hardly recognisable).
        rng (`np.random.Generator`): Draws whatever is random in it.

    Returns:
        `PIL.Image.Image`: A new image of the same size.

    Raises:
        InputError: The corruption or the severity is none of these, or the image has more than 8 bits.
    """
    _check_corruption(corruption, severity)
    kept = eight_bit_image(image)
    values = np.asarray(kept)
    pixels = values.reshape(kept.height, kept.width, -1).astype(np.float32) / 255
    damaged = CORRUPTIONS[corruption](pixels, severity, rng).clip(0, 1)
    return PILImage.fromarray(np.rint(damaged * 255).astype(np.uint8).reshape(values.shape))


def corrupt_images(
    dataset: Dataset,
    *,
    image_column: str = "image",
    rate: float,
    seed: int,
    corruption: str | None = None,
    severity: int = 3,
) -> Dataset:
    """Damage a fraction of the images of a dataset.

    Exactly `floor(rate * N + 0.5)` rows are damaged, with the rate taken as written in decimals. Which rows, and what
    happens to each, is drawn with the seed; a higher rate damages further rows and those of a lower one the same way.
    Damaged images are stored as PNG; the bytes of all others are neither decoded nor written anew.

    Args:
        dataset (`Dataset`): A split with an image column.
        image_column (`str`, *optional*, defaults to `"image"`): Its name.
        rate (`float`): Fraction of the images to damage, in `[0, 1]`.
        seed (`int`): Seed of the draw, 0 or more.
        corruption (`str`, *optional*): One of the names of [`corrupt_image`]; default all five in equal shares.
        severity (`int`, *optional*, defaults to 3): 1 (hardly visible) to 5 (hardly recognisable).

    Returns:
        `Dataset`: The same rows in the same order, with a last column `corruption`: the name of what was done to the
        image, or `"none"`.

    Raises:
        InputError: An argument is out of range, the column holds no images, the dataset has a column `corruption`, or
            an image that was drawn cannot be decoded.
    """
    check_image_column(dataset, image_column)
    check_column_is_free(dataset, CORRUPTION_COLUMN, "what was done to each image")
    check_seed(seed)
    if not 0 <= rate <= 1:
        raise InputError(f"rate is the fraction of images to damage and must lie in [0, 1], got {rate}.")
    names = list(CORRUPTIONS) if corruption is None else [corruption]
    for name in names:
        _check_corruption(name, severity)
    # Streams of their own: with the seed alone, label noise of the same seed would fall on the same rows.
    rng = np.random.default_rng([seed, 1])
    rows = rng.permutation(len(dataset))[: round_half_up(rate, len(dataset))]
    untouched = dataset.with_format(None).add_column(
        CORRUPTION_COLUMN, [NOT_CORRUPTED] * len(dataset), feature=Value("string")
    )
    if len(rows) == 0:
        return untouched
    damaged = with_changed_images(
        untouched,
        rows,
        _corrupt_row,
        image_column=image_column,
        desc="Corrupting images",
        names=names,
        severity=severity,
        seed=seed,
    )
    place = np.arange(len(dataset))
    place[rows] = len(dataset) + np.arange(len(rows))
    return concatenate_datasets([untouched, damaged]).select(place)


def _corrupt_row(
    row: dict[str, Any], index: int, *, image_column: str, rows: np.ndarray, names: list[str], severity: int, seed: int
) -> dict[str, Any]:
    source_row, name = int(rows[index]), names[index % len(names)]
    image = decoded_image(row, image_column, source_row, before="images are corrupted")
    rng = np.random.default_rng([seed, 2, source_row])
    return {image_column: corrupt_image(image, name, severity=severity, rng=rng), CORRUPTION_COLUMN: name}


def _check_corruption(corruption: str, severity: int) -> None:
    if corruption not in CORRUPTIONS:
        raise InputError(f"There is no corruption {corruption!r}; choose one of {', '.join(CORRUPTIONS)}.")
    if severity not in SEVERITIES:
        raise InputError(f"severity must be one of {', '.join(map(str, SEVERITIES))}, got {severity!r}.")


def _line_kernel(length: float, *, angle: float) -> np.ndarray:
    """Weights of a line of that length through the centre, square and of an odd side; each point of it is shared by
    the four pixels around it.
    """
    steps = np.linspace(-length / 2, length / 2, int(np.ceil(length)) + 1)  # at most a pixel apart
    reach = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    down, right = reach + steps * np.sin(angle), reach + steps * np.cos(angle)
    row, column = np.floor(down).astype(int), np.floor(right).astype(int)
    down, right = down - row, right - column
    np.add.at(kernel, (row, column), (1 - down) * (1 - right))
    np.add.at(kernel, (row, column + 1), (1 - down) * right)
    np.add.at(kernel, (row + 1, column), down * (1 - right))
    np.add.at(kernel, (row + 1, column + 1), down * right)
    return (kernel / kernel.sum()).astype(np.float32)


def _resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    channels = [
        PILImage.fromarray(channel).resize((width, height), PILImage.Resampling.BICUBIC)
        for channel in np.moveaxis(pixels, 2, 0)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=2)

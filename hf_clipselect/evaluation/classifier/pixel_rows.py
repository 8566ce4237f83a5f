"""Images as a classifier is trained and tested on them, without torchvision.

Shapes: N rows, C classes, H x W pixels, S side of the square that the model is given.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Image
from PIL import Image as PILImage
from PIL import ImageOps
from torch.utils.data import Dataset as TorchDataset

from ...encoder.bit_depth import white_level
from ...encoder.images import UnreadableImageError, open_image
from ...errors import InputError
from .architectures import SMALL_SIZE


# Of the area and of the shape of what is cut out of a large image for training (Szegedy et al., 2015).
_AREA, _ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)


def random_small_crop(image: PILImage.Image, size: int, rng: np.random.Generator) -> PILImage.Image:
    """Pad an eighth of the side with black all around, and cut a square out anywhere: 4 pixels at a side of 32.

    Args:
        image (`PIL.Image.Image` of S x S pixels): RGB.
        size (`int`): S.
        rng (`np.random.Generator`): Draws the place.

    Returns:
        `PIL.Image.Image` of S x S pixels
    """
    pad = size // 8
    left, top = (int(shift) for shift in rng.integers(-pad, pad + 1, size=2))
    return image.crop((left, top, left + size, top + size))  # black beyond the border


def random_resized_crop(image: PILImage.Image, size: int, rng: np.random.Generator) -> PILImage.Image:
    """Cut a rectangle of 8 to 100 % of the area and a shape of 3:4 to 4:3 out anywhere, and make a square of it.

    Args:
        image (`PIL.Image.Image` of H x W pixels): RGB.
        size (`int`): S.
        rng (`np.random.Generator`): Draws the rectangle.

    Returns:
        `PIL.Image.Image` of S x S pixels
    """
    for _ in range(10):
        area = image.width * image.height * rng.uniform(*_AREA)
        aspect = np.exp(rng.uniform(*np.log(_ASPECT)))
        width, height = (area * aspect) ** 0.5, (area / aspect) ** 0.5
        if width <= image.width and height <= image.height:
            break
    else:  # a long image: its middle
        width = min(image.width, image.height * _ASPECT[1])
        height = min(image.height, image.width / _ASPECT[0])
    left, top = rng.uniform(0, 1, size=2) * (image.width - width, image.height - height)
    box = (left, top, min(left + width, image.width), min(top + height, image.height))
    return image.resize((size, size), PILImage.Resampling.BILINEAR, box=box)


class Rows(TorchDataset):
    """Rows of a dataset as a model takes them.

    A row that is augmented looks different in every epoch, but depends on the seed, the epoch and its number alone:
    not on how many processes or workers there are, nor on where a run was interrupted.

    A row is a dictionary: `pixel_values`, a `torch.Tensor` of shape `(3, S, S)`, float32, normalised; and with labels
    `labels`, an `int` in `[0, C)`.

    Args:
        dataset (`Dataset`): Rows with images.
        image_column (`str`): Column of the images.
        image_processor (`BaseImageProcessor`): Resizes, crops and normalises an image.
        image_size (`int`): S.
        labels (`np.ndarray` of shape `(N,)`, int64, *optional*): Class numbers, in `[0, C)`; without them rows have
            none.
        augment (`bool`, *optional*, defaults to `False`): Random crops.
        flip (`bool`, *optional*, defaults to `False`): Every other image is mirrored.
        seed (`int`, *optional*, defaults to 0): Seed of crops and flips.
    """

    def __init__(
        self,
        dataset: Dataset,
        image_column: str,
        image_processor: Any,
        image_size: int,
        *,
        labels: np.ndarray | None = None,
        augment: bool = False,
        flip: bool = False,
        seed: int = 0,
    ) -> None:
        images = dataset.with_format(None).select_columns([image_column])
        self.images = images.cast_column(image_column, Image(decode=False))
        self.white = white_level(self.images, image_column)
        self.image_column, self.image_processor, self.image_size = image_column, image_processor, image_size
        self.labels, self.augment, self.flip, self.seed = labels, augment, flip, seed
        # In memory that workers share: they see it change.
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Several rows, which a `DataLoader` asks for together."""
        pixels: Iterable[torch.Tensor]
        if self.augment:
            pixels = self._normalised([self._image(row) for row in rows], crop=False)
        else:  # one by one: together, large images would fill the memory before they are resized
            pixels = (self._normalised([self._image(row)], crop=True)[0] for row in rows)
        if self.labels is None:
            return [{"pixel_values": of_row} for of_row in pixels]
        labels = self.labels[list(rows)].tolist()
        return [{"pixel_values": of_row, "labels": label} for of_row, label in zip(pixels, labels, strict=True)]

    def _image(self, row: int) -> PILImage.Image:
        try:
            image = open_image(self.images[row][self.image_column], white=self.white)
        except UnreadableImageError as error:
            raise InputError(f"The image of row {row} cannot be read ({error}); mend it, or remove the row.") from None
        return self._augmented(image, row) if self.augment or self.flip else image

    def _augmented(self, image: PILImage.Image, row: int) -> PILImage.Image:
        rng = np.random.default_rng([self.seed, int(self.epoch), row])
        if self.augment and self.image_size <= SMALL_SIZE:
            # As when it is tested: the middle of an image that is not square.
            image = ImageOps.fit(image, (self.image_size, self.image_size), PILImage.Resampling.BICUBIC)
            image = random_small_crop(image, self.image_size, rng)
        elif self.augment:
            image = random_resized_crop(image, self.image_size, rng)
        if self.flip and rng.random() < 0.5:
            image = image.transpose(PILImage.Transpose.FLIP_LEFT_RIGHT)
        return image

    def _normalised(self, images: list[PILImage.Image], *, crop: bool) -> torch.Tensor:
        sizes = {} if crop else {"do_resize": False, "do_center_crop": False}
        return self.image_processor(images=images, return_tensors="pt", **sizes)["pixel_values"]

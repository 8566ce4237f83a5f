"""What a plain image processor does, without its detours: images cut as bytes, and normalised on the model's device.

Plain are those of CLIP, SigLIP and the like: resize, centre crop, rescale, normalise. Legend: B images of a batch, h
and w the height and width that the model takes.
"""

import inspect
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from transformers.image_processing_backends import PilBackend

from ..runtime.failures import is_of_the_machine
from .images import FULL_WHITE, UnreadableImageError, is_turned, open_image


# A JPEG is decoded at 1/2, 1/4 or 1/8 as long as it stays so many times as large as the resized image.
_DRAFT = 2
# torch resizes bytes three times as fast as PIL, at most one unit of 255 apart: little beside what a draft changes.
_TORCH_NAMES = {Image.Resampling.BICUBIC: "bicubic", Image.Resampling.BILINEAR: "bilinear"}
# torch rounds the resized size down.
_ABOVE = 1 + 1e-9
_CHECKED = 4
_SIDES = ("height", "width")


@dataclass(frozen=True)
class LeanPixels:
    """The pixels of a plain image processor of transformers' PIL backend, bit for bit on a CPU.

    Images that can't be drafted become what the processor makes of them. See [`LeanPixels.draft`] for the others.
    """

    size: tuple[int, ...]  # of the resized image: its shorter side, or height and width
    crop: tuple[int, int]  # height and width
    resample: Image.Resampling
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def of(cls, image_processor: Any) -> "LeanPixels | None":
        """That of a processor; `None` where it does anything else, or something else than the PIL backend does."""
        if not _is_of_the_backend(type(image_processor)):
            return None
        settings = json.loads(image_processor.to_json_string())
        steps = {name: bool(settings.get(f"do_{name}")) for name in ("resize", "rescale", "normalize", "pad")}
        size = _numbers(settings.get("size"), ("shortest_edge",)) or _numbers(settings.get("size"), _SIDES)
        crop = _numbers(settings.get("crop_size"), _SIDES) if settings.get("do_center_crop") else size
        mean, std = (settings.get(name) for name in ("image_mean", "image_std"))
        plain = (
            steps == {"resize": True, "rescale": True, "normalize": True, "pad": False}
            and settings.get("rescale_factor") == 1 / 255
            and settings.get("resample") in list(Image.Resampling)
            and all(isinstance(values, list) and len(values) == 3 for values in (mean, std))
        )
        if not plain or size is None or crop is None or len(crop) != 2:
            return None
        return cls(size, (crop[0], crop[1]), Image.Resampling(settings["resample"]), tuple(mean), tuple(std))

    def key(self) -> dict[str, int]:
        """What tells features of these pixels from those of the processor."""
        return {"lean": 1, **({"draft": _DRAFT} if self.resample in _TORCH_NAMES else {})}

    def __call__(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Resized and cropped RGB images as uint8 `(B, 3, h, w)`; black where the crop is larger than the image."""
        height, width = self.crop
        pixels = np.empty((len(images), 3, height, width), dtype=np.uint8)
        for row, image in zip(pixels, images, strict=True):
            wanted = self._resized(image.size)
            resized = image if image.size == wanted else image.resize(wanted, self.resample)
            left, top = (resized.width - width) // 2, (resized.height - height) // 2
            cropped = resized.crop((left, top, left + width, top + height)) if self.crop != wanted[::-1] else resized
            row[...] = np.asarray(cropped).transpose(2, 0, 1)
        return torch.from_numpy(pixels)

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Bytes `(B, 3, h, w)` as float32 of the same shape, rescaled to [0, 1] and normalised, on their device."""
        full, mean, std = _constants(self.mean, self.std, pixels.device)
        return (pixels / full).sub_(mean).div_(std)

    def draft(self, image: Image.Image) -> Image.Image:
        """Decode an image that is only opened; one that is much larger than needed at a lower resolution, and resized.

        A JPEG of at least four times the resized image in each direction is decoded at 1/2, 1/4 or 1/8, so that twice
        its size remains: of 1,000 x 1,000 pixels for 224 x 224, with resizing, in 0.3 of the CPU time. On photographs
        and images made like them, pixels differ from full decoding by 0.2 to 0.8 of 255 on average. Embeddings move by
        0.3 to 0.7 % of the mean distance between two images in a ViT-B/32 of random weights, with cosines of 0.999997
        and more, and by 0.7 to 1.3 % in the embedded tiny CLIP, which sees 32 x 32 pixels, with 0.9995 and more. A
        damaged JPEG raises the errors of full decoding. Other images are returned as they are.
        """
        full = image.size
        too_small = min(full) < 2 * _DRAFT * min(self.size)
        if too_small or image.format not in ("JPEG", "MPO") or self.resample not in _TORCH_NAMES:
            return image
        wanted = self._resized(full[::-1])[::-1] if is_turned(image) else self._resized(full)
        drafted = image.draft(None, (_DRAFT * wanted[0], _DRAFT * wanted[1]))
        image.load()
        if drafted is None or image.size == full:
            return image
        # The last pixel of a row or column stands for less than the others where the full size is no multiple of 8.
        _, (_, _, width, height) = drafted
        factors = [wanted[1] / height * _ABOVE, wanted[0] / width * _ABOVE]
        values = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None]
        mode = _TORCH_NAMES[self.resample]
        resized = functional.interpolate(values, scale_factor=factors, mode=mode, antialias=True)[0].permute(1, 2, 0)
        small = Image.fromarray(resized.numpy())
        small.info = image.info
        return small

    def same_as(self, image_processor: Any, images: Sequence[Image.Image]) -> bool:
        """Whether the processor gives the same float32 pixels of these images, bit for bit."""
        try:
            expected = dict(image_processor(images=list(images), return_tensors="pt"))
        except Exception as error:  # of settings that do not fit each other: it is for the processor to tell
            if is_of_the_machine(error):
                raise
            return False
        return expected.keys() == {"pixel_values"} and torch.equal(
            self.normalize(self(images)), expected["pixel_values"]
        )

    def _resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height that an image of this width and height is resized to."""
        if len(self.size) == 2:
            return self.size[1], self.size[0]
        width, height = size
        long = int(self.size[0] * max(size) / min(size))
        return (self.size[0], long) if width <= height else (long, self.size[0])


def find_lean_pixels(
    images: Any, column: str, image_processor: Any, *, white: int = FULL_WHITE, recorded: Mapping[str, Any]
) -> LeanPixels | None:
    """The lean pixels of a processor for a dataset; `None` where the processor itself is to be used.

    They are used where they equal those of the processor for the first images of the dataset, whose column holds
    undecoded ones. `recorded` is the key of features that are gone on with, empty for none: they keep their way.
    """
    lean = LeanPixels.of(image_processor)
    if lean is None or recorded:
        return lean if "pixels" in recorded else None
    readable = []
    for value in images[:_CHECKED][column]:
        with suppress(UnreadableImageError):
            readable.append(open_image(value, white=white))
    return lean if readable and lean.same_as(image_processor, readable) else None


def _is_of_the_backend(kind: type) -> bool:
    """Whether a class of processors has the settings of transformers' PIL backend and its code, but for `__init__`."""
    return (
        issubclass(kind, PilBackend)
        and kind.valid_kwargs is PilBackend.valid_kwargs
        and all(
            getattr(kind, name) is function
            for name, function in inspect.getmembers(PilBackend, inspect.isfunction)
            if name != "__init__"
        )
    )


def _numbers(setting: Any, names: tuple[str, ...]) -> tuple[int, ...] | None:
    """The values of a size with exactly these names."""
    if not isinstance(setting, dict) or setting.keys() != set(names):
        return None
    return tuple(setting[name] for name in names) if all(type(value) is int for value in setting.values()) else None


@lru_cache
def _constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[torch.Tensor, ...]:
    # 255 as a tensor: a GPU multiplies by the reciprocal of a number, which gives other last digits.
    full = torch.tensor(255.0, device=device)
    return (full, *(torch.tensor(values, device=device).view(3, 1, 1) for values in (mean, std)))

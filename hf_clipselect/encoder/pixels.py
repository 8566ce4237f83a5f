"""Decoding and preprocessing of images, in the DataLoader's workers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from .images import FULL_WHITE, UnreadableImageError, open_image
from .lean_pixels import LeanPixels


# What an image processor gives, with a row for each image: `pixel_values`, and some give masks and shapes too; or the
# `pixel_values` of lean pixels, bytes that are not normalised yet.
Pixels = dict[str, torch.Tensor | np.ndarray]

# Batches of at most so many bytes are copied through a worker's pipe, which is quicker than shared memory.
_BYTES_THROUGH_A_PIPE = 2**22


@dataclass(frozen=True)
class PixelBatch:
    """Some rows of a dataset: the pixels of the images that could be read, if any, and why the others could not."""

    rows: list[int]
    pixels: Pixels | None
    unreadable: dict[int, str]

    def pin_memory(self) -> "PixelBatch":
        """Called by a DataLoader that feeds a GPU."""
        pinned: Pixels = {name: torch.as_tensor(values).pin_memory() for name, values in (self.pixels or {}).items()}
        return PixelBatch(self.rows, pinned or None, self.unreadable)


class _Preprocessing(torch.utils.data.Dataset):
    def __init__(self, image_processor: Any, *, white: int = FULL_WHITE, lean: LeanPixels | None = None) -> None:
        self.image_processor, self.white, self.lean = image_processor, white, lean

    def _batch(self, rows: list[int], values: Iterable[Any]) -> PixelBatch:
        readable = []
        unreadable: dict[int, str] = {}
        draft = None if self.lean is None else self.lean.draft
        for row, value in zip(rows, values, strict=True):
            try:
                readable.append(open_image(value, white=self.white, draft=draft))
            except UnreadableImageError as error:
                unreadable[row] = str(error)
        if not readable:
            return PixelBatch(rows, None, unreadable)
        if self.lean is not None:
            return PixelBatch(rows, {"pixel_values": self.lean(readable)}, unreadable)
        return PixelBatch(rows, dict(self.image_processor(images=readable, return_tensors="pt")), unreadable)


class PreprocessedImages(_Preprocessing):
    """Decodes and preprocesses rows, as `lean` where it is given; why an image can't be read is noted, not raised."""

    def __init__(
        self,
        images: Any,
        column: str,
        image_processor: Any,
        *,
        white: int = FULL_WHITE,
        lean: LeanPixels | None = None,
    ) -> None:
        super().__init__(image_processor, white=white, lean=lean)
        self.images, self.column = images, column

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, rows: list[int]) -> PixelBatch:
        return self._batch(rows, self.images[rows][self.column])


class SentImages(_Preprocessing):
    """Does the same with images that are not at hand: each batch brings a number and the encoded image of each row."""

    def __getitems__(self, batch: Sequence[tuple[int, bytes | None]]) -> PixelBatch:
        return self._batch([row for row, _ in batch], ({"bytes": image, "path": None} for _, image in batch))


def hand_over(batch: PixelBatch) -> PixelBatch:
    """Prepare a worker's batch for its way to the process of the model: the `collate_fn` of the DataLoader."""
    if batch.pixels is None or get_worker_info() is None:
        return batch
    if sum(values.nbytes for values in batch.pixels.values()) <= _BYTES_THROUGH_A_PIPE:
        arrays: Pixels = {name: np.asarray(values) for name, values in batch.pixels.items()}
        return PixelBatch(batch.rows, arrays, batch.unreadable)
    # Otherwise a thread of the worker shares it later. Where /dev/shm is full (Docker gives it 64 MB) that thread only
    # prints its error, and the run waits for ever; here the error reaches the run.
    for values in batch.pixels.values():
        torch.as_tensor(values).share_memory_()
    return batch

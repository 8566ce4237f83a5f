"""Decoding and preprocessing of images, as the DataLoader's workers run it."""

from typing import Any

import torch
from torch.utils.data import get_worker_info

from .images import UnreadableImageError, open_image


class PreprocessedImages(torch.utils.data.Dataset):
    """Decodes and preprocesses in the DataLoader's workers; a bad image becomes a reason, not an exception."""

    def __init__(self, images: Any, column: str, image_processor: Any) -> None:
        self.images = images
        self.column = column
        self.image_processor = image_processor

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, rows: list[int]) -> list[tuple[int, Any, str | None]]:
        items = []
        for row, value in zip(rows, self.images[rows][self.column], strict=True):
            try:
                image = open_image(value)
            except UnreadableImageError as error:
                items.append((row, None, str(error)))
            else:
                items.append((row, image, None))
        good = [image for _, image, _ in items if image is not None]
        if not good:
            return items
        pixel_values = iter(self.image_processor(images=good, return_tensors="pt")["pixel_values"])
        return [(row, None if image is None else next(pixel_values), reason) for row, image, reason in items]


def collate(items: list[tuple[int, Any, str | None]]) -> tuple[list[int], torch.Tensor | None, dict[int, str]]:
    pixel_values = [pixels for _, pixels, _ in items if pixels is not None]
    reasons = {row: reason for row, _, reason in items if reason is not None}
    batch = torch.stack(pixel_values) if pixel_values else None
    if batch is not None and get_worker_info() is not None:
        # A thread of the worker would do so later. Where /dev/shm is full (Docker gives it 64 MB) it only prints its error, and
        # the run waits for the batch forever; here the error reaches the run.
        batch.share_memory_()
    return [row for row, _, _ in items], batch, reasons

"""Runs the frozen image tower once over a dataset: decode in workers, forward here, shards on disk.

Legend: N rows, H hidden size of the image tower (the input of its projection).
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import tqdm
from torch.utils.data import DataLoader

from ..data import LabelledImages, with_image_column_undecoded
from ..errors import InputError
from .backbone import Backbone, projection_input
from .cache import FeatureCache, Shard
from .images import UnreadableImageError, open_image


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageFeatures:
    """Features of every row of a dataset.

    Args:
        features (`np.ndarray` of shape `(N, H)`, float32): Input of the visual projection; zeros for an unreadable row.
        unreadable (`dict[int, str]`): Position in the dataset -> why its image could not be read.
        key (`str`): Hash of everything that decided the features.
        num_encoded (`int`): Rows that went through the model in this run; 0 when all came from the cache.
    """

    features: np.ndarray
    unreadable: dict[int, str]
    key: str
    num_encoded: int


def encode_dataset(
    images: LabelledImages,
    backbone: Backbone,
    folder: Path,
    *,
    accelerator: Accelerator,
    batch_size: int = 64,
    num_workers: int | None = None,
    on_bad_image: str = "error",
) -> ImageFeatures:
    """Encode every image once; what `folder` already holds for the same key is not encoded again.

    Args:
        images (`LabelledImages`): The dataset.
        backbone (`Backbone`): The frozen encoder.
        folder (`Path`): Features folder, shared by all processes.
        accelerator (`Accelerator`): Shards are spread over its processes.
        batch_size (`int`, *optional*, defaults to 64): Images per forward pass; part of the cache key, since another
            batch size may change the last digits.
        num_workers (`int`, *optional*): Decoding processes; default this process's share of the cores, at most 8.
        on_bad_image (`str`, *optional*, defaults to `"error"`): `"error"` or `"drop"`.

    Returns:
        `ImageFeatures`

    Raises:
        InputError: An image can't be read (with `"error"`), or the model gives values that are not finite.
    """
    key = {
        "dataset": images.source.fingerprint,
        "rows": images.dataset._fingerprint,
        "image_column": images.image_column,
        "batch_size": batch_size,
        **backbone.identity(),
    }
    cache = FeatureCache(folder, key=key, num_rows=len(images.dataset))
    missing = cache.missing()
    mine = missing[accelerator.process_index :: accelerator.num_processes]
    accelerator.wait_for_everyone()  # all have seen the same missing shards before any process fills one
    if not missing:
        logger.info("Features of all %d rows are in %s: nothing to encode.", len(images.dataset), folder)
    for shard, features, unreadable in _encode_shards(
        mine, images, backbone, batch_size=batch_size, num_workers=num_workers, on_bad_image=on_bad_image
    ):
        cache.write(shard, features, unreadable)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        cache.write_manifest()  # each time: a run may have been killed between its last shard and this
    features, unreadable = cache.read()
    if unreadable and on_bad_image == "error":
        _raise_unreadable(images, unreadable)
    return ImageFeatures(features, unreadable, cache.digest, sum(shard.stop - shard.start for shard in missing))


def _encode_shards(
    shards: list[Shard],
    images: LabelledImages,
    backbone: Backbone,
    *,
    batch_size: int,
    num_workers: int | None,
    on_bad_image: str,
) -> Iterator[tuple[Shard, np.ndarray, dict[int, str]]]:
    # Batches are fixed slices of a shard, so that a restarted run repeats the very same forward passes.
    batches = [
        list(range(start, min(start + batch_size, shard.stop)))
        for shard in shards
        for start in range(shard.start, shard.stop, batch_size)
    ]
    loader = DataLoader(
        _PreprocessedImages(with_image_column_undecoded(images), images.image_column, backbone.image_processor),
        batch_sampler=batches,
        collate_fn=_collate,
        num_workers=min(_default_workers() if num_workers is None else num_workers, len(batches)),
        pin_memory=backbone.model.device.type == "cuda",
    )
    remaining = iter(shards)
    shard, parts, unreadable = next(remaining, None), [], {}
    with tqdm(total=sum(map(len, batches)), desc="Encoding", unit=" images", disable=not batches) as progress:
        for rows, pixel_values, reasons in loader:
            if reasons and on_bad_image == "error":
                _raise_unreadable(images, reasons)
            features = _forward(backbone, pixel_values)
            _check_finite(features, [row for row in rows if row not in reasons], images, backbone)
            parts.append(_at_their_rows(features, rows, reasons, backbone.hidden_size))
            unreadable.update(reasons)
            progress.update(len(rows))
            if rows[-1] + 1 == shard.stop:
                yield shard, np.concatenate(parts), unreadable
                shard, parts, unreadable = next(remaining, None), [], {}


def _check_finite(features: np.ndarray, rows: list[int], images: LabelledImages, backbone: Backbone) -> None:
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise InputError(
            f"The model {backbone.name} gives features that are not finite for source_index "
            f"{images.source_index[rows[bad[0]]]}; check its weights, or leave out --bf16."
        )


def _forward(backbone: Backbone, pixel_values: torch.Tensor | None) -> np.ndarray:
    model = backbone.model
    if pixel_values is None:
        return np.zeros((0, backbone.hidden_size), dtype=np.float32)
    pixel_values = pixel_values.to(model.device, model.dtype, non_blocking=True)
    with torch.inference_mode():
        hidden = projection_input(model.visual_projection, lambda: model.get_image_features(pixel_values=pixel_values))
    return hidden.float().cpu().numpy()


def _at_their_rows(features: np.ndarray, rows: list[int], reasons: dict[int, str], hidden_size: int) -> np.ndarray:
    if not reasons:
        return features
    filled = np.zeros((len(rows), hidden_size), dtype=np.float32)
    filled[[i for i, row in enumerate(rows) if row not in reasons]] = features
    return filled


def _raise_unreadable(images: LabelledImages, reasons: dict[int, str]) -> None:
    row, reason = min(reasons.items())
    raise InputError(
        f"The image of source_index {images.source_index[row]} can't be read: {reason} Repair or remove it, or pass "
        "--on_bad_image drop to leave such rows out and list them in dropped.parquet."
    )


def _default_workers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


class _PreprocessedImages(torch.utils.data.Dataset):
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


def _collate(items: list[tuple[int, Any, str | None]]) -> tuple[list[int], torch.Tensor | None, dict[int, str]]:
    pixel_values = [pixels for _, pixels, _ in items if pixels is not None]
    reasons = {row: reason for row, _, reason in items if reason is not None}
    return [row for row, _, _ in items], torch.stack(pixel_values) if pixel_values else None, reasons

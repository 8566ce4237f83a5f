"""Runs the frozen image tower once over a dataset: decodes ahead, runs the model here, writes shards to disk.

Legend: N rows, H size of the image features: of the input of a linear head, or the output of another.
"""

import logging
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import tqdm

from ..data import SourceImages, with_image_column_undecoded
from ..errors import InputError
from ..runtime.processes import Processes
from .backbone import Backbone, head_features
from .bit_depth import white_level
from .cache import FeatureCache, Shard, recorded_key
from .cores import share_cores
from .decoding import decoded_batches, warn_if_threads
from .dual_encoder import of_model
from .feature_rows import FeatureRows
from .images import FULL_WHITE
from .lean_pixels import LeanPixels, find_lean_pixels
from .pixels import PreprocessedImages
from .precision import encoder_arithmetic
from .threads import in_order, one_thread_each
from .tower import ImageTower, explained_misfits


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageFeatures:
    """Features of every row of a dataset, `(N, H)`, mapped from the shards; zeros for an unreadable row.

    `unreadable` tells by the position in the dataset why an image could not be read, `key` is the hash of everything
    that decided the features, and `num_encoded` counts the rows that went through the model in this run.
    """

    features: FeatureRows
    unreadable: dict[int, str]
    key: str
    num_encoded: int


def encode_dataset(
    images: SourceImages,
    backbone: Backbone,
    folder: Path,
    *,
    accelerator: Accelerator,
    batch_size: int = 64,
    num_workers: int | None = None,
    on_bad_image: str = "error",
    overwrite: bool = False,
) -> ImageFeatures:
    """Encode every image once; what `folder` already holds for the same key is not encoded again.

    The processes of the accelerator share the folder and the work. The batch size is part of the key, because it may
    change the last digits; a batch that is too large for the memory is halved. `num_workers` are processes that
    decode, or threads where none can start, by default as by `share_cores`. `on_bad_image` is `"error"` or `"drop"`;
    with `overwrite` features of another key may be replaced.

    Raises `InputError` where the folder holds features of another key, an image can't be read (with `"error"`), or the
    model gives values that are not finite.
    """
    processes = Processes(accelerator)
    undecoded, column = with_image_column_undecoded(images), images.image_column
    white = white_level(undecoded, column)
    if white != FULL_WHITE:
        logger.warning(
            "No 16-bit grey image of a sample has a value above %d, which is taken for white: as %d-bit images.",
            white,
            white.bit_length(),
        )
    recorded = {} if overwrite else recorded_key(folder)
    lean = find_lean_pixels(undecoded, column, backbone.image_processor, white=white, recorded=recorded)
    key = features_key(images, backbone, batch_size=batch_size, white=white, lean=lean)
    cache = FeatureCache(folder, key=key, num_rows=len(images.dataset))
    if len(set(processes.gather(cache.digest))) > 1:
        raise InputError(
            "The processes of this run do not see the same dataset or model. Several machines need the same files "
            "under the same paths and with the same modification times, best on a file system that they share, and "
            "the same package versions."
        )
    if not overwrite:
        cache.check_key()
    missing = _missing_shards(cache, processes)  # afterwards every process has read the manifest
    if accelerator.is_main_process and missing:
        cache.write_manifest(complete=False)
    if not missing:
        logger.info("Features of all %d rows are in %s: nothing to encode.", len(images.dataset), folder)
    mine = missing[processes.index :: processes.count]
    num_rows = sum(shard.stop - shard.start for shard in mine)
    # Beside a GPU a thread hashes and writes a shard while the next one is encoded; on a CPU nothing would be gained.
    beside = 0 if backbone.model.device.type == "cpu" else 1
    with tqdm(total=num_rows, desc="Encoding", unit=" images", disable=not mine) as progress:
        encoded = encode_shards(
            mine,
            images,
            backbone,
            batch_size=batch_size,
            pixels=PreprocessedImages(undecoded, column, backbone.image_processor, white=white, lean=lean),
            num_workers=num_workers,
            on_bad_image=on_bad_image,
            tell=progress.update,
        )
        # Closed also where writing fails: whoever keeps the traceback would keep torch's settings changed.
        with closing(encoded):
            for _ in in_order(lambda shard: cache.write(*shard), encoded, threads=beside):
                pass
    processes.wait()
    rows, reasons = cache.open()
    if accelerator.is_main_process:
        cache.write_manifest(complete=True)  # always: an earlier run may have been killed after its last shard
    if reasons and on_bad_image == "error":
        raise_unreadable(images.source_index, reasons)
    return ImageFeatures(rows, reasons, cache.digest, sum(shard.stop - shard.start for shard in missing))


def features_key(
    images: SourceImages,
    backbone: Backbone,
    *,
    batch_size: int,
    white: int = FULL_WHITE,
    lean: LeanPixels | None = None,
) -> dict[str, Any]:
    """Everything that decides the image features, as plain JSON types."""
    return {
        "dataset": images.source.fingerprint,
        "rows": images.dataset._fingerprint,
        "image_column": images.image_column,
        **key_of_encoding(backbone, batch_size=batch_size, white=white, lean=lean),
    }


def key_of_encoding(backbone: Backbone, *, batch_size: int, white: int, lean: LeanPixels | None) -> dict[str, Any]:
    """What decides the features beside the images, as plain JSON types."""
    return {
        "batch_size": batch_size,
        **({} if white == FULL_WHITE else {"white": white}),
        **({} if lean is None else {"pixels": lean.key()}),
        **backbone.identity(),
    }


def _missing_shards(cache: FeatureCache, processes: Processes) -> list[Shard]:
    """The same list on every process; each shard is read and checked by one of them."""
    shards = cache.shards()
    mine = shards[processes.index :: processes.count]
    found = processes.gather([shard.index for shard in mine if not cache.is_whole(shard)])
    return [shards[index] for index in sorted(chain.from_iterable(found))]


def encode_shards(
    shards: list[Shard],
    images: SourceImages,
    backbone: Backbone,
    *,
    batch_size: int,
    pixels: PreprocessedImages,
    num_workers: int | None,
    on_bad_image: str,
    tell: Callable[[int], object],
) -> Generator[tuple[Shard, np.ndarray, dict[int, str]], None, None]:
    """The features `(rows, H)`, float32, of each shard of these images, and why some of its rows can't be read.

    `tell` gets the number of rows of each batch that is done. Raises `InputError` as [`encode_dataset`].
    """
    # Batches are fixed slices of a shard, so that a restarted run repeats the same forward passes.
    batches_of = [
        [list(range(at, min(at + batch_size, shard.stop))) for at in range(shard.start, shard.stop, batch_size)]
        for shard in shards
    ]
    batches = list(chain.from_iterable(batches_of))
    warn_if_threads(num_workers)
    device = backbone.model.device
    with ExitStack() as stack:
        stack.enter_context(encoder_arithmetic(backbone.products, device))
        run = stack.enter_context(head_features(backbone.model, of_model(backbone.model).image_head))
        tower = ImageTower(backbone, run, pixels.lean)
        with explained_misfits(backbone):
            workers, threads = share_cores(pixels, tower, list(chain.from_iterable(batches)), num_workers=num_workers)
        threads = stack.enter_context(one_thread_each(device, threads=threads))
        decoded = stack.enter_context(
            closing(decoded_batches(pixels, batches, num_workers=workers, pin_memory=device.type == "cuda"))
        )
        encoded = in_order(lambda batch: (batch, tower(batch.pixels)), decoded, threads=threads)
        with explained_misfits(backbone):
            first = list(islice(encoded, 1))
        encoded = chain(first, encoded)
        for shard, own in zip(shards, batches_of, strict=True):
            parts: list[torch.Tensor] = []
            unreadable: dict[int, str] = {}
            for batch, features in islice(encoded, len(own)):
                if batch.unreadable and on_bad_image == "error":
                    raise_unreadable(images.source_index, batch.unreadable)
                # Kept on the device until the shard is complete: a GPU would wait for a copy in each step.
                parts.append(features)
                unreadable.update(batch.unreadable)
                tell(len(batch.rows))
            array = torch.cat(parts).float().cpu().numpy()
            good = np.setdiff1d(np.arange(shard.start, shard.stop), list(unreadable))
            _check_finite(array, good, images, backbone)
            at_their_rows = np.zeros((shard.stop - shard.start, array.shape[1]), dtype=np.float32)
            at_their_rows[good - shard.start] = array
            yield shard, at_their_rows, unreadable


def _check_finite(features: np.ndarray, rows: np.ndarray, images: SourceImages, backbone: Backbone) -> None:
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise InputError(
            f"The model {backbone.name or 'that was passed'} gives features that are not finite for source_index "
            f"{images.source_index[rows[bad[0]]]}; check its weights, or run it with --precision float32."
        )


def raise_unreadable(source_index: np.ndarray, reasons: dict[int, str]) -> None:
    """Raise the `InputError` of the first image that can't be read; the reasons are by place in `source_index`."""
    row, reason = min(reasons.items())
    raise InputError(
        f"The image of source_index {source_index[row]} can't be read: {reason} Repair or remove it, or pass "
        "--on_bad_image drop to leave such rows out and list them in dropped.parquet."
    )

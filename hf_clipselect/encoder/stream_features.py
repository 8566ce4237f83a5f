"""Runs the frozen image tower once over a stream: shard by shard, each of which lies in a file while it is encoded."""

import logging
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from accelerate.utils import tqdm
from datasets import Dataset

from ..data import SourceImages
from ..data.image_stream import ImageStream, StreamShard
from ..errors import InputError
from .backbone import Backbone
from .bit_depth import white_level
from .cache import SHARD_ROWS, FeatureCache, Shard, recorded_key
from .features import ImageFeatures, encode_shards, key_of_encoding, raise_unreadable
from .images import FULL_WHITE
from .lean_pixels import LeanPixels, find_lean_pixels
from .pixels import PreprocessedImages


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodedStream:
    """The features of all N rows of a stream, and what else is held of them.

    `held` `(N,)` has the columns that the stream holds, and `contents` is the hash of the images of each shard, of
    `shard_rows` rows but for the last. `sampled` are the hashes of the few by which the stream is known again.
    """

    features: ImageFeatures
    held: Dataset
    contents: list[str]
    shard_rows: int
    sampled: list[str]


def encode_stream(
    stream: ImageStream,
    backbone: Backbone,
    folder: Path,
    *,
    batch_size: int = 64,
    num_workers: int | None = None,
    on_bad_image: str = "error",
    overwrite: bool = False,
) -> EncodedStream:
    """Read a stream to its end and encode its images, as [`encode_dataset`] does those of a dataset.

    The features are the same as those of a dataset of the same rows, if 16-bit grey images among the first 4,096 tell
    as much of what is white as a sample of all. A shard whose images are those of the shard that `folder` holds is
    read again, but not encoded again.

    Raises `InputError` as `encode_dataset`, where a row has no label or caption, and where the folder holds features
    of another stream; the last two at the first shard in which it is so.
    """
    encoding: _Encoding | None = None
    held: list[pa.Table] = []
    sampled: list[str] = []
    num_encoded = 0
    with tqdm(desc="Encoding", unit=" images") as progress:
        for shard in stream.shards(SHARD_ROWS, _created(folder)):
            _check_labels(shard, stream)  # now, and not when all rows have been encoded
            if encoding is None:
                encoding = _Encoding.of_first(shard, stream, backbone, folder, batch_size, overwrite=overwrite)
            held.append(shard.held)
            sampled += shard.sampled
            place = encoding.cache.extend(len(shard.images), shard.content)
            if not overwrite:
                encoding.cache.check_key()
            if encoding.cache.is_whole(place):
                progress.update(len(shard.images))
                continue
            if num_encoded == 0:
                encoding.cache.write_manifest(complete=False)
            num_encoded += len(shard.images)
            source_index = np.arange(place.start, place.stop)
            parts = encode_shards(
                [Shard(0, 0, len(shard.images))],
                SourceImages(shard.images, stream.image_column, source_index, stream.source),
                backbone,
                batch_size=batch_size,
                pixels=PreprocessedImages(
                    shard.images,
                    stream.image_column,
                    backbone.image_processor,
                    white=encoding.white,
                    lean=encoding.lean,
                ),
                num_workers=num_workers,
                on_bad_image=on_bad_image,
                tell=progress.update,
            )
            with closing(parts):
                for _, features, unreadable in parts:
                    encoding.cache.write(place, features, {place.start + row: why for row, why in unreadable.items()})
    assert encoding is not None  # `open_stream` refuses a stream without rows
    if not overwrite:
        encoding.cache.check_key(at_end=True)
    if num_encoded == 0:
        logger.info("Features of all %d rows are in %s: nothing to encode.", encoding.cache.num_rows, folder)
    rows, reasons = encoding.cache.open()
    encoding.cache.write_manifest(complete=True)
    if reasons and on_bad_image == "error":
        raise_unreadable(np.arange(len(rows)), reasons)
    encoded = ImageFeatures(rows, reasons, encoding.cache.digest, num_encoded)
    return EncodedStream(
        encoded, Dataset(pa.concat_tables(held).combine_chunks()), encoding.cache.contents, SHARD_ROWS, sampled
    )


def _check_labels(shard: StreamShard, stream: ImageStream) -> None:
    values = shard.held.column(stream.label_column)
    missing = values.is_null(nan_is_null=True)
    if stream.has_captions:
        blank = pc.equal(pc.utf8_trim_whitespace(values.cast(pa.large_string())), "")
        missing = pc.or_kleene(missing, blank)
    first = pc.index(missing, True).as_py()
    if first >= 0:
        what = "caption" if stream.has_captions else "label"
        raise InputError(
            f"Row {shard.start + first} of the stream has no {what} in column {stream.label_column!r}. Leave such "
            f"rows out, for example with .filter, give them a {what}, or name another column."
        )


@dataclass(frozen=True)
class _Encoding:
    """How the shards of a stream are encoded, which the first one decides."""

    cache: FeatureCache
    white: int
    lean: LeanPixels | None

    @classmethod
    def of_first(
        cls,
        shard: StreamShard,
        stream: ImageStream,
        backbone: Backbone,
        folder: Path,
        batch_size: int,
        *,
        overwrite: bool,
    ) -> "_Encoding":
        column = stream.image_column
        white = white_level(shard.images, column)
        if white != FULL_WHITE:
            logger.warning(
                "No 16-bit grey image among the first rows has a value above %d, which is taken for white: as %d-bit "
                "images.",
                white,
                white.bit_length(),
            )
        recorded = {} if overwrite else recorded_key(folder)
        lean = find_lean_pixels(shard.images, column, backbone.image_processor, white=white, recorded=recorded)
        key = {
            "image_column": column,
            **key_of_encoding(backbone, batch_size=batch_size, white=white, lean=lean),
        }
        return cls(FeatureCache.of_stream(folder, key=key), white, lean)


def _created(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder

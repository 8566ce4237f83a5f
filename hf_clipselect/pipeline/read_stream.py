"""A run on a stream: its first reading, which encodes it, and its second, which writes."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from datasets import IterableDataset, IterableDatasetDict

from ..config.arguments import Arguments
from ..data import GIVEN_LABEL, LabelledImages
from ..data.decisions import Decision
from ..data.image_stream import ImageStream, open_stream
from ..data.labelled_images import label_images
from ..data.row_facts import Listing, read_groups
from ..data.source import describe_source, labels_id, load_stream, sampled_rows, stream_id
from ..data.stream_rows import one_stream
from ..encoder.backbone import Backbone
from ..encoder.stream_features import EncodedStream, encode_stream
from ..results.report import rows_with_pictures
from ..results.run_folder import RunFolder
from ..results.scores_table import column_values
from ..results.selection_result import SelectionResult
from ..selection import column_suffix


@dataclass(frozen=True)
class ReadStream:
    """A stream that has been read once, with what is held of it."""

    stream: ImageStream
    encoded: EncodedStream


def find_stream(
    arguments: Arguments,
    passed: IterableDataset | IterableDatasetDict | None,
    listings: Sequence[Listing | None],
    *,
    has_decisions: bool,
) -> ImageStream:
    """The stream that was passed, or that the arguments name, with its columns; nothing but its first rows is read.

    `listings` are those of `--must_keep` and `--must_drop`, which may be names of columns. Raises `InputError` as
    [`open_stream`].
    """
    data = arguments.data
    if passed is None:
        rows, source = load_stream(data)
    else:
        rows = one_stream(passed)
        source = describe_source(rows)
    stream, head = open_stream(
        rows,
        source,
        image_column_name=data.image_column_name,
        label_column_name=data.label_column_name,
        caption_column=data.caption_column,
        held_columns=[data.group_column, data.id_column, *(str(name) for name in listings if isinstance(name, str))],
        further_columns=(GIVEN_LABEL,) if has_decisions else (),
        max_samples=data.max_train_samples,
        allow_outside_files=data.allow_outside_files,
    )
    if data.group_column is not None:
        read_groups(head, data.group_column)  # now, and not when all rows have been encoded
    return stream


def read_stream(
    stream: ImageStream,
    arguments: Arguments,
    backbone: Backbone,
    folder: RunFolder,
    batch_size: int,
    *,
    class_names: Sequence[str] | None,
    decisions: Mapping[int, Decision] | None,
) -> tuple[LabelledImages, ReadStream]:
    """Read a stream to its end: its features go into the folder, and its labels into memory.

    The `dataset` of the images that are given has no images, only the columns that are held. Raises `InputError` as
    [`encode_stream`] and [`label_images`].
    """
    encoded = encode_stream(
        stream,
        backbone,
        folder.features,
        batch_size=batch_size,
        num_workers=arguments.model.dataloader_num_workers,
        on_bad_image=arguments.data.on_bad_image,
        overwrite=arguments.run.overwrite_output_dir,
    )
    labels = labels_id(encoded.held, stream.label_column)
    source = replace(
        stream.source,
        num_rows=len(encoded.held),
        first_rows=None if arguments.data.max_train_samples is None else len(encoded.held),
        fingerprint=hashlib.sha256("".join([*encoded.contents, labels]).encode()).hexdigest()[:16],
        image_column=stream.image_column,
        label_column=stream.label_column,
        id_column=arguments.data.id_column,
        content_id=stream_id(labels, encoded.sampled),
    )
    images = label_images(
        encoded.held,
        source,
        has_captions=stream.has_captions,
        class_names=class_names,
        class_names_file=arguments.data.class_names_file,
        decisions=decisions,
    )
    return images, ReadStream(stream, encoded)


@contextmanager
def rows_to_write(
    read: ReadStream,
    images: LabelledImages,
    folder: RunFolder,
    result: SelectionResult,
    *,
    scores_only: bool,
    places: pa.Table | None,
) -> Iterator[LabelledImages]:
    """Read the stream again, for the images of the rows that results are written of: of all others there are none.

    These are the kept rows of every size, unless only scores are written, those of the map, whose `places` they are,
    those that the report shows, and the few by which the stream is known again. Raises `InputError` where the stream
    gives other rows than the first time.
    """
    needed = np.zeros(len(images.labels), dtype=bool)
    needed[rows_with_pictures(result.report, result.scores)] = True
    needed[sampled_rows(0, len(needed))] = True  # by which the stream is known again
    if not scores_only:
        for size in result.ratios:
            needed |= column_values(result.scores, f"selected_{column_suffix(size)}")
        if places is not None:
            needed[places.column("source_index").to_numpy()] = True
    path = folder.features / ".rows-to-write.tmp"
    try:
        encoded = read.encoded
        dataset = read.stream.again(encoded.held, needed, encoded.contents, encoded.shard_rows, path)
        yield replace(images, dataset=dataset)
    finally:
        path.unlink(missing_ok=True)

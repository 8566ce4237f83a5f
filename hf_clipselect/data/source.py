"""Where a dataset came from, and by what it is recognised again."""

import hashlib
import json
import logging
import os
import stat
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, IterableDataset
from huggingface_hub import hf_hub_download
from huggingface_hub.repocard import metadata_load

from ..config.arguments import DataArguments
from ..runtime.files import read_plain_file
from ..runtime.redaction import hide_secrets
from .columns import column_array
from .image_values import stored_rows
from .loading import Loaded, Request, load
from .local_data import Wanted
from .places import SourceFlags, read_storage_options


logger = logging.getLogger(__name__)

_IMAGES_HASHED = 16
_LABELS_AT_ONCE = 10_000
# What the content id of a stream begins with.
_OF_LABELS = "labels-"
_PARTS = ("data_dir", "data_files", "first_rows", "id_column")


@dataclass(frozen=True)
class DatasetSource:
    """Where a dataset came from, as written to config.yaml and the cards."""

    # Hub id, absolute path of a folder or file, URL without credentials, or `embedded/...`; empty for one in memory.
    name: str
    config_name: str | None
    split: str | None
    revision: str | None  # commit of the Hub repository, 40 hexadecimal digits
    fingerprint: str  # of the split as `datasets` gives it, and of the image files that it refers to
    num_rows: int  # of the split
    license: str | None  # as the source states it
    image_column: str = ""  # empty until it is found
    label_column: str = ""
    # Hash of all labels and a few images, of a stream one of each: recognises the dataset however it is loaded.
    content_id: str = ""
    data_dir: str | None = None  # the part of a repository on the Hub that was read
    data_files: list[str] | None = None
    first_rows: int | None = None  # of a stream that was cut to its first rows: how many
    id_column: str | None = None  # whose values name the rows, beside their numbers
    # Folder or URL of the file whose columns hold relative paths; they start from it. It is written nowhere.
    paths_relative_to: str | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """What is written of it, as plain JSON types."""
        values = asdict(self)
        del values["paths_relative_to"]
        return {name: value for name, value in values.items() if value is not None or name not in _PARTS}

    def cut(self, dataset: Dataset) -> Dataset:
        """Of the whole split, the rows that are the source."""
        return dataset if self.first_rows is None else dataset.select(range(min(self.first_rows, len(dataset))))

    def describe(self) -> str:
        """The dataset in words, to stand in a message."""
        details = [("config", self.config_name), ("split", self.split), ("revision", self.revision)]
        details += [("folder", self.data_dir), ("files", ", ".join(self.data_files or []))]
        details += [("first rows", None if self.first_rows is None else str(self.first_rows))]
        known = ", ".join(f"{what} {value}" for what, value in details if value)
        return (self.name or "the dataset that was selected from") + (f" ({known})" if known else "")


def load_source(
    name: str,
    config_name: str | None = None,
    split: str = "train",
    *,
    revision: str | None = None,
    data_files: Sequence[str] | None = None,
    data_dir: str | None = None,
    storage_options: str | None = None,
    allow_unread_files: bool = False,
    flags: SourceFlags | None = None,
    token: str | None = None,
) -> tuple[Dataset, DatasetSource]:
    """Load one split of a dataset, and tell where it came from.

    The name is a Hub id, a folder or file, here or behind a URL, or `embedded/digits`; it is empty where `data_files`
    says all. These are files, patterns or URLs, relative to the folder or repository where one is named, and
    `data_dir` is a folder in it. `revision` is a branch, tag or commit of a dataset on the Hub, by default `main`.
    `storage_options` is JSON of options for the file system of a URL; no error and no result tells its values. With
    `allow_unread_files` files of a folder may be left out, with a warning. `token` is that of the Hub, by default the
    logged-in one. Errors call the arguments as `flags` says,
    by default as `hf-clipselect select` does.

    Raises `InputError` for no such dataset, configuration, split or revision; where the Hub or a file system can't be
    reached; or files of a folder would be left out.
    """
    options = read_storage_options(storage_options)
    wanted = Wanted(hide_secrets(name, options), config_name, split, allow_unread_files, flags or SourceFlags())
    loaded = load(Request(name, wanted, revision, data_files or [], data_dir, options, token))
    assert isinstance(loaded.dataset, Dataset)
    return loaded.dataset, _source_of(loaded, config_name, token)


def load_stream(data: DataArguments) -> tuple[IterableDataset, DatasetSource]:
    """Open one split of the dataset that the arguments name as a stream, as [`load_source`] loads it.

    What lies in tables and tar files on the Hub is read when it is asked for, that of this machine without a copy.
    The number of rows and the fingerprint of the source are not known yet. Raises `InputError` as `load_source`, and
    for a URL, which is fetched whole.
    """
    options = read_storage_options(data.storage_options)
    wanted = Wanted(
        hide_secrets(data.dataset_name, options),
        data.dataset_config_name,
        data.train_split_name,
        data.allow_unread_files,
        SourceFlags(),
        streaming=True,
    )
    request = Request(data.dataset_name, wanted, data.dataset_revision, data.data_files or [], data.data_dir, options)
    loaded = load(request)
    rows = loaded.dataset
    if isinstance(rows, Dataset):  # whose images are files, or lie in a file that is mapped
        rows = rows.to_iterable_dataset()
    return rows, _source_of(loaded, data.dataset_config_name, None)


def _source_of(loaded: Loaded, config_name: str | None, token: str | None) -> DatasetSource:
    source = replace(
        describe_source(loaded.dataset, name=loaded.name, config_name=config_name, revision=loaded.revision),
        data_dir=loaded.data_dir,
        data_files=loaded.data_files,
        paths_relative_to=loaded.paths_relative_to,
    )
    if source.license is None and loaded.card is not None:
        source = replace(source, license=_license_of_card(loaded.card, loaded.revision, token))
    return source


def describe_source(
    dataset: Dataset | IterableDataset, *, name: str = "", config_name: str | None = None, revision: str | None = None
) -> DatasetSource:
    """What can be told about the origin of a dataset, without the network; of a stream not how many rows it has."""
    is_here = isinstance(dataset, Dataset)
    return DatasetSource(
        name=name,
        config_name=config_name,
        split=str(dataset.split) if dataset.split is not None else None,
        revision=revision,
        fingerprint=dataset._fingerprint if is_here else "",
        num_rows=len(dataset) if is_here else 0,
        license=dataset.info.license or None,
    )


def content_id(dataset: Dataset, image_column: str, label_column: str) -> str:
    """Hash of all labels and of some images spread over the rows.

    The fingerprint that `datasets` gives changes with the way a dataset is loaded and with its format; this does not.
    """
    content = hashlib.sha256(json.dumps(column_array(dataset, label_column).to_pylist()).encode())
    rows = np.unique(np.linspace(0, len(dataset) - 1, _IMAGES_HASHED).astype(np.int64))
    for image in column_array(dataset.select(rows), image_column).to_pylist():
        image = image or {}
        content.update(image.get("bytes") or bytes_there(image.get("path") or ""))
    return content.hexdigest()[:16]


class LabelsHash:
    """Hash of the labels of a stream, with which its `content_id` begins."""

    def __init__(self) -> None:
        self._content = hashlib.sha256()

    def add(self, labels: pa.Array | pa.ChunkedArray) -> None:
        """Add the next labels, or captions, of the column as it is."""
        for start in range(0, len(labels), _LABELS_AT_ONCE):
            for label in labels[start : start + _LABELS_AT_ONCE].to_pylist():
                self._content.update(f"{json.dumps(label)}\n".encode())

    @property
    def id(self) -> str:
        """The hash of all labels so far, which tells that it is one of labels."""
        return _OF_LABELS + self._content.hexdigest()[:16]


def labels_id(dataset: Dataset, label_column: str) -> str:
    """The [`LabelsHash`] of a dataset."""
    labels = LabelsHash()
    labels.add(column_array(dataset, label_column))
    return labels.id


def sampled_rows(start: int, stop: int) -> list[int]:
    """Those of the rows 0, 1, 2, 4, 8, ... that lie in a part; nobody has to know how many rows there are."""
    return [row for row in (0, *(1 << power for power in range(stop.bit_length()))) if start <= row < stop]


def sampled_images(images: Dataset, image_column: str, start: int = 0) -> list[str]:
    """Hashes of the images of the [`sampled_rows`] of a part, the first of which is in row `start`."""
    rows = [row - start for row in sampled_rows(start, start + len(images))]
    sampled = column_array(images.select(rows), image_column).to_pylist()
    files = [(image or {}).get("bytes") or bytes_there((image or {}).get("path") or "") for image in sampled]
    return [hashlib.sha256(file).hexdigest() for file in files]


def stream_id(labels: str, sampled: Sequence[str]) -> str:
    """The `content_id` of a stream: its [`LabelsHash`], and the hash of its [`sampled_images`]."""
    return f"{labels}-{hashlib.sha256(''.join(sampled).encode()).hexdigest()[:16]}"


def has_content_of(dataset: Dataset, source: DatasetSource) -> bool:
    """Whether a dataset with the columns of the source has its content, by the hash that the source has."""
    if source.content_id.startswith(_OF_LABELS):
        labels = labels_id(dataset, source.label_column)
        return source.content_id == stream_id(labels, sampled_images(dataset, source.image_column))
    return content_id(dataset, source.image_column, source.label_column) == source.content_id


def fingerprint_with_files(dataset: Dataset, image_column: str, fingerprint: str) -> str:
    """A fingerprint that changes with image files too, of which `datasets` hashes the paths alone."""
    images = dataset.data.column(image_column)
    no_bytes = pc.is_null(pc.struct_field(images, "bytes")).to_numpy()
    if not no_bytes.any():
        return fingerprint
    paths = pc.struct_field(images, "path").to_pylist()
    files = hashlib.sha256(fingerprint.encode())
    for row in stored_rows(dataset).tolist():
        path = paths[row] or ""
        try:
            status = os.stat(path) if no_bytes[row] else None
        except (OSError, ValueError):  # a URL, or a name that no file can have
            continue
        if status is not None and stat.S_ISREG(status.st_mode):
            files.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode(errors="replace"))
    return files.hexdigest()[:16]


def bytes_there(path: str) -> bytes:
    """The content of a file, and nothing where it can't be read."""
    try:
        return read_plain_file(path)
    except (OSError, ValueError):  # the decoder tells why it can't be read
        return b""


def _license_of_card(name: str, revision: str | None, token: str | None) -> str | None:
    """The licenses that the README.md of a folder or a repository states, which `datasets` does not read."""
    try:
        card: str | Path = Path(name) / "README.md"
        if not Path(name).is_dir():
            card = hf_hub_download(name, "README.md", repo_type="dataset", revision=revision, token=token)
        stated = (metadata_load(card) or {}).get("license")
    except Exception as error:
        # The rows are there; a card that is broken or out of reach must not stop a run, whatever is wrong with it.
        logger.debug("No license was read for %s: %s", name, error)
        return None
    licenses = [
        entry.strip() for entry in (stated if isinstance(stated, list) else [stated]) if isinstance(entry, str)
    ]
    return ", ".join(filter(None, licenses)) or None

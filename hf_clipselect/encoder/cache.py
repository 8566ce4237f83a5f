"""Features on disk: shards of rows that are written whole, and read only under the key that they were made with."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..errors import InputError, RunError
from ..runtime.files import write_atomically
from ..runtime.words import cut
from .feature_rows import FeatureRows


# Part of every key; raised when the meaning or the layout of the stored features changes.
_FORMAT = 2
SHARD_ROWS = 4096
# All metadata of a file under one name: safetensors writes several names in random order, and equal features should
# give equal bytes.
_METADATA = "hf_clipselect"
_MANIFEST = "manifest.json"
# In the key of a stream: the hash of the images of every shard. Each shard is kept under its own alone.
_CONTENTS = "contents"


@dataclass(frozen=True)
class Shard:
    """Rows `start` to `stop` of the dataset, in one file."""

    index: int
    start: int
    stop: int

    @property
    def file_name(self) -> str:
        return f"images-{self.index:05d}.safetensors"


class FeatureCache:
    """The features folder of a run, created if missing. `key` is everything that decides the image features.

    That of a stream, whose rows are not known before they are read, is made by [`FeatureCache.of_stream`] and grows.
    """

    def __init__(self, folder: Path, *, key: Mapping[str, Any], num_rows: int) -> None:
        self.folder = folder
        self.key = {"format": _FORMAT, "shard_rows": SHARD_ROWS, **key}
        self.num_rows = num_rows
        folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def of_stream(cls, folder: Path, *, key: Mapping[str, Any]) -> "FeatureCache":
        """The cache of a stream of which no row has been read; `key` is all that decides the features but the rows."""
        return cls(folder, key={**key, _CONTENTS: []}, num_rows=0)

    def extend(self, num_rows: int, content: str) -> Shard:
        """The next shard of a stream, with so many rows, all of `content`, the hash of its images."""
        start = self.num_rows
        self.num_rows += num_rows
        self.key[_CONTENTS].append(content)
        return Shard(len(self.contents) - 1, start, self.num_rows)

    @property
    def contents(self) -> list[str]:
        """The hash of the images of each shard of a stream, as far as it has been read."""
        return list(self.key[_CONTENTS])

    @property
    def digest(self) -> str:
        """Hash of the key."""
        return digest(self.key)

    def shards(self) -> list[Shard]:
        starts = range(0, self.num_rows, SHARD_ROWS)
        return [Shard(i, start, min(start + SHARD_ROWS, self.num_rows)) for i, start in enumerate(starts)]

    def check_key(self, *, at_end: bool = False) -> None:
        """Raise `InputError` for features of another key: encoding again may take hours, so the user decides.

        Of a stream, which may be read up to its end or not, the key is compared as far as it has been read.
        """
        there = recorded_key(self.folder)  # without one the shards are checked one by one
        are_streams = _CONTENTS in there and _CONTENTS in self.key  # so many of their shards can be compared
        different = [
            name
            for name in {**there, **self.key}
            if there.get(name) != self.key.get(name) and not (are_streams and name == _CONTENTS)
        ]
        told = [
            f"{name} {cut(json.dumps(there.get(name)), 80)} there, {cut(json.dumps(self.key.get(name)), 80)} now"
            for name in different
        ]
        if are_streams:
            pairs = enumerate(zip(there[_CONTENTS], self.key[_CONTENTS], strict=False))
            told += [f"other images from row {i * SHARD_ROWS} on" for i, (was, now) in pairs if was != now][:1]
            rows = _finished_rows(self.folder)
            if rows is not None and not told and (self.num_rows > rows or (at_end and self.num_rows < rows)):
                told.append(f"{rows} rows there, {self.num_rows} now" + ("" if at_end else " or more"))
        if not there or not told or not any(self.folder.glob("images-*.safetensors")):
            return
        changes = "; ".join(told)
        raise InputError(
            f"The features in {self.folder} were made otherwise: {changes}. "
            + ("Another version of hf_clipselect wrote them. " if {"format", "shard_rows"} & set(different) else "")
            + "Run with the settings they were made with, choose another --output_dir, or pass "
            "--overwrite_output_dir to encode the images anew."
        )

    def is_whole(self, shard: Shard) -> bool:
        """Whether a shard is there, of this key, and undamaged; reads it whole."""
        return _load(self.folder / shard.file_name, self._shard_key(shard)) is not None

    def write(self, shard: Shard, features: np.ndarray, unreadable: Mapping[int, str]) -> None:
        """Store the features (rows, hidden_size) of a shard, and why some of its rows could not be read."""
        _store(self.folder / shard.file_name, self._shard_key(shard), features, unreadable)

    def write_manifest(self, *, complete: bool) -> None:
        """Write the key, and the shards' checksums once all are there: for `check_key`, people and other programs."""
        shards = []
        for shard in self.shards() if complete else []:
            with safe_open(self.folder / shard.file_name, "numpy") as file:
                sha256 = json.loads(file.metadata()[_METADATA])["sha256"]
            shards.append({"file": shard.file_name, "rows": [shard.start, shard.stop], "sha256": sha256})
        manifest = {"key": self.key, "key_sha256": self.digest, "num_rows": self.num_rows, "shards": shards}
        write_atomically(self.folder / _MANIFEST, json.dumps(manifest, indent=2).encode())

    def open(self) -> tuple[FeatureRows, dict[int, str]]:
        """All features, mapped and not read, and why some rows have none; `is_whole` has checked the shards before."""
        parts: list[np.ndarray] = []
        unreadable: dict[int, str] = {}
        for shard in self.shards():
            path = self.folder / shard.file_name
            try:
                # The framework "pt" maps the file, where "numpy" would copy it into memory.
                with safe_open(path, "pt") as file:
                    metadata = json.loads(file.metadata()[_METADATA])
                    parts.append(file.get_tensor("features").numpy())
            except (OSError, SafetensorError, ValueError, KeyError, TypeError):
                metadata = {}
            if metadata.get("key") != self._shard_key(shard):
                raise _vanished(path)
            unreadable.update((int(row), reason) for row, reason in metadata["unreadable"].items())
        return FeatureRows(parts), unreadable

    def _shard_key(self, shard: Shard) -> str:
        key = self.key
        if _CONTENTS in key:
            key = {**key, _CONTENTS: key[_CONTENTS][shard.index]}
        return f"{digest(key)}:{shard.start}-{shard.stop}"


def recorded_key(folder: Path) -> dict[str, Any]:
    """The key that the features in a folder were made with; empty where none are there."""
    try:
        key = json.loads((folder / _MANIFEST).read_bytes())["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return key if isinstance(key, dict) else {}


def _finished_rows(folder: Path) -> int | None:
    """Of how many rows a run left all features in a folder; None where none has come to its end."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
        return int(manifest["num_rows"]) if manifest["shards"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def whole_features(folder: Path) -> tuple[FeatureRows, dict[int, str]] | None:
    """As [`FeatureCache.open`] gives what a finished run left in a folder; None where it is not there whole.

    Nothing is written, and no more than the headers is read.
    """
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
        key, num_rows, is_complete = manifest["key"], int(manifest["num_rows"]), bool(manifest["shards"])
        if not is_complete or (key["format"], key["shard_rows"]) != (_FORMAT, SHARD_ROWS):
            return None
        return FeatureCache(folder, key=key, num_rows=num_rows).open()
    except (OSError, ValueError, KeyError, TypeError, RunError):
        return None


def read_array(path: Path, key: Mapping[str, Any]) -> np.ndarray | None:
    """What `write_array` wrote under the same key; None if it is absent, damaged, or of another key."""
    return _load(path, digest({"format": _FORMAT, **key}))


def read_written(path: Path, key: Mapping[str, Any]) -> np.ndarray:
    """What `write_array` wrote under the same key in this run, or `read_array` found; `RunError` where it is gone."""
    array = read_array(path, key)
    if array is None:
        raise _vanished(path)
    return array


def write_array(path: Path, key: Mapping[str, Any], array: np.ndarray) -> None:
    """Write a small array as float32."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _store(path, digest({"format": _FORMAT, **key}), array, {})


def digest(key: Mapping[str, Any]) -> str:
    """Hash of a JSON-like key, the same in every process."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def _vanished(path: Path) -> RunError:
    return RunError(f"{path} vanished or was replaced while the run was using it; the same command makes it again.")


def _store(path: Path, key: str, features: np.ndarray, unreadable: Mapping[int, str]) -> None:
    features = np.ascontiguousarray(features, dtype=np.float32)
    metadata = {"key": key, "unreadable": {str(row): reason for row, reason in unreadable.items()}}
    metadata["sha256"] = _checksum(features, metadata)
    write_atomically(path, save({"features": features}, {_METADATA: json.dumps(metadata)}))


def _load(path: Path, key: str) -> np.ndarray | None:
    try:
        with safe_open(path, "numpy") as file:
            metadata = json.loads(file.metadata()[_METADATA])
            if metadata["key"] != key:
                return None
            features = file.get_tensor("features")
        if metadata.pop("sha256") != _checksum(features, metadata):
            return None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError):  # of a damaged header
        return None
    return features


def _checksum(features: np.ndarray, metadata: Mapping[str, Any]) -> str:
    # With shape and dtype: a flipped bit there would turn the same bytes into other numbers.
    stored = {**metadata, "shape": features.shape, "dtype": str(features.dtype)}
    checksum = hashlib.sha256(json.dumps(stored, sort_keys=True).encode())
    checksum.update(features.data)
    return checksum.hexdigest()

"""Features on disk: shards of rows that appear whole or not at all, and never outlive the key they were made with."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..files import write_atomically


# Part of every key: raise it when the meaning of the stored features changes.
_FORMAT = 1
SHARD_ROWS = 4096
# All metadata of a file under one name: safetensors writes several in random order, and equal features in equal bytes
# are easier to trust.
_METADATA = "hf_clipselect"


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
    """The features folder of a run.

    Args:
        folder (`Path`): Created if missing.
        key (`Mapping[str, Any]`): Everything that decides the image features. Shards written under another key are not read.
        num_rows (`int`): Rows of the dataset.
    """

    def __init__(self, folder: Path, *, key: Mapping[str, Any], num_rows: int) -> None:
        self.folder = folder
        self.key = {"format": _FORMAT, "shard_rows": SHARD_ROWS, **key}
        self.digest = digest(self.key)
        self.num_rows = num_rows
        folder.mkdir(parents=True, exist_ok=True)

    def shards(self) -> list[Shard]:
        starts = range(0, self.num_rows, SHARD_ROWS)
        return [Shard(i, start, min(start + SHARD_ROWS, self.num_rows)) for i, start in enumerate(starts)]

    def missing(self) -> list[Shard]:
        """Shards that are absent, damaged, or of another key."""
        return [shard for shard in self.shards() if self._read(shard) is None]

    def write(self, shard: Shard, features: np.ndarray, unreadable: Mapping[int, str]) -> None:
        """Store one shard: features (rows, hidden_size) float32, and the rows that could not be read with the reason."""
        features = np.ascontiguousarray(features, dtype=np.float32)
        _store(self.folder / shard.file_name, self.digest, features, unreadable)

    def write_manifest(self) -> None:
        """List the shards with their checksums and the key, for people and for other programs."""
        shards = []
        for shard in self.shards():
            with safe_open(self.folder / shard.file_name, "numpy") as file:
                sha256 = json.loads(file.metadata()[_METADATA])["sha256"]
            shards.append({"file": shard.file_name, "rows": [shard.start, shard.stop], "sha256": sha256})
        manifest = {"key": self.key, "key_sha256": self.digest, "num_rows": self.num_rows, "shards": shards}
        write_atomically(self.folder / "manifest.json", json.dumps(manifest, indent=2).encode())

    def read(self) -> tuple[np.ndarray, dict[int, str]]:
        """All features (num_rows, hidden_size) float32 in row order, and the unreadable rows with the reason."""
        features, unreadable = [], {}
        for shard in self.shards():
            stored = self._read(shard)
            if stored is None:
                raise RuntimeError(
                    f"{self.folder / shard.file_name} vanished or was damaged while the run was using it."
                )
            features.append(stored[0])
            unreadable.update(stored[1])
        return (features[0] if len(features) == 1 else np.concatenate(features)), unreadable

    def _read(self, shard: Shard) -> tuple[np.ndarray, dict[int, str]] | None:
        return _load(self.folder / shard.file_name, self.digest)


def cached_array(path: Path, key: Mapping[str, Any], compute: Callable[[], np.ndarray]) -> np.ndarray:
    """A small array that is computed once for a key and read from `path` from then on."""
    expected = digest({"format": _FORMAT, **key})
    stored = _load(path, expected)
    if stored is not None:
        return stored[0]
    features = np.ascontiguousarray(compute())
    path.parent.mkdir(parents=True, exist_ok=True)
    _store(path, expected, features, {})
    return features


def digest(key: Mapping[str, Any]) -> str:
    """Hash of a JSON-like key, the same in every process."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def _store(path: Path, key: str, features: np.ndarray, unreadable: Mapping[int, str]) -> None:
    metadata = {"key": key, "unreadable": {str(row): reason for row, reason in unreadable.items()}}
    metadata["sha256"] = _checksum(features, metadata)
    write_atomically(path, save({"features": features}, {_METADATA: json.dumps(metadata)}))


def _load(path: Path, key: str) -> tuple[np.ndarray, dict[int, str]] | None:
    """What `_store` wrote under this key; nothing if it is absent, damaged, or of another key."""
    try:
        with safe_open(path, "numpy") as file:
            metadata = json.loads(file.metadata()[_METADATA])
            if metadata["key"] != key:
                return None
            features = file.get_tensor("features")
        if metadata.pop("sha256") != _checksum(features, metadata):
            return None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):  # a damaged header can be anything
        return None
    return features, {int(row): reason for row, reason in metadata["unreadable"].items()}


def _checksum(features: np.ndarray, metadata: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode() + features.tobytes()).hexdigest()

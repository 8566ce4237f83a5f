"""What every shard is scored with: a model, adapters, and what a sample of the data tells of images and texts.

It lies in `reference/` of the working folder: reference.safetensors, reference.json and, with adapters, adapter/.

Legend: K clusters or classes, M reference rows, R texts, D embed_dim.
"""

import hashlib
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from datatrove.io import DataFolder
from safetensors import SafetensorError

from ..adapters.adapter_files import CONFIG_NAME, WEIGHTS_NAME, AdapterFiles, fetch_adapter
from ..errors import InputError
from ..scores.label_judge import LabelJudge
from .whole_files import write_whole


FOLDER = "reference"
_ARRAYS, _FACTS, _ADAPTER = f"{FOLDER}/reference.safetensors", f"{FOLDER}/reference.json", f"{FOLDER}/adapter"
# What the names of the arrays of the label judge begin with.
_JUDGE = "label_judge."
# Part of every key; raised when the same reference would give other scores.
_FORMAT = 2


@dataclass(frozen=True)
class ModelOfSample:
    """The frozen model that the sample was encoded with, and how.

    `identity` is the hash of weights, preprocessing and arithmetic; `white` the white of 16-bit grey images.
    """

    name: str
    revision: str | None
    identity: str
    precision: str
    products: str
    batch_size: int
    white: int
    is_lean: bool


@dataclass(frozen=True)
class ShardColumns:
    """The columns of Parquet shards: of images, of captions or labels, and of uids where there is one."""

    image: str
    text: str
    uid: str | None = None


@dataclass(frozen=True)
class Reference:
    """What shards are scored with. Embeddings are unit-norm, float32, by the kept adapters if there are any, but
    `centroids` `(K, D)`, which are of plain CLIP's and empty where rows have labels: clusters are then classes.

    `embeds` `(M, D)` are those of reference rows, and `clusters` `(M,)`, int64, rising, the cluster of each; of these
    the `num_nearest` `(K,)`, int64, nearest make the diversity of a row, 0 for a cluster without rows. `text_embeds`
    `(R, D)` are those of `texts`: captions that every row's own is compared with; or, with labels, of the classes that
    the sample has rows of, whose numbers are `class_numbers`. `class_of_label` gives the number of the class for each
    label, and `labels_are_numbers` tells that these are numbers, as `classes_of_labels` makes both. `label_judge`
    takes places in `class_numbers`; it is `None` for captions, and where labels could not be judged.
    """

    has_captions: bool
    model: ModelOfSample
    columns: ShardColumns
    seed: int
    num_rows: int  # of the sample
    adapter_id: str | None  # hash of the adapters' files
    texts: list[str]
    class_of_label: dict[str, int]
    labels_are_numbers: bool
    class_numbers: list[int]
    centroids: np.ndarray
    embeds: np.ndarray
    clusters: np.ndarray
    num_nearest: np.ndarray
    text_embeds: np.ndarray
    label_judge: LabelJudge | None

    @property
    def key(self) -> str:
        """Hash of everything that decides the scores of a shard, in 64 hexadecimal digits."""
        return _key(self._arrays(), self._facts())

    def write(self, work: DataFolder, adapter: AdapterFiles | None) -> None:
        """Write it into the working folder, reference.json last; raises `InputError` where another one is there."""
        if work.isfile(_FACTS):
            there = _read_facts(work)
            if there.get("format") != _FORMAT:
                raise InputError(
                    f"The reference in --work_dir {work.path} is damaged, or was made by another version of "
                    f"hf_clipselect. Choose another --work_dir, or remove {FOLDER} there to score all shards anew."
                )
            if (key := there.get("key")) != self.key:
                raise InputError(
                    f"--work_dir {work.path} holds another reference, of the key {str(key)[:12]}..., than the "
                    f"sample gives now, {self.key[:12]}..., and scores may be made with it. Choose another "
                    f"--work_dir, or remove {FOLDER} there to score all shards anew."
                )
            return
        files = {_ARRAYS: self._arrays(), _FACTS: json.dumps({"key": self.key, **self._facts()}, indent=2).encode()}
        if adapter is not None:
            files = {
                f"{_ADAPTER}/{CONFIG_NAME}": adapter.config,
                f"{_ADAPTER}/{WEIGHTS_NAME}": adapter.weights,
            } | files
        for path, content in files.items():
            with write_whole(work, path) as file:
                file.write(content)

    def _arrays(self) -> bytes:
        names = ("centroids", "embeds", "clusters", "num_nearest", "text_embeds")
        arrays = {name: getattr(self, name) for name in names}
        if self.label_judge is not None:
            arrays |= {f"{_JUDGE}{name}": array for name, array in self.label_judge.arrays().items()}
        return safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})

    def _facts(self) -> dict[str, Any]:
        names = "has_captions seed num_rows adapter_id texts class_of_label labels_are_numbers class_numbers".split()
        own = {name: getattr(self, name) for name in names}
        return {"format": _FORMAT, **own, "model": asdict(self.model), "columns": asdict(self.columns)}


def read_reference_of(work: DataFolder) -> Reference:
    """The reference of a working folder; raises `InputError` where it is not there whole."""
    facts = _read_facts(work)
    try:
        with work.open(_ARRAYS) as file:
            content = file.read()
        arrays: dict[str, Any] = safetensors.numpy.load(content)
        key = facts.pop("key", None)
        if facts.get("format") != _FORMAT or _key(content, facts) != key:
            raise ValueError("it is damaged, or was made by another version of hf_clipselect")
        del facts["format"]
        model, columns = ModelOfSample(**facts.pop("model")), ShardColumns(**facts.pop("columns"))
        of_judge = {name: arrays.pop(name) for name in list(arrays) if name.startswith(_JUDGE)}
        judge = (
            LabelJudge.of({name.removeprefix(_JUDGE): array for name, array in of_judge.items()}) if of_judge else None
        )
        return Reference(**facts, **arrays, model=model, columns=columns, label_judge=judge)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"The reference in --work_dir {work.path} can't be used: {error}. Remove {FOLDER} there and run prepare "
            "again."
        ) from None


def read_adapter_of(work: DataFolder, reference: Reference) -> AdapterFiles | None:
    """The adapters of a reference, None where it has none; raises `InputError` where their files are others."""
    if reference.adapter_id is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        for name in (CONFIG_NAME, WEIGHTS_NAME):
            with work.open(f"{_ADAPTER}/{name}") as file:
                Path(folder, name).write_bytes(file.read())
        adapter = fetch_adapter(folder)
    if adapter.files_id != reference.adapter_id:
        raise InputError(
            f"The adapters in --work_dir {work.path} are not those of its reference. Remove {FOLDER} there and run "
            "prepare again."
        )
    return adapter


def _read_facts(work: DataFolder) -> dict[str, Any]:
    try:
        with work.open(_FACTS) as file:
            facts = json.load(file)
        return facts if isinstance(facts, dict) else {}
    except FileNotFoundError:
        raise InputError(
            f"--work_dir {work.path} holds no reference; run prepare first, with the output folder of a run on a "
            "sample."
        ) from None
    except ValueError:
        return {}


def _key(arrays: bytes, facts: dict[str, Any]) -> str:
    return hashlib.sha256(arrays + json.dumps(facts, sort_keys=True).encode()).hexdigest()

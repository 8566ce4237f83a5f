"""Finds the weights of a model: safetensors, else a conversion to safetensors, else a pickle that holds only tensors.
Those of OpenCLIP are one file, and pickles of sentence-transformers too.

Many repositories, CLIP's own among them, have `pytorch_model.bin` and no safetensors on `main`. The account
SFconvertbot of Hugging Face has opened a pull request on most of them that adds the same weights as safetensors.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from json import JSONDecodeError
from pathlib import Path
from zipfile import is_zipfile

import torch
from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HTTPError, RemoteEntryNotFoundError
from safetensors.torch import load_file
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME

from ..runtime.downloads import is_outage
from ..runtime.failures import is_of_the_machine
from ..runtime.files import file_sha256, write_text_atomically
from ..runtime.hub_ids import COMMIT
from .model_place import ModelPlace


CONVERTER = "SFconvertbot"

_SAFETENSORS = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME)
_PICKLES = (WEIGHTS_NAME, WEIGHTS_INDEX_NAME)
# The names of OpenCLIP for one file, and that of transformers, which it takes too.
_OPEN_CLIP = ("open_clip_model.safetensors", SAFE_WEIGHTS_NAME, "open_clip_pytorch_model.bin")
_SHARD = re.compile(r"pytorch_model[\w.-]*\.bin")
# The Hub client's cache keeps the names of commits under refs/. This one is ours; it is removed with the commit.
_CHOSEN = "refs/hf_clipselect/weights-of-{commit}"


@dataclass(frozen=True)
class Weights:
    """The files that the weights of a model are read from.

    `revision` is the commit of the conversion that holds them, by default the model's own; `pickles` are
    `pytorch_model.bin` or its shards, where there are no safetensors, and `hashes` their sha256 by name, which for one
    file is the one that the Hub shows. `safetensors` is the file of a model of OpenCLIP, which is not read by
    transformers.
    """

    revision: str | None = None
    pickles: tuple[Path, ...] = ()
    hashes: dict[str, str] = field(default_factory=dict)
    safetensors: Path | None = None


def find_weights(place: ModelPlace) -> Weights:
    """The weights of a model; what is not safetensors of its own commit on the Hub is downloaded here.

    The choice for a commit is kept beside it in the cache, so that later runs take the same weights, also offline. A
    folder without weights is no error here: `transformers` tells of it. Raises `ValueError` where no weights can be
    read, the index of their shards is damaged, or a shard is missing; `HTTPError` or `OSError` where the Hub refuses
    or is out of reach, and the cache does not have what is needed.
    """
    if place.is_open_clip:
        return _one_file(place, _OPEN_CLIP)
    if place.part is not None:
        is_safe = any(place.file(name) is not None for name in _SAFETENSORS)
        return Weights() if is_safe else _one_file(place, (WEIGHTS_NAME,))
    return _in_folder(place.snapshot) if place.is_local else _on_hub(place)


def read_tensors(weights: Weights) -> dict[str, torch.Tensor]:
    """The tensors of a model of OpenCLIP by their names, on the CPU; errors are those of [`read_pickles`].

    A file of safetensors that is damaged raises what the library raises.
    """
    return read_pickles(weights) if weights.safetensors is None else load_file(weights.safetensors)


def read_pickles(weights: Weights) -> dict[str, torch.Tensor]:
    """The tensors of pickles by their names, on the CPU, mapped where the files allow it.

    Raises `ValueError` for a file that is damaged, or holds anything but tensors by name, such as code to run.
    """
    tensors: dict[str, torch.Tensor] = {}
    for path in weights.pickles:
        try:
            # Files from before PyTorch 1.6 are no zip files and can't be mapped.
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
        except Exception as error:  # bytes from anybody make the unpickler raise anything
            if is_of_the_machine(error):
                raise
            raise ValueError(
                f"{path.name} is refused: it is damaged, or holds more than tensors and may run code when it is read."
            ) from None
        if not isinstance(found, Mapping) or not all(
            isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in found.items()
        ):
            raise ValueError(
                f"{path.name} holds no tensors by name, as `save_pretrained` of transformers writes them."
            )
        tensors |= found
    return tensors


def _one_file(place: ModelPlace, names: tuple[str, ...]) -> Weights:
    for name in names:
        if (path := place.file(name)) is not None:
            return Weights(safetensors=path) if name.endswith(".safetensors") else _of_pickles([path])
    raise ValueError(f"it has none of {', '.join(names)}.")


def _in_folder(folder: Path) -> Weights:
    there = [name for name in (*_SAFETENSORS, *_PICKLES) if (folder / name).is_file()]
    if not there or there[0] in _SAFETENSORS:
        return Weights()
    paths = [folder / part for part in _parts(folder / there[0])]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise ValueError(f"the shard {missing[0]} that {there[0]} names is missing.")
    return _of_pickles(paths)


def _on_hub(place: ModelPlace) -> Weights:
    repo_id, commit, token = place.source, place.snapshot.name, place.token
    if _cached(repo_id, _SAFETENSORS, commit):
        return Weights()
    record = place.snapshot.parents[1] / _CHOSEN.format(commit=commit)
    chosen = _read_record(record) or _choose(repo_id, commit, token)
    if chosen is None:
        return Weights()
    if chosen != commit:
        _download(repo_id, _SAFETENSORS, chosen, token)
        weights = Weights(revision=chosen)
    else:
        names = _parts(_download(repo_id, _PICKLES, commit, token))
        parts = [Path(hf_hub_download(repo_id, name, revision=commit, token=token)) for name in names]
        weights = _of_pickles(parts)
    with suppress(OSError):  # in a cache that may not be written to, the Hub is asked each time
        record.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(record, chosen)
    return weights


def _choose(repo_id: str, commit: str, token: str | None) -> str | None:
    """The commit to take the weights from; None if they are safetensors of the commit itself."""
    try:
        _, files = _files(repo_id, commit, token)
    except (HTTPError, OSError, JSONDecodeError) as error:
        # Without the Hub, pickles that another program left in the cache will do.
        if _cached(repo_id, _PICKLES, commit) and is_outage(error):
            return commit
        raise
    if not files.keys().isdisjoint(_SAFETENSORS):
        return None
    if (conversion := _find_conversion(repo_id, files, token)) is not None:
        return conversion
    if not files.keys().isdisjoint(_PICKLES):
        return commit
    if any(name.endswith(".safetensors") for name in files):  # under a name that the config may give
        return None
    raise ValueError(
        f"it has neither {SAFE_WEIGHTS_NAME} nor {WEIGHTS_NAME}, whole or in shards, and no conversion by {CONVERTER}."
    )


def _find_conversion(repo_id: str, files: Mapping[str, str | None], token: str | None) -> str | None:
    """The commit of an open pull request of the converter that holds safetensors of the very pickles in `files`."""
    try:
        opened = list(
            HfApi(token=token).get_repo_discussions(
                repo_id, repo_type="model", author=CONVERTER, discussion_type="pull_request", discussion_status="open"
            )
        )
    except HfHubHTTPError as error:
        if is_outage(error):
            raise
        return None  # discussions are switched off
    except (JSONDecodeError, KeyError):  # a mirror of the Hub has none
        return None
    for request in opened:
        if request.author != CONVERTER or not request.is_pull_request or request.status not in ("open", "draft"):
            continue
        converted_at, converted = _files(repo_id, request.git_reference, token)
        # With other pickles beside it, it is a conversion of other weights than those asked for.
        if not converted.keys().isdisjoint(_SAFETENSORS) and _pickles_of(converted) == _pickles_of(files):
            return converted_at
    return None


def _files(repo_id: str, revision: str | None, token: str | None) -> tuple[str | None, dict[str, str | None]]:
    """The commit, and each of its files with the id of its content."""
    info = HfApi(token=token).model_info(repo_id, revision=revision, files_metadata=True)
    return info.sha, {file.rfilename: file.blob_id for file in info.siblings or ()}


def _pickles_of(files: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name: oid for name, oid in files.items() if name in _PICKLES or _SHARD.fullmatch(name)}


def _cached(repo_id: str, names: tuple[str, ...], commit: str) -> bool:
    return any(isinstance(try_to_load_from_cache(repo_id, name, revision=commit), str) for name in names)


def _download(repo_id: str, names: tuple[str, str], commit: str, token: str | None) -> Path:
    """The file of all weights, or the index of its shards."""
    whole, index = names
    known = _cached(repo_id, (index,), commit)
    try:
        return Path(hf_hub_download(repo_id, index if known else whole, revision=commit, token=token))
    except RemoteEntryNotFoundError:
        return Path(hf_hub_download(repo_id, index, revision=commit, token=token))


def _parts(path: Path) -> list[str]:
    """The names of the files that hold the weights: the file itself, or the shards that an index names."""
    if path.name != WEIGHTS_INDEX_NAME:
        return [path.name]
    try:
        names = sorted(set(json.loads(path.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        names = []
    if not names or not all(isinstance(name, str) and _SHARD.fullmatch(name) for name in names):
        raise ValueError(f"{path.name} is damaged: it must name shards such as pytorch_model-00001-of-00002.bin.")
    return names


def _of_pickles(paths: list[Path]) -> Weights:
    return Weights(pickles=tuple(paths), hashes={path.name: file_sha256(path) for path in paths})


def _read_record(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    return text if COMMIT.fullmatch(text) else None

"""The two files of published adapters, in memory: what is checked is what is loaded, hashed and written elsewhere."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from peft import PeftConfig
from safetensors import SafetensorError

from ..errors import InputError
from ..runtime.downloads import fetch_files
from ..runtime.words import in_one_line
from .peft_configs import parse_adapter_config, read_config_bytes


CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
# Read into memory whole; copies of all of a ViT-L/14 in float32 have 1.7 GB.
_MAX_WEIGHTS_BYTES = 2 * 2**30


@dataclass(frozen=True)
class AdapterFiles:
    """Adapters as they were found: the config is valid, and nothing is checked against a model yet.

    `name` is the Hub id or the absolute path of a folder, `revision` the commit on the Hub; `config` and `weights` are
    the content of adapter_config.json and adapter_model.safetensors. `peft_config` is for inference; `unknown_keys`
    are those that this version of peft does not know.
    """

    name: str
    revision: str | None
    config: bytes
    weights: bytes
    peft_config: PeftConfig
    unknown_keys: list[str]

    def __str__(self) -> str:
        return _described(self.name, self.revision)

    @property
    def files_id(self) -> str:
        """Hash of the two files, equal to the `adapter_files_id` of a folder that holds them."""
        return _hash(self.config + self.weights)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The weights by their names in the file, on the CPU; raises `InputError` for a damaged file."""
        try:
            return safetensors.torch.load(self.weights)
        except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
            raise InputError(f"The {WEIGHTS_NAME} of {self} is damaged: {in_one_line(error, 200)}.") from None

    def write_to(self, folder: Path) -> None:
        """Write the two files, byte for byte, into a folder that exists."""
        (folder / CONFIG_NAME).write_bytes(self.config)
        (folder / WEIGHTS_NAME).write_bytes(self.weights)


def fetch_adapter(
    repo_or_folder: str | Path, *, revision: str | None = None, token: str | None = None
) -> AdapterFiles:
    """Read adapters from a folder that exists, or from one commit of a repository on the Hub; `revision` is a branch,
    tag or commit, by default `main`, and `token` that of the Hub, by default the logged-in one.

    Raises `InputError` where there is no such folder or repository, a revision is given for a folder, or it holds no
    adapters in safetensors, with a config that can be used.
    """
    name, commit = str(repo_or_folder), None
    if os.path.isdir(name):
        if revision is not None:
            raise InputError(f"{name} is a local folder, which has no revision {revision!r}; leave revision out.")
        name = os.path.abspath(name)
        folder = Path(name)
    else:
        fetched = fetch_files(name, [CONFIG_NAME], repo_type="model", revision=revision, token=token)
        folder, commit = fetched.folder, fetched.revision
    config = _read(name, folder / CONFIG_NAME)
    parsed = parse_adapter_config(f"The {CONFIG_NAME} of {_described(name, commit)}", config)
    if commit is not None:  # only now: for a config that is refused no weights are downloaded
        both = [CONFIG_NAME, WEIGHTS_NAME]
        folder = fetch_files(name, both, repo_type="model", revision=commit, token=token).folder
    return AdapterFiles(name, commit, config, _read(name, folder / WEIGHTS_NAME), *parsed)


def adapter_files_id(folder: Path) -> str | None:
    """Hash of the adapter files in a folder, by which a run recognises those that it left; None if there are none."""
    files = [path for path in (folder / CONFIG_NAME, folder / WEIGHTS_NAME) if path.is_file()]
    return _hash(b"".join(path.read_bytes() for path in files)) if files else None


def _described(name: str, revision: str | None) -> str:
    return f"{name} (revision {revision})" if revision else f"the folder {name!r}"


def _read(name: str, path: Path) -> bytes:
    try:
        if path.name == CONFIG_NAME:
            return read_config_bytes(path)
        if (size := path.stat().st_size) > _MAX_WEIGHTS_BYTES:
            told = f"{path.name} has {size:,} bytes; at most {_MAX_WEIGHTS_BYTES:,} are read"
            raise InputError(f"{name} holds no adapter that can be loaded: {told}.")
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{name} holds no adapter that can be loaded: {path.name} can't be read ({error.strerror}). Expected "
            f"{CONFIG_NAME} and {WEIGHTS_NAME}; weights in pickle files such as adapter_model.bin, which can run "
            "code, are never read."
        ) from None


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]

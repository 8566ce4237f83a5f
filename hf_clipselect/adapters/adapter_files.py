"""The two files of published adapters, in memory: what is checked is what is loaded, hashed and written elsewhere."""

import hashlib
import os
from dataclasses import dataclass, replace
from functools import cached_property
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
# Read into memory whole; adapters have some megabytes, and copies of all of a ViT-L/14 in float32 1.7 GB.
_MAX_WEIGHTS_BYTES = 2 * 2**30


@dataclass(frozen=True)
class AdapterFiles:
    """Adapters as they were found; the config is one that can be used, and not yet checked against a model.

    Args:
        name (`str`): Hub id, or absolute path of a folder.
        revision (`str`, *optional*): Commit on the Hub.
        config, weights (`bytes`): Content of adapter_config.json and adapter_model.safetensors.
    """

    name: str
    revision: str | None
    config: bytes
    weights: bytes

    def __str__(self) -> str:
        return f"{self.name} (revision {self.revision})" if self.revision else f"the folder {self.name!r}"

    @property
    def files_id(self) -> str:
        """Hash of the two files, equal to the `adapter_files_id` of a folder that holds them."""
        return _hash(self.config + self.weights)

    @cached_property
    def parsed_config(self) -> tuple[PeftConfig, list[str]]:
        """As `parse_adapter_config`."""
        return parse_adapter_config(f"The {CONFIG_NAME} of {self}", self.config)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The weights by their names in the file, on the CPU.

        Raises:
            InputError: The file is not in the safetensors format.
        """
        try:
            return safetensors.torch.load(self.weights)
        except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
            raise InputError(f"The {WEIGHTS_NAME} of {self} is damaged: {in_one_line(error, 200)}.") from None

    def write_to(self, folder: Path) -> None:
        """Write the two files, byte for byte, into a folder that exists."""
        (folder / CONFIG_NAME).write_bytes(self.config)
        (folder / WEIGHTS_NAME).write_bytes(self.weights)


def fetch_adapter(repo_or_folder: str | Path, *, revision: str | None = None) -> AdapterFiles:
    """Read adapters from a folder, or from one commit of a repository on the Hub.

    Args:
        repo_or_folder (`str` or `Path`): A folder that exists, or a Hub id.
        revision (`str`, *optional*): Branch, tag or commit of the repository; default `main`.

    Returns:
        `AdapterFiles`

    Raises:
        InputError: There is no such folder or repository, a revision is given for a folder, or it holds no adapters in
            safetensors, with a config that can be used.
    """
    name, commit = str(repo_or_folder), None
    if os.path.isdir(name):
        if revision is not None:
            raise InputError(f"{name} is a local folder, which has no revision {revision!r}; leave revision out.")
        name = os.path.abspath(name)
        folder = Path(name)
    else:
        fetched = fetch_files(name, [CONFIG_NAME], repo_type="model", revision=revision)
        folder, commit = fetched.folder, fetched.revision
    adapter = AdapterFiles(name, commit, _read(name, folder / CONFIG_NAME), weights=b"")
    adapter.parsed_config  # noqa: B018 - raises before weights are downloaded for it
    if commit is not None:
        folder = fetch_files(name, [CONFIG_NAME, WEIGHTS_NAME], repo_type="model", revision=commit).folder
    return replace(adapter, weights=_read(name, folder / WEIGHTS_NAME))


def adapter_files_id(folder: Path) -> str | None:
    """Hash of the adapter in a folder, by which a run knows whether it is the one that it left; nothing if there is
    none.
    """
    files = [path for path in (folder / CONFIG_NAME, folder / WEIGHTS_NAME) if path.is_file()]
    return _hash(b"".join(path.read_bytes() for path in files)) if files else None


def _read(name: str, path: Path) -> bytes:
    try:
        if path.name == CONFIG_NAME:
            return read_config_bytes(path)
        size = path.stat().st_size
        if size > _MAX_WEIGHTS_BYTES:
            raise InputError(
                f"{name} holds no adapter that can be loaded: {path.name} has {size:,} bytes; at most "
                f"{_MAX_WEIGHTS_BYTES:,} are read."
            )
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{name} holds no adapter that can be loaded: {path.name} can't be read ({error.strerror}). Expected "
            f"{CONFIG_NAME} and {WEIGHTS_NAME}; weights in pickle files such as adapter_model.bin, which can run "
            "code, are never read."
        ) from None


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]

"""Which files a folder may say that it consists of: its own, since somebody else may have written what it says."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datasets import DatasetBuilder

from ..errors import InputError


def check_builder(builder: DatasetBuilder, folder: str, shown: str) -> None:
    """Refuse files outside of a folder that a `README.md` names: their rows would go into the subset.

    Args:
        builder (`DatasetBuilder`): As it was made from the folder; nothing of it is read yet.
        folder (`str`): The folder. `datasets` itself looks after repositories on the Hub.
        shown (`str`): The folder, as a message may name it.

    Raises:
        InputError: With the first such file.
    """
    own = (f"{os.path.abspath(folder)}/", f"{os.path.realpath(folder)}/")
    for paths in (builder.config.data_files or {}).values():
        for path in paths:
            if "://" in path or not os.path.abspath(path).startswith(own):
                raise InputError(_outside("README.md", path, shown))


def check_saved(folder: str, shown: str) -> None:
    """The same for the files that the `state.json` of a folder that `save_to_disk` wrote names, and for its splits.

    Raises:
        InputError: With the first such file.
    """
    splits = _read(Path(folder, "dataset_dict.json")).get("splits")
    splits = [split for split in splits if isinstance(split, str)] if isinstance(splits, list) else []
    _check_names("dataset_dict.json", splits, shown)
    for part in ("", *splits):
        files = _read(Path(folder, part, "state.json")).get("_data_files")
        files = [file for file in files if isinstance(file, dict)] if isinstance(files, list) else []
        _check_names("state.json", [str(file.get("filename")) for file in files], shown)


def _check_names(said_in: str, names: Iterable[str], shown: str) -> None:
    for name in names:
        if os.path.isabs(name) or ".." in Path(name).parts or "://" in name:
            raise InputError(_outside(said_in, name, shown))


def _outside(said_in: str, path: str, shown: str) -> str:
    return (
        f"The {said_in} of {shown} names {path!r}, which lies outside of it and would go into the subset. If you "
        "trust whoever wrote it, load that place by its own name."
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):  # `datasets` tells what is wrong with it
        return {}
    return content if isinstance(content, dict) else {}

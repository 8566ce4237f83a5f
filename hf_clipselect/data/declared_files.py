"""Refuses a folder that names files outside of it: somebody else may have written it, and a subset would have them."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datasets import DatasetBuilder

from ..errors import InputError


def check_builder(builder: DatasetBuilder, folder: str, shown: str) -> None:
    """Raise `InputError` if the `README.md` of a folder names a file outside of it; nothing is read yet.

    `datasets` itself checks this for repositories on the Hub. A message calls the folder `shown`.
    """
    own = (f"{os.path.abspath(folder)}/", f"{os.path.realpath(folder)}/")
    for paths in (builder.config.data_files or {}).values():
        for path in paths:
            if "://" in path or not os.path.abspath(path).startswith(own):
                raise InputError(_told("README.md", path, shown))


def check_saved(folder: str, shown: str) -> None:
    """The same for a folder that `save_to_disk` wrote: for its splits, and for the files that `state.json` names."""
    splits = _entries(Path(folder, "dataset_dict.json"), "splits", str)
    _check_names("dataset_dict.json", splits, shown)
    for part in ("", *splits):
        files = _entries(Path(folder, part, "state.json"), "_data_files", dict)
        _check_names("state.json", [str(file.get("filename")) for file in files], shown)


def _check_names(said_in: str, names: Iterable[str], shown: str) -> None:
    for name in names:
        if os.path.isabs(name) or ".." in Path(name).parts or "://" in name:
            raise InputError(_told(said_in, name, shown))


def _told(said_in: str, path: str, shown: str) -> str:
    return (
        f"The {said_in} of {shown} names {path!r}, which lies outside of it and would go into the subset. If you "
        "trust whoever wrote it, load that place by its own name."
    )


def _entries(path: Path, key: str, kind: type) -> list[Any]:
    """A list in a JSON file; empty where there is none, which `datasets` tells when it reads the file."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return []
    entries = content.get(key) if isinstance(content, dict) else None
    return [entry for entry in entries if isinstance(entry, kind)] if isinstance(entries, list) else []

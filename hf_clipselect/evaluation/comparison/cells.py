"""Results of a sweep on disk, each under the hash of everything that decides it."""

import ast
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ...runtime.files import make_folder, write_atomically


# Part of every key: raise it when the meaning or the layout of what is stored changes.
_FORMAT = 1
_PACKAGE = Path(__file__).resolve().parents[2]
_APART = {
    "report",
    "hub",
    "cli",
    "classifier",
    "benchmark",
    "sweep_arguments.py",
    "images_arguments.py",
    "images_training.py",
    "sweep_tables.py",
    "figure_files.py",
    "sweep_plots.py",
    "regret_tables.py",
    "tsne.py",
    "rekey.py",
}

Values = dict[str, np.ndarray]


class Cells:
    """A folder of results: what is there is not computed again, and a killed run leaves nothing torn.

    Args:
        folder (`Path`): Created if missing. Several runs may share it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.num_found = self.num_stored = 0
        make_folder(folder, "--output_dir")

    def find(self, key: Mapping[str, Any]) -> Values | None:
        """What was stored under a key.

        Args:
            key (`Mapping`): Plain JSON types.

        Returns:
            `dict[str, np.ndarray]`, *optional*: The arrays by name; nothing if the file is absent or damaged.
        """
        values = _read(self._path(key))
        if values is not None:
            self.num_found += 1
        return values

    def all(self) -> Iterator[tuple[Path, dict[str, Any], Values]]:
        """File, key and arrays of everything that is stored; damaged files are left out."""
        for path in sorted(self._folder.glob("*.npz")):
            values = _read(path)
            if values is not None:
                yield path, json.loads(values.pop("key").item()), values

    def store(self, key: Mapping[str, Any], values: Mapping[str, np.ndarray | float]) -> None:
        """Keep arrays or numbers under a key.

        Args:
            key (`Mapping`): Plain JSON types; kept in the file too, for people who look into it.
            values (`Mapping`): Arrays or numbers by name.
        """
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {**values, "key": json.dumps(key, sort_keys=True)}
        np.savez(buffer, **arrays)
        write_atomically(self._path(key), buffer.getvalue())
        self.num_stored += 1

    def _path(self, key: Mapping[str, Any]) -> Path:
        text = json.dumps({"format": _FORMAT, **key}, sort_keys=True)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"


def _read(path: Path) -> Values | None:
    try:
        # Read before it is opened: a damaged archive closes none of its files.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, KeyError, BadZipFile):
        return None


def digest_of(*contents: np.ndarray | bytes | str) -> str:
    """Hash of arrays, bytes and texts, with their shapes and types.

    Args:
        *contents (`np.ndarray`, `bytes` or `str`): What to hash.

    Returns:
        `str`: 32 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for content in contents:
        if isinstance(content, np.ndarray):
            digest.update(f"{content.dtype}{content.shape}".encode())
            content = np.ascontiguousarray(content).tobytes()
        digest.update(content.encode() if isinstance(content, str) else content)
        digest.update(b"\0")
    return digest.hexdigest()[:32]


@cache
def code_digest(*modules: str) -> str:
    """Hash of the package's own code, so that a changed method is not taken for the one that was measured.

    Comments, docstrings and formatting do not count. What was computed before any other change can be kept with
    [`~hf_clipselect.evaluation.comparison.rekey_cells`].

    Args:
        *modules (`str`): Files of the package, such as "evaluation/digits_network.py"; default all that decides a
            selection, which is everything but what shows it, publishes it or trains on it.

    Returns:
        `str`: 32 hexadecimal digits.
    """
    if modules:
        files = [_PACKAGE / module for module in modules]
    else:
        files = [path for path in _PACKAGE.rglob("*.py") if not _APART & set(path.relative_to(_PACKAGE).parts)]
    return digest_of(*(plain_code(path.read_text(encoding="utf-8")) for path in sorted(files)))


def plain_code(source: str) -> str:
    """Python code without comments and docstrings, formatted in one way.

    Args:
        source (`str`): A file of Python code.

    Returns:
        `str`: The same statements.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
    return ast.unparse(tree)

"""Keeps a sweep valid when the package's code changes without changing what it computes.

The key of every stored result holds a hash of the code, so after any change of the code all results would be computed
again. Here three selections of a sweep are recomputed with the code of today and compared with what was stored.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ...errors import InputError
from .cells import Cells, Values
from .known_methods import FULL, METHODS
from .sweep import CELLS_FOLDER, Row, measure, settings_of
from .sweep_arguments import SweepArguments
from .sweep_tables import LINE, RESULTS_CSV, SETTING, read_rows


NUM_RECOMPUTED = 3
# What a selection or a training cost differs from run to run.
_COSTS = {"cost", "wall_s", "cpu_s", "peak_mb", "train_seconds"}
_IDENTITY = (*SETTING, *LINE, "seed")


@dataclass
class Rekeyed:
    """What came of a recomputation.

    Args:
        compared (`list[str]`): Each result that was compared, in words.
        differences (`list[str]`): Each that is not equal or was not stored; empty where all are.
        num_rekeyed (`int`): Stored results that have the key of today's code now; 0 if there is any difference.
    """

    compared: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    num_rekeyed: int = 0


def rekey_cells(arguments: SweepArguments) -> Rekeyed:
    """Recompute three selections of a sweep and what is trained on them; if all are equal, rekey its cells.

    Compared exactly, costs aside, are the rows of results.csv and the cells, whichever of them the folder has.

    Args:
        arguments ([`SweepArguments`]): Those of the sweep; its `output_dir` holds results.csv, cells/ or both.

    Returns:
        [`Rekeyed`]

    Raises:
        InputError: The folder holds neither, or the data can't be read.
    """
    folder = Path(arguments.output_dir)
    has_cells, has_rows = (folder / CELLS_FOLDER).is_dir(), (folder / RESULTS_CSV).is_file()
    if not has_cells and not has_rows:
        raise InputError(
            f"{folder} has neither {CELLS_FOLDER}/ nor {RESULTS_CSV}; set --output_dir to the folder of a sweep."
        )
    result = Rekeyed()
    with TemporaryDirectory() as scratch:
        rows = _recomputed_rows(replace(arguments, output_dir=scratch))
        if has_rows:
            _compare_rows(rows, read_rows(folder / RESULTS_CSV), result)
        if has_cells:
            stored = Cells(folder / CELLS_FOLDER)
            codes = _compare_cells(Cells(Path(scratch) / CELLS_FOLDER), stored, result)
            if not result.differences:
                result.num_rekeyed = _rekey(stored, codes)
    return result


def _recomputed_rows(arguments: SweepArguments) -> list[Row]:
    """Rows of three selections by different methods, drawn with a fixed seed."""
    rng = np.random.default_rng(0)
    settings = settings_of(arguments)
    rows: list[Row] = []
    for name in np.resize(rng.permutation([name for name in arguments.methods if name != FULL]), NUM_RECOMPUTED):
        setting = settings[rng.integers(len(settings))]
        rows += measure(setting, METHODS[name], [rng.choice(arguments.selection_ratio).item()])
    return rows


def _compare_rows(rows: Sequence[Row], published: Sequence[Row], result: Rekeyed) -> None:
    by_identity = {tuple(row[name] for name in _IDENTITY): row for row in published}
    for row in rows:
        identity = tuple(row[name] for name in _IDENTITY)
        words = f"{RESULTS_CSV}, " + ", ".join(
            f"{name} {value}" for name, value in zip(_IDENTITY, identity, strict=True)
        )
        result.compared.append(words)
        if identity not in by_identity:
            result.differences.append(f"{words}: there is no such row")
            continue
        result.differences += [
            f"{words}: {name} is {value}, not {by_identity[identity].get(name)}"
            for name, value in row.items()
            if name not in _COSTS and not _equal(value, by_identity[identity].get(name, np.nan))
        ]


def _compare_cells(recomputed: Cells, stored: Cells, result: Rekeyed) -> dict[str, str]:
    """Hashes of the code that made the stored cells -> hashes of the code that makes the same today."""
    by_key: dict[str, list[tuple[str, Values]]] = defaultdict(list)
    for _, key, values in stored.all():
        by_key[_without_code(key)].append((key["code"], values))
    codes = {}
    for _, key, values in recomputed.all():
        words = f"{CELLS_FOLDER}/, {_without_code(key)}"
        result.compared.append(words)
        if _without_code(key) not in by_key:
            result.differences.append(f"{words}: there is no such cell")
        for code, old in by_key[_without_code(key)]:
            differing = [name for name in values if name not in _COSTS and not _equal(values[name], old.get(name))]
            result.differences += [f"{words}: {name} differs" for name in differing]
            codes[code] = key["code"]
    return codes


def _rekey(cells: Cells, codes: dict[str, str]) -> int:
    count = 0
    for path, key, values in list(cells.all()):
        if codes.get(key["code"], key["code"]) != key["code"]:
            cells.store({**key, "code": codes[key["code"]]}, values)
            os.unlink(path)
            count += 1
    return count


def _without_code(key: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(key.items()) if name != "code")


def _equal(one: Any, other: Any) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    return np.array_equal(one, other, equal_nan=one.dtype.kind == other.dtype.kind == "f")

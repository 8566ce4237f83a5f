"""`selection.json`: the knobs, the source and the report of a selection, as they are published and read back.

What is written is the same for the same selection, whenever and wherever it is written. What is read may come from
anybody: it is checked before anything is made of it.
"""

import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from ..config.arguments import PLACE_FLAGS
from ..data.source import DatasetSource
from ..runtime.hub_ids import COMMIT, hide_paths
from ..runtime.words import cut
from ..selection import Objective, Size, check_sizes, is_count
from ..selection.objective import PRESETS
from .run_report import write_json


# Names of classes may look like paths, and are none.
_NOT_PATHS = ("classes", "classes_without_images", "groups", "trust")
# A hundred thousand classes take half of it.
_MOST_BYTES = 100_000_000

_TEXT, _TEXT_OR_NONE, _COUNT, _SHARE = (str,), (str, type(None)), (int,), (int, float, type(None))
_ARGUMENT = (str, int, float, bool, list, type(None))
# An object with at least these keys, a list of one shape, or the types of a value; "*" are all keys.
_SHAPE = {
    "objective": {},
    "ratios": [(int, float)],
    "seed": _COUNT,
    "source": {
        "name": _TEXT,
        "config_name": _TEXT_OR_NONE,
        "split": _TEXT_OR_NONE,
        "revision": _TEXT_OR_NONE,
        "fingerprint": _TEXT,
        "num_rows": _COUNT,
        "license": _TEXT_OR_NONE,
        "image_column": _TEXT,
        "label_column": _TEXT,
        "content_id": _TEXT,
    },
    "report": {},
}
_PART_OF_SOURCE = {"data_dir": _TEXT, "data_files": [_TEXT]}
_REPORT_SHAPE = {
    "model": {
        "name": _TEXT,
        "revision": _TEXT_OR_NONE,
        "weights_sha256": _TEXT_OR_NONE,
        "prompt_template": [_TEXT],
    },
    "adaptation": {
        "mode": _TEXT,
        "kept": (bool,),
        "reason": _TEXT,
        "method": _TEXT_OR_NONE,
        "num_steps": _COUNT,
        "held_out_rows": _COUNT,
        "held_out_agreement_plain": _SHARE,
        "held_out_agreement_adapted": _SHARE,
        "standard_error": _SHARE,
    },
    "arguments": {"*": _ARGUMENT},
    "versions": {"*": _TEXT},
    "num_rows": _COUNT,
    "num_unreadable": _COUNT,
    "unreadable": [{"source_index": _COUNT, "reason": _TEXT}],
    "classes": [{"name": _TEXT, "accuracy_before": _SHARE}],
    "accuracy_before": _SHARE,
    "warnings": [_TEXT],
}
_CAPTIONS_SHAPE = {"num_captions": _COUNT, "num_references": _COUNT, "num_clusters": _COUNT}
# Of some models alone; older files have none of them.
_MODEL_EXTRAS = {"weights_revision": _TEXT, "weights_files": {"*": _TEXT}, "in_memory": (bool,)}
_ADAPTER_SHAPE = {"name": _TEXT, "revision": _TEXT_OR_NONE}


def published_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a report that belongs to the selection, without paths on the user's disk.

    Args:
        report (`Mapping[str, Any]`): The report of a run, or what there is of one.

    Returns:
        `dict[str, Any]`: Without `seconds`, and without the arguments that say where the run wrote and what it pushed.
    """
    published = {
        key: value if key in _NOT_PATHS else hide_paths(value) for key, value in report.items() if key != "seconds"
    }
    if "arguments" in published:
        published["arguments"] = {
            name: value for name, value in published["arguments"].items() if name not in PLACE_FLAGS
        }
    return published


def is_whole(report: Mapping[str, Any]) -> bool:
    """Whether a report is that of a run, of which a card can be made; `select_embeddings` makes less."""
    return not report.keys() <= {"adaptation"}


def write_selection(
    path: Path,
    *,
    objective: Objective,
    ratios: tuple[Size, ...],
    seed: int,
    source: DatasetSource,
    report: Mapping[str, Any],
) -> None:
    """Write `selection.json`: the same bytes for the same selection.

    Args:
        path (`Path`): File to write or replace; its folder exists.
        objective (`Objective`), ratios (`tuple[float | int, ...]`), seed (`int`), source (`DatasetSource`): As in
            [`SelectionResult`].
        report (`Mapping[str, Any]`): As [`published_report`] returns it.
    """
    selection = {
        "objective": objective.to_dict(),
        "ratios": list(ratios),
        "seed": seed,
        "source": hide_paths(source.to_dict()),
        "report": report,
    }
    write_json(path, selection)


def read_selection(path: Path) -> dict[str, Any]:
    """Read `selection.json`, which anybody may have written.

    Args:
        path (`Path`): The file.

    Returns:
        `dict[str, Any]`: objective (`Objective`), ratios (`tuple[float | int, ...]`), seed (`int`), source
        (`DatasetSource`) and
            report (`dict`), in which what the scores say is still to be counted.

    Raises:
        OSError: There is no such file.
        ValueError, TypeError, RecursionError: It is not JSON, or a value is missing, of the wrong type or out of
        range.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"selection.json has more than {_MOST_BYTES:,} bytes")
    values = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    _check(values, _SHAPE, "selection.json")
    source, report = values["source"], values["report"]
    _check(source, {name: shape for name, shape in _PART_OF_SOURCE.items() if name in source}, "source")
    source.pop("paths_relative_to", None)
    if source["num_rows"] < 0 or not 0 <= values["seed"] < 2**32:
        raise ValueError(f"{source['num_rows']} rows and seed {values['seed']} are out of range")
    if source["revision"] is not None and not COMMIT.fullmatch(source["revision"]):
        raise ValueError(
            f"source.revision must be a commit of 40 hexadecimal digits, got {cut(repr(source['revision']), 60)}"
        )
    if values["objective"].get("name") not in tuple(PRESETS):
        raise ValueError(f"objective.name must be one of {', '.join(PRESETS)}")
    objective = Objective(**values["objective"])
    if is_whole(report):
        _check(report, _REPORT_SHAPE, "report")
        extras = {name: shape for name, shape in _MODEL_EXTRAS.items() if name in report["model"]}
        _check(report["model"], extras, "report.model")
        if report["adaptation"].get("adapter") is not None:
            _check(report["adaptation"]["adapter"], _ADAPTER_SHAPE, "report.adaptation.adapter")
        if report.setdefault("captions", None) is not None:
            _check(report["captions"], _CAPTIONS_SHAPE, "report.captions")
        # Said twice in the file; what was checked counts.
        report |= {"objective": objective.to_dict(), "source": source, "seed": values["seed"]}
    return {
        "objective": objective,
        "ratios": _checked_sizes(values["ratios"]),
        "seed": values["seed"],
        "source": DatasetSource(**source),
        "report": report,
    }


def _checked_sizes(sizes: list[Size]) -> tuple[Size, ...]:
    """In JSON as here a whole number is a count; what is no number at all stays among the ratios, where it is
    refused.
    """
    if not sizes:
        raise ValueError("selection.json.ratios is empty")
    ratios, counts = ([size for size in sizes if is_count(size) == counted] or None for counted in (False, True))
    check_sizes(ratios, counts)
    return tuple(int(size) if is_count(size) else float(size) for size in sizes)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _check(value: Any, shape: Any, place: str) -> None:
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise ValueError(f"{place} must be an object, got {cut(repr(value), 60)}")
        if missing := [key for key in shape if key not in value and key != "*"]:
            raise ValueError(f"{place} lacks {', '.join(missing)}")
        for key in value if "*" in shape else shape:
            _check(value[key], shape.get(key, shape.get("*")), f"{place}.{key}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise ValueError(f"{place} must be a list, got {cut(repr(value), 60)}")
        for item in value:
            _check(item, shape[0], f"an entry of {place}")
    elif type(value) not in shape or isinstance(value, float) and not isfinite(value):
        expected = " or ".join("null" if kind is type(None) else kind.__name__ for kind in shape)
        raise ValueError(f"{place} must be {expected}, got {cut(repr(value), 60)}")

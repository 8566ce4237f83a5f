"""The dictionary behind `report.json` and `report.html`.

Legend: N rows, C classes. "Agreement" is the fraction of rows whose zero-shot prediction is their given label; it is
an accuracy only as far as the labels are right.
"""

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from ..data.decisions import count_decisions
from ..errors import InputError
from ..runtime.files import write_text_atomically
from ..scores.trust import Trust
from ..selection import AUTO, Size, column_suffix, config_name, is_count
from .compare_command import compare_command
from .noise_summary import noise_summary
from .scores_table import column_values


QUANTILES = ("0", "0.05", "0.25", "0.5", "0.75", "0.95", "1")
SCORES = ("sas", "margin", "sds")
MAX_UNREADABLE_LISTED = 100
MAX_GROUPS_LISTED = 1000
AUTO_DECIMALS = 4
SIZE_ARGUMENTS = ("selection_ratio", "selection_count")


def summarize(
    scores: Dataset,
    *,
    class_names: Sequence[str],
    ratios: Sequence[Size],
    plain_agrees: np.ndarray,
    run: Mapping[str, Any],
    unreadable: Mapping[int, str],
    trust: Trust | None = None,
    share_error: float | None = None,
) -> dict[str, Any]:
    """Count what a run kept and dropped, in plain JSON types; the mean of nothing and NaN are None.

    `scores` is the table of the N rows considered; its column `group`, if there is one, is counted as the classes are.
    `class_names` are all, also those without images, and `ratios` are sizes that have their two columns in the table.
    `plain_agrees` `(N,)`, bool, tells whether CLIP without adapters predicts the given label, and does not count where
    an image could not be read; `unreadable` gives the reason by the `source_index` of such a row. `trust` tells what
    is to be doubted, `share_error` how uncertain the estimated share of wrong labels is. `run` has the entries that
    come ready: source, model, captions, objective, adaptation, arguments, versions, seed, seconds, warnings;
    and of the checks of rows leaks and quality, if they were made.

    Raises `InputError` where `plain_agrees` is of another length.
    """
    if len(plain_agrees) != len(scores):
        raise InputError(
            f"plain_agrees has {len(plain_agrees)} entries for {len(scores)} rows of scores; pass one per row."
        )
    labels, readable = column_values(scores, "label"), column_values(scores, "predicted_label") >= 0
    agrees = np.asarray(plain_agrees)
    rows, agreeing = (np.bincount(labels[mask], minlength=len(class_names)) for mask in (readable, readable & agrees))
    taken = ("source", "model", "captions", "objective", "adaptation", "arguments", "versions", "seed", "seconds")
    report = {
        **{key: run[key] for key in taken},
        "num_unreadable": len(unreadable),
        "unreadable": [
            {"source_index": index, "reason": unreadable[index]}
            for index in sorted(unreadable)[:MAX_UNREADABLE_LISTED]
        ],
        "leaks": run.get("leaks"),
        "quality": run.get("quality"),
        "classes": [
            {"name": name, "accuracy_before": _ratio(agreeing[c], rows[c])} for c, name in enumerate(class_names)
        ],
        "accuracy_before": _mean(agrees, readable),
        "trust": None if trust is None else trust.to_dict(),
        "warnings": run["warnings"],
        "compare_command": compare_command(run["arguments"], run["captions"], ratios),
    }
    return to_json_types(report | _count_kept(report["classes"], scores, ratios, share_error))


def report_at(report: Mapping[str, Any], scores: Dataset, ratios: Sequence[Size]) -> dict[str, Any]:
    """The report of a run for other sizes: what follows from the scores is counted anew, the rest stays.

    `scores` has the two columns of each size; `arguments`, where they name a size, name these.
    """
    arguments, noise = report["arguments"], report.get("noise")
    if not arguments.keys().isdisjoint(SIZE_ARGUMENTS):
        arguments = with_sizes(arguments, ratios)
    counted = _count_kept(report["classes"], scores, ratios, noise["share_error"] if noise else None)
    if "compare_command" in report:
        counted["compare_command"] = compare_command(arguments, report["captions"], ratios)
    return to_json_types({**report, "arguments": arguments, **counted})


def with_sizes(arguments: Mapping[str, Any], sizes: Sequence[Size]) -> dict[str, Any]:
    """The arguments of a run, but for these sizes."""
    by_kind = [[size for size in sizes if is_count(size) == counted] for counted in (False, True)]
    changed = {**arguments, **dict(zip(SIZE_ARGUMENTS, by_kind, strict=True))}
    return {name: value for name, value in changed.items() if name not in SIZE_ARGUMENTS or value}


def to_json_types(value: Any) -> Any:
    """Turn numpy scalars, tuples and paths into what JSON knows, and NaN or an infinity into None."""
    if isinstance(value, Mapping):
        return {str(key): to_json_types(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [to_json_types(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, PathLike):
        return fspath(value)
    return None if isinstance(value, float) and not isfinite(value) else value


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Write or replace a file of strict JSON in UTF-8; NaN, which JSON has no word for, is a `ValueError`."""
    write_text_atomically(path, json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _count_kept(
    classes: Sequence[Mapping[str, Any]], scores: Dataset, ratios: Sequence[Size], share_error: float | None
) -> dict[str, Any]:
    """What follows from the scores; of `classes` only the names and `accuracy_before` are taken."""
    labels, readable = column_values(scores, "label"), column_values(scores, "predicted_label") >= 0
    agrees = column_values(scores, "label_agrees")
    kept = {column_suffix(size): column_values(scores, f"selected_{column_suffix(size)}") for size in ratios}
    counted = _count_cells([entry["name"] for entry in classes], labels, kept)
    num_readable, agreeing = (np.bincount(labels[m], minlength=len(classes)) for m in (readable, agrees & readable))
    for c, entry in enumerate(counted):
        entry["accuracy_before"] = classes[c]["accuracy_before"]
        entry["accuracy_after"] = _ratio(agreeing[c], num_readable[c])
        entry["kept"] = entry.pop("kept")  # behind the others, where it always stood
    return {
        "num_rows": len(scores),
        "classes": counted,
        "classes_without_images": [entry["name"] for entry in counted if entry["rows"] == 0],
        **_count_groups(scores, kept),
        "accuracy_after": _mean(agrees, readable),
        "noise": noise_summary(scores, share_error),
        "decisions": _count_decisions(scores),
        "score_quantiles": {name: _quantiles(column_values(scores, name)) for name in SCORES},
        "subsets": [
            _describe_subset(scores, size, kept[column_suffix(size)], agrees, readable, counted) for size in ratios
        ],
    }


def _count_cells(names: Sequence[str], cells: np.ndarray, kept: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Of each class or group, whose numbers are `cells`, the rows and those that each size keeps."""
    rows = np.bincount(cells, minlength=len(names))
    kept_rows = {suffix: np.bincount(cells[mask], minlength=len(names)) for suffix, mask in kept.items()}
    return [
        {
            "name": name,
            "rows": rows[c],
            "share": _ratio(rows[c], len(cells)),
            "kept": {suffix: counts[c] for suffix, counts in kept_rows.items()},
        }
        for c, name in enumerate(names)
    ]


def _count_groups(scores: Dataset, kept: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The groups with most rows first; there are none where the scores have no such column."""
    if "group" not in scores.column_names:
        return {"num_groups": 0, "groups": []}
    # numpy would sort as many strings as there are rows.
    encoded = pc.dictionary_encode(pa.array(column_values(scores, "group"), pa.string()))
    groups = _count_cells(encoded.dictionary.to_pylist(), encoded.indices.to_numpy(), kept)
    groups.sort(key=lambda entry: (-entry["rows"], entry["name"]))
    return {"num_groups": len(groups), "groups": groups[:MAX_GROUPS_LISTED]}


def _count_decisions(scores: Dataset) -> dict[str, int] | None:
    """How many rows a person decided to keep, relabel or drop, or left open; None where nobody was asked."""
    return count_decisions(column_values(scores, "decision")) if "decision" in scores.column_names else None


def _describe_subset(
    scores: Dataset,
    size: Size,
    kept: np.ndarray,
    agrees: np.ndarray,
    readable: np.ndarray,
    classes: list[dict[str, Any]],
) -> dict[str, Any]:
    suffix = column_suffix(size)
    kept_scores = column_values(scores, f"selection_score_{suffix}")[kept]
    class_shares = [entry["kept"][suffix] / entry["rows"] for entry in classes if entry["rows"]]
    share = _ratio(kept.sum(), readable.sum())
    return {
        "name": config_name(size),
        "suffix": suffix,
        "ratio": share if size == AUTO or is_count(size) else size,
        "count": size if is_count(size) else None,
        "auto_ratio": round(share, AUTO_DECIMALS) if size == AUTO and share is not None else None,
        "rows": kept.sum(),
        "cut_score": kept_scores.min() if len(kept_scores) else None,
        "label_agrees_kept": _mean(agrees, kept & readable),
        "label_agrees_dropped": _mean(agrees, ~kept & readable),
        "class_share_min": min(class_shares, default=None),
        "class_share_max": max(class_shares, default=None),
    }


def _quantiles(values: np.ndarray) -> dict[str, float | None]:
    values = values[np.isfinite(values)]
    return {name: np.quantile(values, float(name)) if len(values) else None for name in QUANTILES}


def _mean(mask: np.ndarray, among: np.ndarray) -> float | None:
    return _ratio((mask & among).sum(), among.sum())


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None

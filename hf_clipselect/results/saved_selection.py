"""A selection as it is saved: `selection.json` (knobs, source, report) and the scores table in `scores/`.

What is written is the same for the same selection, whenever and wherever it is written. What is read may come from
anybody: it is checked before anything is made of it, and the scores are measured before memory is taken for them.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset

from ..config.arguments import PLACE_FLAGS
from ..data.decisions import CHOICES, UNDECIDED, is_right
from ..data.source import DatasetSource
from ..runtime.hub_ids import COMMIT, hide_paths
from ..runtime.parquet import SHARDS
from ..runtime.words import cut
from ..selection import AUTO, Objective, Size, check_sizes, column_suffix, is_count
from ..selection.objective import PRESETS
from .noise_summary import noise_summary
from .run_report import AUTO_DECIMALS, report_at, write_json
from .scores_table import SCORE_COLUMNS, column_values, expected_features


# Names of classes may look like paths, and are none.
_NOT_PATHS = ("classes", "classes_without_images", "groups", "trust", "noise")
_NOT_PUBLISHED = ("seconds", "compare_command")
# A hundred thousand classes take half of it.
_MOST_BYTES = 100_000_000
# What a run writes takes at least 5 bytes a row on disk, where all scores are the same, and some 100 in memory.
_BYTES_OF_A_ROW = 1
_GROWTH, _ALWAYS = 200, 2**24

_TEXT, _TEXT_OR_NONE, _COUNT, _SHARE = (str,), (str, type(None)), (int,), (int, float, type(None))
_ARGUMENT = (str, int, float, bool, list, type(None))
# An object with at least these keys, a list of one shape, or the types of a value; "*" are all keys, and a key with a
# question mark may be missing.
_SHAPE = {
    "objective": {},
    "ratios": [(int, float, str)],
    "auto_ratio?": (int, float),
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
        "data_dir?": _TEXT,
        "data_files?": [_TEXT],
        "first_rows?": _COUNT,
        "id_column?": _TEXT,
    },
    "report": {},
}
_REPORT_SHAPE = {
    "model": {
        "name": _TEXT,
        "revision": _TEXT_OR_NONE,
        "weights_sha256": _TEXT_OR_NONE,
        "prompt_template": [_TEXT],
        # Of some models alone; older files have none of them.
        "weights_revision?": _TEXT,
        "weights_files?": {"*": _TEXT},
        "in_memory?": (bool,),
        "precision?": _TEXT,
        "batch_size?": _COUNT,
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
        "adapter?": {"name": _TEXT, "revision": _TEXT_OR_NONE},
    },
    "arguments": {"*": _ARGUMENT},
    "versions": {"*": _TEXT},
    "num_rows": _COUNT,
    "num_unreadable": _COUNT,
    "unreadable": [{"source_index": _COUNT, "reason": _TEXT}],
    "classes": [{"name": _TEXT, "accuracy_before": _SHARE}],
    "accuracy_before": _SHARE,
    "warnings": [_TEXT],
    "noise?": {"share_error": _SHARE},
    "leaks?": {"reference": _TEXT, "rows": _COUNT, "dropped": (bool,)},
    "quality?": {"rows": _COUNT, "dropped": (bool,), "issues": {"*": _COUNT}},
    "captions?": {"num_captions": _COUNT, "num_references": _COUNT, "num_clusters": _COUNT},
    "decisions?": {"*": _COUNT},
}
# These may also be null.
_NULL = ("adapter?", "captions?", "noise?", "decisions?", "leaks?", "quality?")
# The report of a result of `select_embeddings`, which holds at most this.
_OF_EMBEDDINGS = {"adaptation?": {}, "noise?": {"share_error": _SHARE}}


def published_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a report, or of what there is of one, that belongs to the selection.

    It has neither `seconds` nor what says where the run wrote and pushed, nor paths on the user's disk.
    """
    published = {k: v if k in _NOT_PATHS else hide_paths(v) for k, v in report.items() if k not in _NOT_PUBLISHED}
    if "arguments" in published:
        published["arguments"] = {k: v for k, v in published["arguments"].items() if k not in PLACE_FLAGS}
    return published


def is_whole(report: Mapping[str, Any]) -> bool:
    """Whether a report is that of a run, of which a card can be made; `select_embeddings` makes less."""
    return not {f"{key}?" for key in report} <= _OF_EMBEDDINGS.keys()


def write_selection(
    path: Path,
    *,
    objective: Objective,
    ratios: tuple[Size, ...],
    seed: int,
    source: DatasetSource,
    report: Mapping[str, Any],
    scores: Dataset,
) -> None:
    """Write `selection.json`: the same bytes for the same selection; `report` is one of [`published_report`].

    The share of the readable rows that a ratio "auto" keeps in the scores is noted too.
    """
    selection = {
        "objective": objective.to_dict(),
        "ratios": list(ratios),
        **({"auto_ratio": _auto_ratio(scores)} if AUTO in ratios else {}),
        "seed": seed,
        "source": hide_paths(source.to_dict()),
        "report": report,
    }
    write_json(path, selection)


def _auto_ratio(scores: Dataset) -> float:
    readable, kept = column_values(scores, "predicted_label") >= 0, column_values(scores, f"selected_{AUTO}")
    return round(np.count_nonzero(kept) / np.count_nonzero(readable), AUTO_DECIMALS)


def read_saved(folder: Path) -> dict[str, Any]:
    """Read `selection.json` and `scores/` of a folder, which anybody may have written.

    Gives what [`read_selection`] does, with the scores as `scores` (`Dataset`), and what follows from them counted
    anew in `report`. Raises `OSError` or `pa.ArrowException` where a file is missing or can't be read; `ValueError`,
    `TypeError` or `RecursionError` where a value is missing, of the wrong type or out of range, or the files don't fit
    each other.
    """
    selection = read_selection(folder / "selection.json")
    num_rows, report = selection["source"].num_rows, selection["report"]
    scores = Dataset(read_scores(folder / "scores", num_rows=num_rows))
    _check_scores(scores, selection["ratios"], num_rows=num_rows)
    if is_whole(report):
        if [entry["name"] for entry in report["classes"]] != scores.features["label"].names:
            raise ValueError("the classes of the report are not those of the scores")
        if report["num_rows"] != len(scores):
            raise ValueError(f"the report speaks of {report['num_rows']} rows, the scores have {len(scores)}")
        report = report_at(report, scores, selection["ratios"])
    elif "noise" in report:
        report = {**report, "noise": noise_summary(scores, report["noise"]["share_error"])}
    return {**selection, "scores": scores, "report": report}


def read_selection(path: Path) -> dict[str, Any]:
    """Read `selection.json`, which anybody may have written; raises what [`read_saved`] raises.

    Gives objective (`Objective`), ratios (`tuple[float | int, ...]`), seed (`int`), source (`DatasetSource`) and
    report (`dict`), in which what the scores say is still to be counted.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"selection.json has more than {_MOST_BYTES:,} bytes")
    values = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    _check(values, _SHAPE, "selection.json")
    source, report = values["source"], values["report"]
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
        # Said twice in the file; what was checked counts.
        report |= {"objective": objective.to_dict(), "source": source, "seed": values["seed"]}
        report.setdefault("captions", None)
    else:
        _check(report, _OF_EMBEDDINGS, "report")
    return {
        "objective": objective,
        "ratios": _checked_sizes(values["ratios"]),
        "seed": values["seed"],
        "source": DatasetSource(**source),
        "report": report,
    }


def _checked_sizes(sizes: list[Size]) -> tuple[Size, ...]:
    """In JSON as here a whole number is a count, and every other number or "auto" a ratio."""
    if not sizes:
        raise ValueError("selection.json.ratios is empty")
    ratios, counts = [size for size in sizes if not is_count(size)], [int(size) for size in sizes if is_count(size)]
    check_sizes(ratios or None, counts or None)
    return tuple(int(size) if is_count(size) else size if size == AUTO else float(size) for size in sizes)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _check(value: Any, shape: Any, place: str) -> None:
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise ValueError(f"{place} must be an object, got {cut(repr(value), 60)}")
        if missing := [key for key in shape if key not in value and key != "*" and not key.endswith("?")]:
            raise ValueError(f"{place} lacks {', '.join(missing)}")
        for key, inner in value.items():
            expected = shape.get(key, shape.get(f"{key}?", shape.get("*")))
            if expected is not None and not (inner is None and f"{key}?" in _NULL):
                _check(inner, expected, f"{place}.{key}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise ValueError(f"{place} must be a list, got {cut(repr(value), 60)}")
        for item in value:
            _check(item, shape[0], f"an entry of {place}")
    elif type(value) not in shape or isinstance(value, float) and not isfinite(value):
        expected = " or ".join("null" if kind is type(None) else kind.__name__ for kind in shape)
        raise ValueError(f"{place} must be {expected}, got {cut(repr(value), 60)}")


def read_scores(folder: Path, *, num_rows: int) -> pa.Table:
    """Read the shards of a folder as one table, whose columns are not checked, of at most `num_rows` rows.

    Raises `OSError` or `pa.ArrowException` where a file can't be read; `ValueError` where there is none, or they hold
    more rows than there can be, other values than numbers and texts, or so many of them in so few bytes that they were
    made to fill the memory.
    """
    paths = sorted(folder.absolute().glob(SHARDS))  # pyarrow reads `run:1/...` as a URL
    if not paths:
        raise ValueError("there is no scores/train-00000-of-00001.parquet")
    size = sum(path.stat().st_size for path in paths)
    found = 0
    for path in paths:
        with pq.ParquetFile(path) as file:
            found += file.metadata.num_rows
            _check_schema(file.schema_arrow)
            groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
        _check_growth(sum(group.total_byte_size for group in groups), size)
    if found > num_rows or found * _BYTES_OF_A_ROW > size:
        raise ValueError(f"the scores claim {found} rows in {size} bytes, for a source of {num_rows} rows")
    return pa.concat_tables([_read_shard(path, size) for path in paths])


def _check_schema(schema: pa.Schema) -> None:
    is_number = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    for field in schema:
        if not (_is_text(field.type) or any(test(field.type) for test in is_number)):
            raise ValueError(f"the column {field.name[:100]!r} of the scores holds {str(field.type)[:100]}")


def _read_shard(path: Path, size: int) -> pa.Table:
    """One file; texts that stand there once for many rows are measured before they are repeated."""
    schema = pq.read_schema(path)
    texts = [field.name for field in schema if _is_text(field.type)]
    table = pq.read_table(path, partitioning=None, read_dictionary=texts)
    for name in texts:
        place = table.schema.get_field_index(name)
        column = table.column(place)
        for chunk in column.chunks if pa.types.is_dictionary(column.type) else []:
            lengths = pc.take(pc.binary_length(chunk.dictionary), chunk.indices)
            _check_growth(pc.sum(lengths.cast(pa.int64())).as_py() or 0, size)
        table = table.set_column(place, schema.field(place), column.cast(schema.field(place).type))
    return table.replace_schema_metadata(schema.metadata)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _check_growth(num_bytes: int, size: int) -> None:
    if num_bytes > _GROWTH * size + _ALWAYS:
        raise ValueError(f"the scores would take {num_bytes} bytes of memory, from {size} on disk")


def _check_scores(table: Dataset, sizes: Sequence[Size], *, num_rows: int) -> None:
    """Refuse a scores table in which a column is missing or of another type, or holds what no run writes."""
    names = table.features["label"].names if isinstance(table.features.get("label"), ClassLabel) else []
    expected = expected_features(names, table.column_names, sizes)
    if wrong := [name for name, feature in expected.items() if table.features.get(name) != feature]:
        raise ValueError(f"no column {', '.join(wrong)} of the expected type in the scores")
    rows, labels = column_values(table, "source_index"), column_values(table, "label")
    if len(rows) == 0 or rows[0] < 0 or rows[-1] >= num_rows or (np.diff(rows) <= 0).any():
        raise ValueError(f"source_index does not rise within the {num_rows} rows of the source")
    for name in ("row_id", "group", "leak_of", "quality_issues"):
        if name in expected and table.data.column(name).null_count:
            raise ValueError(f"rows have no {name}")
    if "row_id" in expected and pc.count_distinct(table.data.column("row_id")).as_py() < len(table):
        raise ValueError("two rows have the same row_id")
    if "leak_of" in expected and column_values(table, "leak_of").min() < -1:
        raise ValueError("leak_of lies below -1")
    if not 0 <= labels.min() <= labels.max() < len(names):
        raise ValueError(f"labels lie outside the {len(names)} classes")
    predicted = column_values(table, "predicted_label")
    scores = [column_values(table, name) for name in (*SCORE_COLUMNS, "ensemble") if name in expected]
    readable = predicted >= 0
    if predicted.max() >= len(names) or any((np.isfinite(s) != readable).any() for s in scores):
        raise ValueError("scores are missing or infinite, or predictions lie outside the classes")
    _check_noise_columns(table, expected.keys(), labels, readable)
    _check_decisions(table, expected.keys(), labels)
    for suffix in map(column_suffix, sizes):
        selected, score = (column_values(table, f"{kind}_{suffix}") for kind in ("selected", "selection_score"))
        if not selected.any() or not np.isfinite(score[selected]).all() or not readable[selected].all():
            raise ValueError(f"the selection of {suffix} is empty or holds rows without scores")


def _check_decisions(table: Dataset, names: Collection[str], labels: np.ndarray) -> None:
    """Refuse columns of decisions, where there are any, that hold what no run writes."""
    if "decision" not in names:
        if "given_label" in names:
            raise ValueError("there is a given_label, and no decision")
        return
    if table.data.column("decision").null_count:
        raise ValueError("decision is missing")
    decision = column_values(table, "decision")
    if wrong := set(decision.tolist()) - {*CHOICES, UNDECIDED}:
        raise ValueError(f"a decision is one of {', '.join(CHOICES)}, got {cut(repr(min(wrong)), 60)}")
    given = column_values(table, "given_label") if "given_label" in names else labels
    if not 0 <= given.min() <= given.max() < len(table.features["label"].names):
        raise ValueError("given_label is missing, or lies outside the classes")
    if ((given != labels) != (decision == "relabel")).any():
        raise ValueError("label and given_label differ where no decision says so, or agree where one changed them")
    if (decision == "drop").any() and not (
        "must_drop" in names and column_values(table, "must_drop")[decision == "drop"].all()
    ):
        raise ValueError("a row that a decision drops is none that must be dropped")
    if "label_error_probability" in names:
        wrong = column_values(table, "label_error_probability")[is_right(decision)]
        if (wrong > 0).any():  # of an image that could not be read it is NaN
            raise ValueError("label_error_probability is above 0 where a decision says that the label is right")


def _check_noise_columns(table: Dataset, names: Collection[str], labels: np.ndarray, readable: np.ndarray) -> None:
    """Refuse columns of the noise model, where there are any, that hold what no run writes."""
    if "label_error_probability" in names:
        probability = column_values(table, "label_error_probability")
        if (np.isfinite(probability) != readable).any() or not ((probability >= 0) & (probability <= 1))[
            readable
        ].all():
            raise ValueError("label_error_probability is missing, or lies outside [0, 1]")
    if "clean_label" in names:
        clean = column_values(table, "clean_label")
        if ((clean >= 0) != readable).any() or clean.max() >= len(table.features["label"].names):
            raise ValueError("clean_label is missing, or lies outside the classes")
    if "class_rank" in names:
        rank = column_values(table, "class_rank")
        order = np.lexsort((rank[readable], labels[readable]))
        by_class = labels[readable][order]
        starts = np.searchsorted(by_class, by_class)  # where the class of each row begins
        if (rank[~readable] != -1).any() or (rank[readable][order] != np.arange(len(order)) - starts).any():
            raise ValueError("class_rank does not number the rows of each class from 0")

"""From sorted rows to subsets: the rows of every cluster in the order of taking, cut where quotas of all clusters say.

The order and the quotas are those of one machine. Neither depends on how shards and tasks were cut, and every size
takes a beginning of the same order.

Legend: N rows, n rows of a group of clusters, C clusters, S sizes.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from datatrove.io import DataFolder, get_datafolder

from ..errors import InputError, RunError
from ..scores.arrays import checked_embeds, row_lengths, unit_rows
from ..scores.diversity import class_diversity
from ..selection import (
    FIRST,
    LAST,
    NUM_NEAREST,
    Objective,
    RowColumns,
    class_graph,
    column_suffix,
    config_name,
    joined_graph,
    passes_gate,
    quotas_of_sizes,
    redundancy_scores,
    resolve_objective,
    selection_count,
    selection_scores,
)
from ..selection.exact import finite_scores
from .keyed_step import KeyedStep
from .shuffle import Layout, changed, is_of, metadata_of, read_group, read_sorted, uids_of, write_groups
from .whole_files import read_json, write_whole


RANKED, SELECTED = "ranked", "selected"
OBJECTIVES = ("diverse", "clean")
QUOTAS = "selection_quotas.json"
# What it tells, with the facts that `select` knows besides.
_SUMMARY: dict[str, type] = {
    **dict.fromkeys(("layout", "key"), str),
    **dict.fromkeys(("objective", "sizes", "kept", "clusters"), dict),
    **dict.fromkeys(("rows", "duplicates", "shards", "unreadable"), int),
    "lost": list,
}


def web_objective(name: str | None, *, has_labels: bool, redundancy_weight: float = 0.0) -> Objective:
    """The objective of a selection from shards, by default "clean" for labels and "diverse" for captions.

    Raises `InputError` for another one: "robust" needs whole classes at once, "paper" and "released" normalise over
    all rows or rank anew for each size.
    """
    name = name or ("clean" if has_labels else "diverse")
    if name not in OBJECTIVES:
        reasons = {
            "robust": "herding and its noise model need all embeddings of a class in one memory",
            "paper": "its ranking is another one for each size",
            "released": "it normalises scores over all rows",
        }
        why = f", because {reasons[name]}" if name in reasons else ""
        raise InputError(f"--objective {name} is not offered for shards{why}; choose {' or '.join(OBJECTIVES)}.")
    return resolve_objective(name, {"redundancy_weight": redundancy_weight})


def taking_order(
    objective: Objective, columns: RowColumns, embeds: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The rows `(n,)`, int64, cluster after cluster and within each in the order in which any size takes them, and
    which of all rows, in their own order, pass the gate, `(n,)`, bool.

    Takes the columns of the rows, clusters in place of labels; equal rows are taken in the order given. The image
    embeddings `(n, D)`, of any length, are needed where redundancy counts. Raises `InputError` where a score is not
    finite.
    """
    scores = finite_scores(selection_scores(objective, columns, ratio=1.0))  # alpha is no ratio in these objectives
    passing = passes_gate(objective, columns)
    tiers = np.where(passing, FIRST, LAST)
    if objective.redundancy_weight:
        if embeds is None:
            raise ValueError("Redundancy needs embeddings.")
        scores = redundancy_scores(scores, _graph(columns.labels, embeds), objective.redundancy_weight, tiers=tiers)
    return np.lexsort((-scores, tiers, columns.labels)), passing


def _graph(clusters: np.ndarray, embeds: np.ndarray) -> Any:
    checked = checked_embeds(embeds, "embedding")
    lengths = row_lengths(checked, "embedding")
    by_cluster = np.argsort(clusters, kind="stable")
    parts = []
    for rows in np.split(by_cluster, np.flatnonzero(np.diff(clusters[by_cluster])) + 1):
        found = class_diversity(unit_rows(checked, rows, lengths), 1, num_nearest=NUM_NEAREST)
        if found.nearest is not None and found.cosines is not None:
            parts.append((rows, class_graph(found.nearest, found.cosines)))
    return joined_graph(parts, len(clusters))


class Rank(KeyedStep):
    """Puts the rows of a group of clusters into the order of taking.

    Of rows of one cluster with the same uid the one of the highest margin counts, then of the highest sas and sds, in
    whatever shard it is, and the others are left out.
    Writes `ranked/<group>.parquet`: cluster, uid, shard and row, clusters rising; the metadata counts, for each
    cluster, its rows, those left out, and those that pass the gate. `key` is that of the layout.
    """

    name = "rank"

    def __init__(self, work: str, objective: Objective, key: str) -> None:
        super().__init__(work, key)
        self.objective = objective

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        work = get_datafolder(self.work)
        layout = Layout.read(work, self.key)
        rows = _best_of_each_uid(read_sorted(work, layout, rank))
        table, clusters = rows.table, rows.table.column("cluster").to_numpy().astype(np.int64)
        margin = table.column("margin").to_numpy()
        columns = RowColumns(
            labels=np.unique(clusters, return_inverse=True)[1],
            agrees=margin > 0,
            sas=table.column("sas").to_numpy(),
            margin=margin,
            sds=table.column("sds").to_numpy(),
        )
        order, passing = taking_order(self.objective, columns, _embeds(table) if layout.with_embeddings else None)
        numbers, counts = np.unique(clusters, return_counts=True)
        first = np.bincount(columns.labels, weights=passing).astype(np.int64)
        names = [str(number) for number in numbers.tolist()]
        told = {
            "counts": dict(zip(names, counts.tolist(), strict=True)),
            "first": dict(zip(names, first.tolist(), strict=True)),
            "duplicates": rows.left_out,
        }
        ranked = table.select(["cluster", "uid", "shard", "row"]).take(pa.array(order))
        write_groups(work, ranked_path(rank), ranked, np.array([len(ranked)]), key=layout.key, told=told)


@dataclass(frozen=True)
class _Unique:
    table: pa.Table
    left_out: dict[str, int]  # cluster -> rows


def _best_of_each_uid(table: pa.Table) -> _Unique:
    """The rows sorted by cluster and uid, each uid of a cluster once; of what is the same in all scores the first."""
    clusters, uids = table.column("cluster").to_numpy(), uids_of(table.column("uid"))
    scores = [-table.column(name).to_numpy() for name in ("sds", "sas", "margin")]
    order = np.lexsort((*scores, uids["f1"], uids["f0"], clusters))
    clusters, uids = clusters[order], uids[order]
    repeats = np.zeros(len(order), dtype=bool)
    repeats[1:] = (clusters[1:] == clusters[:-1]) & (uids[1:] == uids[:-1])
    numbers, counts = np.unique(clusters[repeats], return_counts=True)
    left_out = {str(number): count for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)}
    return _Unique(table.take(pa.array(order[~repeats])), left_out)


def _embeds(table: pa.Table) -> np.ndarray:
    column = table.column("embedding").combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1).astype(np.float32)


def ranked_path(number: int) -> str:
    """The rows of a group of clusters in the order of taking."""
    return f"{RANKED}/{number:05d}.parquet"


def cluster_quotas(counts: np.ndarray, sizes: Sequence[float], objective: Objective) -> list[np.ndarray]:
    """How many rows each size takes of each cluster, `(C,)` for each of S sizes, int64, as `select_subsets` shares
    them out: each adds up to exactly k, and none is more than that of a larger size.

    Takes the rows `(C,)` of the clusters. Raises `InputError` where a size keeps no row, or more than there are.
    """
    num_rows = int(counts.sum())
    ks = [selection_count(size, num_rows) for size in sizes]
    quotas: list[np.ndarray] = [counts] * len(ks)
    upper = None
    for place in sorted(range(len(ks)), key=lambda place: -ks[place]):
        upper = quotas_of_sizes(counts, ks[place], balance=objective.class_balance, upper=upper)
        quotas[place] = upper
    return quotas


def write_quotas(
    work: DataFolder, layout: Layout, sizes: Sequence[float], objective: Objective, *, facts: dict[str, Any]
) -> dict[str, Any]:
    """Share every size out among the clusters that were ranked, for [`Cut`] to read; gives what is written.

    That is `key`, of the layout and the sizes, `sizes`, and for each cluster its `rows`, those that pass the gate as
    `first`, `duplicates`, and what each config has `kept`; the facts are written beside these.
    """
    counts: dict[int, int] = {}
    first: dict[int, int] = {}
    duplicates: dict[int, int] = {}
    for number in range(len(layout.group_starts)):
        told = metadata_of(work, ranked_path(number)) or {}
        for name, totals in (("counts", counts), ("first", first), ("duplicates", duplicates)):
            totals.update({int(cluster): count for cluster, count in told[name].items()})
    clusters = sorted(counts)
    quotas = cluster_quotas(np.array([counts[cluster] for cluster in clusters], dtype=np.int64), sizes, objective)
    names = [config_name(size) for size in sizes]
    summary: dict[str, Any] = {
        **facts,
        "layout": layout.key,
        "key": f"{layout.key} {' '.join(names)}",
        "objective": objective.to_dict(),
        "sizes": {name: column_suffix(size) for name, size in zip(names, sizes, strict=True)},
        "kept": {name: int(quota.sum()) for name, quota in zip(names, quotas, strict=True)},
        "rows": sum(counts.values()),
        "duplicates": sum(duplicates.values()),
        "clusters": {
            str(cluster): {
                "rows": counts[cluster],
                "first": first[cluster],
                "duplicates": duplicates.get(cluster, 0),
                "kept": {name: int(quota[place]) for name, quota in zip(names, quotas, strict=True)},
            }
            for place, cluster in enumerate(clusters)
        },
    }
    with write_whole(work, QUOTAS) as file:
        file.write(json.dumps(summary).encode())
    return summary


def read_quotas(work: DataFolder) -> dict[str, Any]:
    """What [`write_quotas`] wrote. Raises `InputError` where nothing has been selected, or it is damaged."""
    if not work.isfile(QUOTAS):
        raise InputError(f"Nothing has been selected in {work.path} yet. Run select first.")
    return read_json(work, QUOTAS, remedy="Run select again.", needs=_SUMMARY)


def read_selection(work: DataFolder, key: str) -> tuple[Layout, dict[str, Any]]:
    """The layout and the quotas of a selection of this key; raises `RunError` where those there are another's."""
    summary = read_quotas(work)
    if summary["key"] != key:
        raise RunError(changed(work))
    return Layout.read(work, summary["layout"]), summary


class Cut(KeyedStep):
    """Takes the first rows of every cluster of a group, as many as the quotas of each size say.

    Writes `selected/<config>/<group>.npy`, the sorted uids that a size keeps; and then `selected/<group>.parquet`,
    whose row groups are the ranges of shards: shard, row, uid and a boolean column for each size, of the rows that any
    size keeps. `key` is that of the quotas.
    """

    name = "cut"

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        work = get_datafolder(self.work)
        layout, summary = read_selection(work, self.key)
        table = read_group(work, [ranked_path(rank)], 0, key=layout.key)
        clusters = table.column("cluster").to_numpy()
        numbers, starts, counts = np.unique(clusters, return_index=True, return_counts=True)
        places = np.arange(len(clusters)) - np.repeat(starts, counts)
        uids, selected = uids_of(table.column("uid")), {}
        if work.exists(selected_path(rank)):
            work.rm_file(selected_path(rank))  # it vouches for the lists, which now become others
        for config, suffix in summary["sizes"].items():
            quotas = np.array([summary["clusters"][str(number)]["kept"][config] for number in numbers.tolist()])
            selected[suffix] = places < np.repeat(quotas, counts)
            kept = uids[selected[suffix]]
            buffer = io.BytesIO()
            np.save(buffer, kept[np.lexsort((kept["f1"], kept["f0"]))])
            with write_whole(work, uids_path(config, rank)) as file:
                file.write(buffer.getbuffer())
        for suffix, rows in selected.items():
            table = table.append_column(f"selected_{suffix}", pa.array(rows))
        table = table.drop_columns(["cluster"]).filter(pa.array(np.any(list(selected.values()), axis=0)))
        table = table.sort_by([("shard", "ascending"), ("row", "ascending")])
        ends = np.searchsorted(
            table.column("shard").to_numpy(), [*layout.range_starts[1:], len(layout.scores)], side="left"
        )
        write_groups(work, selected_path(rank), table, ends, key=summary["key"])


def uids_path(config: str, number: int) -> str:
    """The sorted uids that a size keeps of a group of clusters."""
    return f"{SELECTED}/{config}/{number:05d}.npy"


def selected_path(number: int) -> str:
    """The rows of a group of clusters that any size keeps."""
    return f"{SELECTED}/{number:05d}.parquet"


def is_cut(work: DataFolder, number: int, summary: dict[str, Any]) -> bool:
    """Whether the files of a task of [`Cut`] are there, whole and of this selection."""
    there = all(work.isfile(uids_path(config, number)) for config in summary["sizes"])
    return there and is_of(work, selected_path(number), summary["key"])


def is_selected(work: DataFolder, layout: Layout, summary: dict[str, Any]) -> bool:
    """Whether all rows that were to be selected are: the quotas are those of the layout, and every task was cut."""
    return summary["layout"] == layout.key and all(
        is_cut(work, number, summary) for number in range(len(layout.group_starts))
    )

"""Selecting from score files keeps what one machine keeps of the same scores, however shards and tasks are cut."""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import pytest
from made_shard_scores import KEY, REFERENCE, MadeScores, made_scores, write_failed, write_score_file, write_scores

from hf_clipselect.errors import InputError, RunError
from hf_clipselect.scale.select_commands import add_select, run_select
from hf_clipselect.scale.select_step import web_objective
from hf_clipselect.scores.diversity import class_diversity, neighbor_count
from hf_clipselect.selection import (
    FIRST,
    LAST,
    NUM_NEAREST,
    Candidates,
    NeighborGraph,
    Objective,
    RowColumns,
    class_graph,
    joined_graph,
    passes_gate,
    redundancy_scores,
    select_subsets,
    selection_scores,
)


SIZES = [0.3, 0.05, 0.7]


def select(data: Path, work: Path, *flags: object) -> None:
    parser = argparse.ArgumentParser()
    add_select(parser.add_subparsers())
    ratios = [] if "--selection_count" in flags else ["--selection_ratio", *SIZES]
    arguments = ["select", "--data_dir", data, "--work_dir", work, "--workers", 1, *ratios, *flags]
    run_select(parser.parse_args(list(map(str, arguments))))


def kept(work: Path, config: str) -> list[bytes]:
    """The uids in the files of all groups, each of which is sorted."""
    found = []
    for path in sorted((work / "selected" / config).glob("*.npy")):
        uids = np.load(path)
        assert uids.dtype == np.dtype("u8,u8") and (np.sort(uids) == uids).all()
        found += uids.astype([("f0", ">u8"), ("f1", ">u8")]).view("V16").tolist()
    return sorted(bytes(uid) for uid in found)


def one_machine(made: MadeScores, objective: Objective, sizes: list[float]) -> list[list[bytes]]:
    """What the functions of one machine keep of rows that stand in the order of their uids."""
    order = sorted(range(len(made.uids)), key=lambda row: made.uids[row])
    clusters, margin = made.clusters[order].astype(np.int64), made.margin[order]
    columns = RowColumns(clusters, margin > 0, made.sas[order], margin, made.sds[order])
    scores = selection_scores(objective, columns, 0.3)
    tiers = np.where(passes_gate(objective, columns), FIRST, LAST)
    if objective.redundancy_weight:
        scores = redundancy_scores(scores, like_graph(made, order), objective.redundancy_weight, tiers=tiers)
    cells = np.unique(clusters, return_inverse=True)[1]
    subsets = select_subsets([scores] * len(sizes), Candidates(cells, tiers), sizes, objective)
    return [sorted(made.uids[order[row]] for row in rows) for rows in subsets]


def like_graph(made: MadeScores, order: list[int]) -> NeighborGraph:
    embeds, clusters = made.embeds[order].astype(np.float32), made.clusters[order]
    embeds /= np.linalg.norm(embeds, axis=1, keepdims=True)
    parts = []
    for rows in (np.flatnonzero(clusters == cluster) for cluster in np.unique(clusters)):
        found = class_diversity(embeds[rows], neighbor_count(len(rows), 0.1, None), num_nearest=NUM_NEAREST)
        parts.append((rows, class_graph(found.nearest, found.cosines)))
    return joined_graph(parts, len(order))


@pytest.mark.parametrize("objective", ["diverse", "clean"])
def test_keeps_what_one_machine_keeps(objective, tmp_path):
    made = made_scores(900)
    data, work = write_scores(made, tmp_path)
    select(data, work, "--objective", objective, "--tasks", 3)
    expected = one_machine(made, web_objective(objective, has_labels=False), SIZES)
    assert [kept(work, f"ratio_{name}") for name in (30, 5, 70)] == expected
    assert [len(rows) for rows in expected] == [270, 45, 630]


@pytest.mark.parametrize("tasks", [1, 2, pytest.param(40, marks=pytest.mark.slow)])
def test_neither_shards_nor_tasks_change_what_is_kept(tasks, tmp_path):
    made = made_scores(300, num_shards=5)
    expected = one_machine(made, web_objective("diverse", has_labels=False), SIZES)
    made.shards = np.arange(300) // 30  # the same rows in other shards, of which two more are empty
    made.rows = np.arange(300, dtype=np.int32) % 30
    data, work = write_scores(made, tmp_path, num_shards=12)
    select(data, work, "--tasks", tasks)
    assert [kept(work, f"ratio_{name}") for name in (30, 5, 70)] == expected


def test_slurm_is_handed_one_step_after_the_other(tmp_path, monkeypatch, capsys):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho 7\n")
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    data, work = write_scores(made_scores(60), tmp_path)
    slurm = ("--tasks", 2, "--executor", "slurm", "--slurm_partition", "cpu")
    select(data, work, *slurm)
    assert capsys.readouterr().out == "3 tasks of shuffle handed over; run this again when they ended.\n"
    assert not (work / "sorted").exists()
    select(data, work, "--tasks", 2)  # in place of the cluster
    capsys.readouterr()
    select(data, work, *slurm)
    assert capsys.readouterr().out.startswith("60 rows of 5 shards")


def test_another_size_ranks_nothing_anew(tmp_path, capsys):
    data, work = write_scores(made_scores(200), tmp_path)
    select(data, work)
    ranked = {path: path.stat().st_mtime_ns for path in (work / "ranked").iterdir()}
    select(data, work, "--selection_count", 17)
    assert ranked == {path: path.stat().st_mtime_ns for path in (work / "ranked").iterdir()}
    assert len(kept(work, "count_17")) == 17
    told = capsys.readouterr().out
    assert told.endswith(
        "200 rows of 5 shards, 7 clusters\n200 rows more without scores, which can't be kept\ncount_17: 17 kept\n"
    )


def test_files_that_are_lost_or_of_other_scores_are_made_anew(tmp_path):
    made = made_scores(200)
    data, work = write_scores(made, tmp_path)
    select(data, work, "--tasks", 2)
    expected = kept(work, "ratio_30")
    (work / "sorted" / "00000.parquet").unlink()
    (work / "ranked" / "00001.parquet").write_bytes(b"torn")
    (work / "selected" / "ratio_30" / "00000.npy").unlink()
    select(data, work, "--tasks", 2)
    assert kept(work, "ratio_30") == expected
    made.margin = -made.margin
    for path in (work / "scores" / "part").iterdir():
        shard = int(path.stem)
        mine = np.flatnonzero(made.shards == shard)
        write_score_file(made, mine, path, shard=f"part/{shard:04d}.tar", data=data, key="other")
    (work / "reference" / "reference.json").write_text(json.dumps({**REFERENCE, "key": "other"}))
    select(data, work, "--tasks", 2)
    assert kept(work, "ratio_30") == one_machine(made, web_objective(None, has_labels=False), SIZES)[0] != expected


@pytest.mark.parametrize("order", [1, -1])
def test_of_equal_uids_in_a_cluster_the_best_row_counts_in_whatever_shard(order, tmp_path, capsys):
    made = made_scores(100)
    for row, better in ((60, 10), (90, 10), (94, 95)):
        made.uids[row] = made.uids[better]
        made.clusters[row] = made.clusters[better]
        for name in ("margin", "sas", "sds"):  # equal margins let the next score decide
            getattr(made, name)[row] = getattr(made, name)[better]
    made.margin[60], made.sas[90], made.sds[94] = -2, -1, -1
    best = np.setdiff1d(np.arange(100), [60, 90, 94])
    unique = MadeScores(
        [made.uids[row] for row in best],
        *(getattr(made, name)[best] for name in ("shards", "rows", "clusters", "sas", "margin", "sds")),
        None,
    )
    if order == -1:  # the same rows in shards whose names have another order
        made.shards = 4 - made.shards
    data, work = write_scores(made, tmp_path)
    select(data, work)
    assert "97 rows" in (told := capsys.readouterr().out)
    assert "100 rows more without scores, which can't be kept" in told
    assert "3 rows left out: a row of the cluster with the same uid scores as well or better" in told
    assert kept(work, "ratio_30") == one_machine(unique, web_objective(None, has_labels=False), SIZES)[0]


@pytest.mark.parametrize("name", ["sas", "margin", "sds", "embeds"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_scores_that_are_no_numbers_are_named(name, value, tmp_path):
    made = made_scores(60, dimension=4)
    row = np.flatnonzero(made.shards == 3)[2]
    getattr(made, name)[row] = value
    data, work = write_scores(made, tmp_path)
    column, flags = (name, ()) if name != "embeds" else ("embedding", ("--redundancy_weight", 1))
    told = (
        rf"scores/part/0003.parquet has {column} that is no finite number, first in row {made.rows[row]} of the shard"
    )
    with pytest.raises(InputError, match=rf"{told}. Remove the file and run score again"):
        select(data, work, *flags)


def test_lost_shards_are_accepted_by_their_number_alone(tmp_path):
    made = made_scores(100)
    data, work = write_scores(made, tmp_path)
    (work / "scores" / "part" / "0002.parquet").unlink()
    with pytest.raises(InputError, match=r"1 shard of 5 is not scored yet, .*: part/0002.tar. Run score again"):
        select(data, work)
    failed = write_failed(work, "0002", reason="it is no tar")
    for flags in ((), ("--accept_lost_shards", 2)):
        with pytest.raises(InputError, match=r"part/0002.tar \(it is no tar\).*--accept_lost_shards 1; given was"):
            select(data, work, *flags)
    select(data, work, "--accept_lost_shards", 1)
    assert len(kept(work, "ratio_30")) == round(0.3 * (made.shards != 2).sum())
    failed.unlink()
    mine, path = np.flatnonzero(made.shards == 2), work / "scores/part/0002.parquet"
    write_score_file(made, mine, path, shard="part/0002.tar", data=data)
    with pytest.raises(InputError, match="Leave the flag out, or pass --accept_lost_shards 0"):
        select(data, work, "--accept_lost_shards", 1)


@pytest.mark.parametrize("stale", [{"shard_bytes": 7}, {"shard_version": "mtime 7"}, {"key": "0" * 64}, None])
def test_a_failure_of_something_else_is_no_lost_shard(stale, tmp_path):
    data, work = write_scores(made_scores(50), tmp_path)
    failed = write_failed(work, "0002", reason="it is no tar", **(stale or {}))
    if stale is None:
        failed.write_text('{"reason": "torn')
    with pytest.raises(InputError, match=r"1 shard of 5 is not scored yet, or replaced since: part/0002.tar"):
        select(data, work, "--accept_lost_shards", 1)


@pytest.mark.parametrize("damage", ["key", "shard", "size", "version", "bytes"])
def test_scores_of_something_else_are_refused(damage, tmp_path):
    made = made_scores(50)
    data, work = write_scores(made, tmp_path)
    path, mine = work / "scores" / "part" / "0001.parquet", np.flatnonzero(made.shards == 1)
    shard = data / "part" / "0001.tar"
    other = shard.with_name("0009.tar") if damage == "shard" else shard
    other.touch()
    key = "0" * 64 if damage == "key" else KEY
    write_score_file(made, mine, path, shard=f"part/{other.name}", data=data, key=key)
    if damage == "size":
        written = shard.stat()
        shard.write_bytes(b"more")
        os.utime(shard, ns=(written.st_atime_ns, written.st_mtime_ns))
    elif damage == "version":
        os.utime(shard, (7, 7))
    elif damage == "shard":
        other.unlink()
    elif damage == "bytes":
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"scores/part/0001.parquet is (damaged|of another).*Run score again"):
        select(data, work)


def test_a_flipped_bit_in_a_score_file_is_noticed(tmp_path):
    data, work = write_scores(made_scores(300), tmp_path)
    path = work / "scores" / "part" / "0001.parquet"
    content = bytearray(path.read_bytes())
    content[200] ^= 1  # in the uids
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"scores/part/0001.parquet can't be read: .*; run score and select again"):
        select(data, work)


def test_what_can_not_be_selected_is_refused(tmp_path):
    data, work = write_scores(made_scores(0), tmp_path)
    with pytest.raises(InputError, match="herding and its noise model need all embeddings.*choose diverse or clean"):
        select(data, work, "--objective", "robust")
    with pytest.raises(InputError, match="--tasks must be at least 1, got 0"):
        select(data, work, "--tasks", 0)
    with pytest.raises(InputError, match="No row"):
        select(data, work)
    with pytest.raises(InputError, match="Run prepare and score first"):
        select(data, tmp_path / "nothing")
    with pytest.raises(InputError, match="elsewhere is not there"):
        select(tmp_path / "elsewhere", work)


def test_more_rows_than_there_are_are_refused_before_anything_is_sorted(tmp_path):
    data, work = write_scores(made_scores(50), tmp_path)
    with pytest.raises(InputError, match="--selection_count 51 is more than there are"):
        select(data, work, "--selection_count", 51)
    assert [path.name for path in work.iterdir() if path.name not in ("reference", "scores")] == []


def test_redundancy_takes_copies_last_as_on_one_machine(tmp_path):
    made = made_scores(240, dimension=16, num_clusters=2, ties=False)
    copies = np.flatnonzero(made.clusters == 0)[:40]
    made.embeds[copies] = made.embeds[copies[0]]
    data, work = write_scores(made, tmp_path)
    select(data, work, "--redundancy_weight", 2, "--tasks", 3)
    objective = web_objective(None, has_labels=False, redundancy_weight=2)
    assert kept(work, "ratio_30") == one_machine(made, objective, SIZES)[0]
    assert len(set(kept(work, "ratio_30")) & {made.uids[row] for row in copies}) == 1


def test_redundancy_needs_embeddings(tmp_path):
    data, work = write_scores(made_scores(30), tmp_path)
    with pytest.raises(InputError, match="--redundancy_weight needs scores with embeddings"):
        select(data, work, "--redundancy_weight", 1)

"""The plan of a selection, from given numbers and from scores that are there."""

import argparse
import pickle

import pytest
from datatrove.io import get_datafolder
from made_shard_scores import KEY, made_scores, write_scores

from hf_clipselect.errors import InputError
from hf_clipselect.scale.scale_command import main
from hf_clipselect.scale.select_commands import add_plan
from hf_clipselect.scale.shuffle import checked_scores


def plan(*flags: object) -> None:
    parser = argparse.ArgumentParser()
    add_plan(parser.add_subparsers())
    arguments = parser.parse_args(["plan", *map(str, flags)])
    arguments.run(arguments)


def test_plan_of_a_billion_rows_by_hand(capsys):
    plan("--num_rows", 1e9, "--rows_per_second", 1000, "--gpus", 8, "--largest_cluster", 0.001)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "rows: 1,000,000,000 in about 100,000 shards"
    assert lines[1].startswith("score: 277.8 device hours at 1,000 rows a second ")
    assert lines[1].endswith(", 34.7 hours on 8 at once")
    assert lines[2].startswith("select: 200 to 400 tasks that sort and as many that rank, of up to 1 GB of ")
    assert lines[2].endswith("the largest cluster has 1,000,000 rows")
    assert lines[3].endswith("5 GB of uids at a ratio of 0.3")


def test_plan_is_a_flag_too(capsys):
    assert main(["--plan", "--num_rows", "1e9", "--rows_per_second", "1000"]) == 0
    assert capsys.readouterr().out.startswith("rows: 1,000,000,000 in about 100,000 shards")


def test_plan_from_scores(tmp_path, capsys):
    made = made_scores(500, num_shards=5)
    _, work = write_scores(made, tmp_path)  # 1,000 rows with those that can't be read, 2 seconds a shard
    plan("--num_rows", 1000, "--work_dir", work)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "rows: 1,000 in about 5 shards" and "at 100 rows a second" in lines[1]
    largest = round(1000 * (made.clusters == 0).mean())
    assert lines[2].endswith(f"the largest cluster has {largest} rows")
    plan("--num_rows", 1000, "--work_dir", work, "--rows_per_second", 7)
    assert "at 7 rows a second" in capsys.readouterr().out


def test_plan_counts_embeddings_in_memory(tmp_path, capsys):
    """A task that sorted 40,000 rows with embeddings of 512 numbers took 9.2 kB for each."""
    _, work = write_scores(made_scores(50, dimension=512), tmp_path)
    plan("--num_rows", 1e9, "--work_dir", work, "--largest_cluster", 1e-6)
    assert ", of up to 5 GB of memory" in capsys.readouterr().out.splitlines()[2]


def test_what_is_kept_of_score_files_does_not_grow_with_their_clusters(tmp_path):
    data, work = write_scores(made_scores(3000, num_clusters=500), tmp_path)
    scored = checked_scores(get_datafolder(str(data)), get_datafolder(str(work)), key=KEY)
    assert len(pickle.dumps(scored.files)) < 2000 and sum(scored.counts.values()) == 3000


def test_plan_that_can_not_be_made(tmp_path):
    with pytest.raises(InputError, match="pass --work_dir with the scores of a shard, or --rows_per_second"):
        plan("--num_rows", 10)
    with pytest.raises(InputError, match="has no scores to go by"):
        plan("--num_rows", 10, "--work_dir", tmp_path)
    with pytest.raises(InputError, match="--num_rows is a number of rows, whole and at least 1, got -5"):
        plan("--num_rows", -5, "--rows_per_second", 1)
    for number in (0.3, 0, 10.5):
        with pytest.raises(InputError, match=f"--num_rows is a number of rows, whole and at least 1, got {number}"):
            plan("--num_rows", number, "--rows_per_second", 1)
    for number in ("inf", "nan"):
        for name in ("num_rows", "rows_per_second", "rows_per_shard"):
            with pytest.raises(InputError, match=f"--{name} (must be a number above 0|is a number .*), got {number}"):
                plan("--num_rows", 5, "--rows_per_second", 1, f"--{name}", number)
    with pytest.raises(InputError, match=r"--selection_ratio is a share of the rows .* got 30"):
        plan("--num_rows", 5, "--rows_per_second", 1, "--selection_ratio", 30)

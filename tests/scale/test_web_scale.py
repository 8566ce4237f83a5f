"""The whole way from shards to lists of uids: killed and repeated, and against one machine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from captioned import drawn_pairs
from conftest import REPOSITORY
from sharded import members, run_on_sample, write_tar

from hf_clipselect.scale.scale_command import main


RECIPE = REPOSITORY / "recipes" / "web_scale.py"
NUM_SHARDS, ROWS = 6, 40


def step(name: str, folder: Path, work: str, *flags: str) -> list[str]:
    return [name, "--data_dir", str(folder / "data"), "--work_dir", str(folder / work), *flags]


def score_until(num_scored: int, argv: list[str], scores: Path) -> None:
    """Score in a process of its own, which is killed, with those that it started, once so many shards have scores."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        main(argv)
        os._exit(0)
    while len(list(scores.glob("*.parquet"))) < num_scored:
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        time.sleep(0.005)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.slow
def test_a_killed_run_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    pairs = drawn_pairs()[0].select(range(NUM_SHARDS * ROWS))
    run = run_on_sample(pairs, tmp_path, "--caption_column", "text", "--adaptation", "off", "--num_clusters", 3)
    for shard in range(NUM_SHARDS):
        rows = range(shard * ROWS, (shard + 1) * ROWS)
        write_tar(tmp_path / "data" / f"{shard}.tar", members(pairs, rows))
    for work in ("whole", "killed"):
        assert main(["prepare", "--sample_dir", str(run), "--work_dir", str(tmp_path / work)]) == 0
    argv = step("score", tmp_path, "killed", "--tasks", "2", "--use_cpu")
    for num_scored in (1, 2, 4):
        score_until(num_scored, [*argv, "--workers", "1"], tmp_path / "killed" / "scores")
    last = subprocess.run([sys.executable, RECIPE, *argv], capture_output=True, text=True, cwd=tmp_path)
    assert last.returncode == 0 and last.stdout.endswith("scores: 6 of 6 shards\n"), last.stderr
    assert main(step("score", tmp_path, "whole", "--use_cpu")) == 0
    for shard in range(NUM_SHARDS):
        path = f"scores/{shard}.parquet"
        assert pq.read_table(tmp_path / "killed" / path).equals(pq.read_table(tmp_path / "whole" / path))
    kept = {}
    for work in ("whole", "killed"):
        assert main(step("select", tmp_path, work, "--selection_ratio", "0.3", "--tasks", "2", "--workers", "1")) == 0
        assert main(step("write", tmp_path, work, "--workers", "1")) == 0
        kept[work] = np.load(tmp_path / work / "lists" / "ratio_30.npy")
    assert np.array_equal(kept["whole"], kept["killed"])
    # The uid of a row is its number; the sample was all of the data.
    found = set(kept["whole"]["f1"].tolist())
    one = set(np.flatnonzero(pq.read_table(run / "scores.parquet")["selected_30"].to_numpy()).tolist())
    assert len(found) == len(one) == 72 and len(found & one) / len(found | one) >= 0.95


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(step("score", tmp_path, "work")) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error: --work_dir") and "run prepare first" in told
    assert main(["score", "--dta_dir", "x"]) == 2


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--data_dir", "foo://x"], "--data_dir 'foo://x' can't be opened: Protocol not known: foo."),
        (["--data_dir", ""], "--data_dir '' can't be opened: no folder is named."),
        (["--work_dir", "unheard+of://x"], "--work_dir 'unheard+of://x' can't be opened: Protocol not known"),
        (["--dataloader_num_workers", "-1"], "--dataloader_num_workers must be 0 or more, got -1"),
    ],
)
def test_what_can_not_be_scored_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture, flags: list[str], told: str
) -> None:
    (tmp_path / "work").mkdir()
    assert main([*step("score", tmp_path, "work"), *flags]) == 2
    assert told in capsys.readouterr().err.splitlines()[-1]

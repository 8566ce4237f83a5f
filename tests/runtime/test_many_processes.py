"""Several processes or machines give what one process gives; each image goes through the model of one of them."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from captioned import drawn_pairs
from datasets import Image, load_dataset
from interrupted import CLIENT, encoded_images, free_port, save_digits_with_a_torn_image


pytestmark = pytest.mark.slow

SHARD_ROWS = 128
FLAGS = (
    "--use_cpu --adaptation always --num_train_epochs 3 --min_train_steps 15 --dataloader_num_workers 0 "
    "--selection_ratio 0.3 0.125"
).split()
# All 1,297 digits are eleven shards, the last of 17 rows, and three groups of classes to score; "few" is two shards.
NAMES = ("clean", "released", "few", "pairs")
NUM_ROWS = {"clean": 1297, "released": 1297, "few": 200, "pairs": 150}
LAUNCHES = ("2-processes", "3-processes", "2-machines")


def runs(folder: Path, few: Path, pairs: Path) -> list[list[str]]:
    """The flags of four runs: digits with and without quotas, a few images with a broken one, and captions."""
    flags = {
        "clean": ["--objective", "clean"],
        "released": ["--objective", "released", "--train_batch_size", "255"],
        "few": ["--dataset_name", str(few), "--model_name_or_path", "embedded/tiny-clip", "--on_bad_image", "drop"],
        # More captions than rows in a batch, whose texts the processes share.
        "pairs": [
            "--dataset_name",
            str(pairs),
            "--model_name_or_path",
            "embedded/tiny-clip",
            "--caption_column",
            "text",
            "--train_batch_size",
            "33",
            "--num_clusters",
            "3",
            "--redundancy_weight",
            "0.3",
        ],
    }
    return [[*FLAGS, *flags[name], "--output_dir", str(folder / name)] for name in NAMES]


def plan(folder: Path, runs: list[list[str]]) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    # Containers number their processes from 1: those of several machines may well have the same number.
    return {"runs": runs, "shard_rows": SHARD_ROWS, "notes": str(folder), "pid": 30}


def run_on_machines(folder: Path, runs: list[list[str]]) -> list[int]:
    """Exit codes of the launchers of two machines with a process each."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", str(free_port())]
    started = []
    for rank in (0, 1):
        with (folder / f"output-{rank}.txt").open("w") as output:
            started.append(
                subprocess.Popen(
                    [*command, "--machine_rank", str(rank), str(CLIENT), json.dumps(plan(folder, runs))],
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "ACCELERATE_USE_CPU": "true"},
                )
            )
    return [process.wait() for process in started]


def output(folder: Path) -> str:
    return "\n".join(path.read_text()[-3000:] for path in sorted(folder.glob("output-*")))


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few")
    save_digits_with_a_torn_image(folder, row=150)
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    drawn_pairs(150)[0].rename_column("picture", "image").save_to_disk(folder)
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory, forking_client, few, pairs):
    """The runs of a single process."""
    folder = tmp_path_factory.mktemp("alone")
    assert forking_client.run(plan(folder, runs(folder, few, pairs))) == [0], output(folder)
    return folder


@pytest.fixture(scope="module", params=LAUNCHES)
def launched(request, tmp_path_factory, forking_client, few, pairs):
    """The same runs by several processes, and how many these are."""
    folder = tmp_path_factory.mktemp(request.param)
    count = int(request.param[0])
    flags = runs(folder, few, pairs)
    if request.param == "2-machines":
        codes = run_on_machines(folder, flags)
    else:
        codes = forking_client.run({**plan(folder, flags), "processes": count})
    assert not any(codes), output(folder)
    return folder, count


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_many_processes_select_what_one_selects(alone, launched, name):
    folder, expected = launched[0] / name, alone / name
    scores, expected_scores = (pq.read_table(path / "scores.parquet") for path in (folder, expected))
    assert scores.schema == expected_scores.schema and len(scores) == NUM_ROWS[name]
    for column in scores.column_names:
        if column in ("sas", "margin", "sds", "label_error_probability") or column.startswith("selection_score"):
            # Rows that can't be read have no scores.
            np.testing.assert_allclose(
                scores[column].to_numpy(), expected_scores[column].to_numpy(), rtol=0, atol=1e-5
            )
        elif column.endswith("_quantile"):
            # Two rows of a class whose scores differ in the last digits may change places.
            np.testing.assert_allclose(
                scores[column].to_numpy(), expected_scores[column].to_numpy(), rtol=0, atol=0.05
            )
        else:
            assert scores[column] == expected_scores[column], column
    for config in ("ratio_30", "ratio_12_5"):
        subset, expected_subset = (
            load_dataset(str(path / "subset"), config, split="train").cast_column("image", Image(decode=False))
            for path in (folder, expected)
        )
        assert subset["source_index"] == expected_subset["source_index"]
        assert subset.features == expected_subset.features
        assert all(
            subset[name] == expected_subset[name]
            for name in subset.column_names
            if name not in ("sas", "sds", "selection_score")
        )


@pytest.mark.parametrize("name", NAMES)
def test_many_processes_leave_the_files_that_one_leaves(alone, launched, name):
    ours, theirs = files(launched[0] / name), files(alone / name)
    assert set(ours) == set(theirs)
    different = {path for path in ours if ours[path] != theirs[path]}
    assert not [path for path in different if path.startswith(("features/", "adapter/adapter_"))]


@pytest.mark.parametrize("name", NAMES)
def test_each_image_is_encoded_by_one_process(alone, launched, name):
    folder, count = launched
    number = NAMES.index(name)
    (expected,), encoded = encoded_images(alone, number), encoded_images(folder, number)
    assert len(encoded) == count
    assert Counter(sum(encoded, [])) == Counter(expected)
    assert len(expected) == NUM_ROWS[name] - (name == "few")
    shards = -(-NUM_ROWS[name] // SHARD_ROWS)
    assert [len(images) > 0 for images in encoded] == [rank < shards for rank in range(count)]


def test_the_broken_image_is_dropped_whoever_met_it(launched):
    dropped = pq.read_table(launched[0] / "few" / "dropped.parquet")
    assert dropped["source_index"].to_pylist() == [150]


def test_machines_that_do_not_share_the_output_folder_are_refused(forking_client, tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    flags = [[*FLAGS, "--max_train_samples", "40", "--output_dir", str(folder / "run")] for folder in folders]
    codes = forking_client.run({**plan(tmp_path, []), "processes": 2, "runs_of_rank": [[own] for own in flags]})
    assert all(codes)
    for rank, folder in enumerate(folders):
        told = (tmp_path / f"output-{rank}.txt").read_text()
        assert "error: --output_dir" in told and "Traceback" not in told.split("error: ")[0], told[-3000:]
        assert not list(folder.rglob("*.safetensors")) and not list(folder.rglob("*.parquet"))

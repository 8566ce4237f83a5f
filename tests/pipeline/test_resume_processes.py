"""A run of several processes of which some were killed ends, run again, where an undisturbed run ends."""

import json
import os
import subprocess
import sys
from collections import Counter

import pyarrow.parquet as pq
import pytest
from captioned import drawn_pairs
from interrupted import CLIENT, assert_same, content, free_port, save_digits_with_a_torn_image
from killed_runs import (
    KILLED,
    SHARD,
    SHARD_ROWS,
    SHARDS,
    Runs,
    assert_nothing_half_written,
    assert_same_rows,
    missing_rows,
    stamps,
    undisturbed_runs,
)


pytestmark = pytest.mark.slow


@pytest.fixture
def runs(forking_client, tmp_path):
    return Runs(forking_client, tmp_path / "notes")


@pytest.fixture(scope="module")
def undisturbed(forking_client, tmp_path_factory):
    return undisturbed_runs(forking_client, tmp_path_factory.mktemp("undisturbed"), [1, 2])


TWO = {
    "batch-of-the-second": ((1,), "forward", "", 2),
    "shard-of-the-second": ((1,), "rename", SHARD, 2, "torn"),
    "shard-of-the-first": ((0,), "rename", SHARD, 2, "after"),
    "batch-of-both": ((0, 1), "forward", "", 3),
    "manifest": ((0,), "rename", "features/manifest.json", 2, "torn"),
    # The first process trains, and the second waits for its weights.
    "step-of-the-trial": ((0,), "step", "", 3),
    "step-of-the-kept-adapters": ((0,), "step", "", 9),
    "scores": ((0,), "rename", "scores.parquet", 1, "torn"),
    "card-of-the-subset": ((0,), "rename", ".subset.*.tmp/README.md", 1, "before"),
}


@pytest.mark.parametrize("point", TWO)
def test_two_processes_of_which_one_or_both_are_killed_go_on(runs, undisturbed, tmp_path, point):
    expected, images = undisturbed[2]
    ranks, *kill = TWO[point]
    folder = tmp_path / "run"
    runs.kill(folder, *kill, processes=2, ranks=ranks)
    assert_nothing_half_written(folder, expected)
    missing, before = missing_rows(folder), stamps(folder)
    encoded = runs.finish(folder, processes=2)
    assert_same(folder, expected)
    assert sum(map(len, encoded)) == missing and Counter(sum(encoded, [])) <= Counter(sum(images, []))
    assert before.items() <= stamps(folder).items()


@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
@pytest.mark.parametrize("kill", [("rename", SHARD, 2, "torn"), ("rename", "scores.parquet", 1, "before")])
def test_another_number_of_processes_may_go_on(runs, undisturbed, tmp_path, kill, first, then):
    folder = tmp_path / "run"
    runs.kill(folder, *kill, processes=first)
    missing, before = missing_rows(folder), stamps(folder)
    encoded = runs.finish(folder, processes=then)
    assert sum(map(len, encoded)) == missing
    assert before.items() <= stamps(folder).items()
    assert_same_rows(folder, undisturbed[1][0])


def test_a_process_of_accelerate_launch_may_die(runs, undisturbed, tmp_path):
    folder = tmp_path / "run"
    # Its last shard of three: while the second is encoded, the first is written.
    plan = runs.plan(folder, dying_ranks=[1], kill={"operation": "forward", "nth": 3})
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    done = subprocess.run(
        [*launch, "--main_process_port", str(free_port()), str(CLIENT), json.dumps(plan)],
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0 and "SIGKILL" in done.stderr, done.stderr[-3000:]
    assert 0 < missing_rows(folder) < 400 and not (folder / "scores.parquet").exists()
    missing = missing_rows(folder)
    assert sum(map(len, runs.finish(folder, processes=2))) == missing
    assert_same(folder, undisturbed[2][0])


def test_an_image_that_one_of_two_processes_cannot_read_stops_both_until_it_may_be_dropped(runs, tmp_path):
    source, folder = tmp_path / "source", tmp_path / "run"
    save_digits_with_a_torn_image(source, row=70)
    flags = ("--dataset_name", str(source), "--model_name_or_path", "embedded/tiny-clip", "--max_train_samples", "200")
    codes = runs.client.run(runs.plan(folder, *flags, processes=2))
    assert codes[1] == 2 and codes[0] not in (0, KILLED)  # row 70 is in the second shard, that of the second process
    assert "error: The image of source_index 70 can't be read" in runs.output()
    assert not (folder / "scores.parquet").exists() and not (folder / SHARDS[1]).exists()
    before = stamps(folder)
    runs.finish(folder, *flags, "--on_bad_image", "drop", processes=2)
    assert before.items() <= stamps(folder).items()
    assert pq.read_table(folder / "dropped.parquet")["source_index"].to_pylist() == [70]


def test_two_processes_of_which_one_is_killed_among_captions_lose_its_shard_alone(runs, tmp_path):
    dataset, expected = drawn_pairs(200)[0], tmp_path / "expected"
    dataset.save_to_disk(tmp_path / "source")
    flags = ("--dataset_name", str(tmp_path / "source"), "--model_name_or_path", "embedded/tiny-clip")
    flags += ("--caption_column", "text", "--max_train_samples", "200", "--num_clusters", "2", "--adaptation", "off")
    runs.finish(expected, *flags)
    texts = {name: value for name, value in content(expected).items() if "/texts-" in name}
    assert len(texts) == -(-len(set(dataset["text"])) // SHARD_ROWS) == 4
    folder = tmp_path / "run"
    runs.kill(folder, "rename", "features/texts-*", 2, "torn", flags=flags, processes=2)
    # The shards of the other process may be stored, or not yet.
    left = {name: value for name, value in content(folder).items() if "/texts-" in name}
    assert "features/texts-00000.safetensors" in left and left.items() <= texts.items()
    assert "features/texts-00002.safetensors" not in left
    before = {name: (folder / name).stat().st_ino for name in left}
    runs.finish(folder, *flags, processes=2)
    assert {name: (folder / name).stat().st_ino for name in left} == before
    assert_same(folder, expected)


def test_a_killed_run_with_a_reference_and_checks_goes_on_and_two_processes_find_the_same(runs, tmp_path):
    pytest.importorskip("cleanvision")
    flags = ("--adaptation", "off", "--reference_split", "test", "--drop_leaks", "--quality_checks", "report")
    expected, folder = tmp_path / "expected", tmp_path / "run"
    [images] = runs.finish(expected, *flags)
    runs.kill(folder, "rename", "reference_features/images-*", 3, "torn", flags=flags)
    assert_nothing_half_written(folder, expected)
    before = {path: path.stat().st_ino for path in folder.glob("reference_features/images-*")}
    assert len(before) == 2
    runs.kill(folder, "rename", "quality_issues.parquet", 1, "torn", flags=flags)
    assert_nothing_half_written(folder, expected)
    assert runs.finish(folder, *flags) == [[]]
    assert before == {path: path.stat().st_ino for path in before}
    assert_same(folder, expected)
    encoded = runs.finish(tmp_path / "two", *flags, processes=2)
    assert sorted(sum(encoded, [])) == sorted(images)
    assert_same_rows(tmp_path / "two", expected)
    assert content(tmp_path / "two")["quality_issues.parquet"] == content(expected)["quality_issues.parquet"]

"""A run that was killed at any moment ends, run again, where an undisturbed run ends."""

import shutil

import pytest
from interrupted import assert_same, content
from killed_runs import SHARD, SHARD_ROWS, Runs, assert_nothing_half_written, missing_rows, stamps, undisturbed_runs


pytestmark = pytest.mark.slow


@pytest.fixture
def runs(forking_client, tmp_path):
    return Runs(forking_client, tmp_path / "notes")


@pytest.fixture(scope="module")
def undisturbed(forking_client, tmp_path_factory):
    return undisturbed_runs(forking_client, tmp_path_factory.mktemp("undisturbed"), [1])


POINTS = {
    "first-config": ("rename", "config.yaml", 1, "torn"),
    "mark-for-other-processes": ("open", ".config.yaml.*.tmp", 2, "after"),
    "manifest-of-nothing-yet": ("rename", "features/manifest.json", 1, "torn"),
    "first-batch": ("forward", "", 1),
    "first-shard": ("rename", SHARD, 1, "torn"),
    "between-shards": ("rename", SHARD, 1, "after"),
    "batch-in-between": ("forward", "", 4),
    "shard-that-is-there-in-full": ("rename", SHARD, 4, "before"),
    "last-shard": ("rename", SHARD, 7, "torn"),
    "before-the-manifest": ("rename", SHARD, 7, "after"),
    "manifest": ("rename", "features/manifest.json", 2, "torn"),
    "text": ("rename", "features/text.safetensors", 1, "torn"),
    "after-text": ("rename", "features/text.safetensors", 1, "after"),
    "first-step": ("step", "", 1),
    "step-of-the-kept-adapters": ("step", "", 9),
    "files-of-the-adapters": ("open", ".adapter.*.tmp/adapter_config.json"),
    "adapters": ("rename", "adapter", 1, "before"),
    "adapters-not-on-record": ("rename", "adapter", 1, "after"),
    "scores": ("rename", "scores.parquet", 1, "torn"),
    "images-of-the-subset": ("rename", ".subset.*.tmp/ratio_12_5/*", 1, "torn"),
    "card-of-the-subset": ("rename", ".subset.*.tmp/README.md", 1, "before"),
    "subset": ("rename", "subset", 1, "before"),
    "after-the-subset": ("rename", "subset", 1, "after"),
    "report": ("rename", "report.json", 1, "torn"),
    "last-config": ("rename", "config.yaml", 5, "torn"),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_run_goes_on_with_what_is_missing_and_ends_the_same(runs, undisturbed, tmp_path, point):
    expected, [images] = undisturbed[1]
    folder = tmp_path / "run"
    runs.kill(folder, *POINTS[point])
    assert_nothing_half_written(folder, expected)
    missing, before = missing_rows(folder), stamps(folder)
    [encoded] = runs.finish(folder)
    assert_same(folder, expected)
    assert encoded == images[400 - missing :]
    assert before.items() <= stamps(folder).items()


def test_a_run_that_is_killed_again_and_again_gets_on_by_a_shard_each_time(runs, undisturbed, tmp_path):
    expected, _ = undisturbed[1]
    folder = tmp_path / "run"
    for done in range(1, 8):
        runs.kill(folder, "rename", SHARD, 1, "after")
        assert missing_rows(folder) == 400 - min(400, done * SHARD_ROWS)
    assert runs.finish(folder) == [[]]
    assert_same(folder, expected)


def test_a_run_that_is_killed_beside_its_decoding_process_goes_on(runs, undisturbed, tmp_path):
    folder = tmp_path / "run"
    runs.kill(folder, "forward", "", 4, flags=("--dataloader_num_workers", "1"))
    # The batches that other threads work on, and that wait to be stored, are lost with it.
    lost = missing_rows(folder) - (400 - 3 * SHARD_ROWS)
    assert 0 <= lost < 3 * SHARD_ROWS and lost % SHARD_ROWS == 0
    runs.finish(folder)
    assert_same(folder, undisturbed[1][0])


def test_a_finished_run_keeps_its_subset_while_another_is_being_written(runs, undisturbed, tmp_path):
    expected, _ = undisturbed[1]
    folder = shutil.copytree(expected, tmp_path / "run")
    runs.kill(folder, "rename", ".subset.*.tmp/README.md", flags=("--selection_ratio", "0.5"))
    assert content(folder / "subset") == content(expected / "subset")
    runs.kill(folder, "rename", "subset", flags=("--selection_ratio", "0.5"))
    assert not (folder / "subset").exists()
    assert runs.finish(folder) == [[]]
    assert_same(folder, expected)


def test_a_killed_run_of_other_settings_leaves_no_shards_that_are_taken_for_its_own(runs, undisturbed, tmp_path):
    flags = ("--per_device_eval_batch_size", "32", "--overwrite_output_dir")
    runs.finish(tmp_path / "expected", *flags)
    folder = shutil.copytree(undisturbed[1][0], tmp_path / "run")
    runs.kill(folder, "rename", SHARD, 2, "after", flags=flags)
    [encoded] = runs.finish(folder, *flags)
    assert len(encoded) == 400 - 2 * SHARD_ROWS
    assert_same(folder, tmp_path / "expected")


def test_what_killed_runs_had_begun_to_write_vanishes(runs, undisturbed, tmp_path):
    expected, _ = undisturbed[1]
    folder = shutil.copytree(expected, tmp_path / "run")
    for name in ("features/.images-00003.safetensors.77.tmp", "features/.manifest.json.77.tmp", ".config.yaml.77.tmp"):
        (folder / name).write_bytes(b"torn")
    for name in (".subset.tmp/ratio_30", ".adapter.tmp"):
        (folder / name).mkdir(parents=True)
        (folder / name / "torn").write_bytes(b"torn")
    assert runs.finish(folder) == [[]]
    assert_same(folder, expected)

"""A run that was killed at any moment, or found its features damaged, ends where an undisturbed run ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from captioned import drawn_pairs
from interrupted import (
    CLIENT,
    ForkingClient,
    assert_same,
    content,
    encoded_images,
    free_port,
    save_digits_with_a_torn_image,
)


pytestmark = pytest.mark.slow

SHARD_ROWS = 64
FLAGS = (
    "--use_cpu --max_train_samples 400 --selection_ratio 0.3 0.125 --adaptation always --num_train_epochs 3 "
    "--min_train_steps 6 --dataloader_num_workers 0"
).split()
SHARDS = [f"features/images-{index:05d}.safetensors" for index in range(7)]
KILLED = -signal.SIGKILL


class Runs:
    """Runs the same command again and again, each time in processes of its own."""

    def __init__(self, client: ForkingClient, notes: Path) -> None:
        self.client, self.notes = client, notes

    def plan(self, output_dir: Path, *flags: str, **plan: Any) -> dict[str, Any]:
        shutil.rmtree(self.notes, ignore_errors=True)
        self.notes.mkdir()
        runs = [[*FLAGS, *flags, "--output_dir", str(output_dir)]]
        return {"runs": runs, "shard_rows": SHARD_ROWS, "notes": str(self.notes), **plan}

    def kill(
        self,
        output_dir: Path,
        *kill: Any,
        processes: int = 1,
        ranks: tuple[int, ...] = (0,),
        flags: tuple[str, ...] = (),
    ) -> None:
        plan = self.plan(
            output_dir,
            *flags,
            processes=processes,
            dying_ranks=ranks,
            kill=dict(zip(("operation", "path", "nth", "moment"), kill, strict=False)),
        )
        codes = self.client.run(plan)
        assert [rank for rank, code in enumerate(codes) if code == KILLED] == list(ranks), self.output()
        assert all(codes), "a process that lost another one must not end as if all were well"

    def finish(self, output_dir: Path, *flags: str, processes: int = 1) -> list[list[str]]:
        """The images that each process encoded."""
        assert not any(self.client.run(self.plan(output_dir, *flags, processes=processes))), self.output()
        return encoded_images(self.notes)

    def output(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in sorted(self.notes.glob("output-*.txt")))


@pytest.fixture
def runs(forking_client, tmp_path):
    return Runs(forking_client, tmp_path / "notes")


@pytest.fixture(scope="module")
def undisturbed(forking_client, tmp_path_factory):
    """The folder of a run that nobody disturbed, and the images it encoded, by the number of processes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    outcomes = {}
    for processes in (1, 2):
        output_dir = folder / f"run-{processes}"
        outcomes[processes] = (
            output_dir,
            Runs(forking_client, folder / "notes").finish(output_dir, processes=processes),
        )
    return outcomes


def assert_same_rows(folder: Path, expected: Path) -> None:
    """What must agree where another number of processes trained the adapters."""
    ours, theirs = content(folder), content(expected)
    assert list(ours) == list(theirs)
    assert [name for name in ours if name.startswith("features/") and ours[name] != theirs[name]] == []
    scores, expected_scores = pq.read_table(folder / "scores.parquet"), pq.read_table(expected / "scores.parquet")
    for name in scores.column_names:
        column, expected_column = scores[name], expected_scores[name]
        if name in ("sas", "margin", "sds") or name.startswith("selection_score"):
            np.testing.assert_allclose(column.to_numpy(), expected_column.to_numpy(), atol=1e-5)
        else:
            assert column == expected_column, name


def assert_nothing_half_written(folder: Path, expected: Path) -> None:
    """What bears its final name is what it will be in the end."""
    ours, theirs = content(folder) if (folder / "config.yaml").exists() else {}, content(expected)
    whole = {name: value for name, value in ours.items() if name.endswith((".safetensors", ".parquet"))}
    assert {name for name in whole if not is_hidden(name) and whole[name] != theirs[name]} == set()
    if (folder / "subset").exists():
        assert {name for name in ours if name.startswith("subset/")} == {n for n in theirs if n.startswith("subset/")}


def is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in Path(name).parts)


def missing_rows(folder: Path) -> int:
    return 400 - sum(rows_of(index) for index, name in enumerate(SHARDS) if (folder / name).exists())


def rows_of(index: int) -> int:
    return min(SHARD_ROWS, 400 - index * SHARD_ROWS)


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """What changes when a file is written again, were it with the same bytes."""
    files = {name: (folder / name).stat() for name in SHARDS if (folder / name).exists()}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in files.items()}


SHARD = "features/images-*"
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


def flip_a_byte_of_the_features(path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[-1000] ^= 1
    path.write_bytes(damaged)


def flip_a_byte_of_the_header(path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[3] ^= 0x40  # its length
    path.write_bytes(damaged)


def spoil_the_metadata(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"sha256", b"sha257"))


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_another_shard(path: Path) -> None:
    shutil.copy(path.with_name("images-00001.safetensors"), path)


def delete(path: Path) -> None:
    path.unlink()


DAMAGES = (
    flip_a_byte_of_the_features,
    flip_a_byte_of_the_header,
    spoil_the_metadata,
    cut_in_half,
    empty,
    replace_by_another_shard,
    delete,
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_shard_is_found_and_it_alone_is_encoded_again(runs, undisturbed, tmp_path, damage):
    expected, [images] = undisturbed[1]
    folder = shutil.copytree(expected, tmp_path / "run")
    damage(folder / SHARDS[2])
    before = {name: stamp for name, stamp in stamps(folder).items() if name != SHARDS[2]}
    [encoded] = runs.finish(folder)
    assert encoded == images[2 * SHARD_ROWS : 3 * SHARD_ROWS]
    assert before.items() <= stamps(folder).items()
    assert_same(folder, expected)


def test_two_processes_share_out_the_shards_that_are_damaged(runs, undisturbed, tmp_path):
    expected, [images] = undisturbed[1]
    folder = shutil.copytree(expected, tmp_path / "run")
    damaged = (0, 2, 4, 6)  # all of them the first process's in a run from the start
    for index, damage in zip(damaged, DAMAGES, strict=False):
        damage(folder / SHARDS[index])
    encoded = runs.finish(folder, processes=2)
    again = [image for index in damaged for image in images[index * SHARD_ROWS : (index + 1) * SHARD_ROWS]]
    assert Counter(sum(encoded, [])) == Counter(again)
    assert all(encoded)
    assert_same(folder, expected)


@pytest.mark.parametrize("name", ["text.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", [cut_in_half, delete], ids=lambda damage: damage.__name__)
def test_a_damaged_manifest_or_text_costs_no_image(runs, undisturbed, tmp_path, name, damage):
    expected, _ = undisturbed[1]
    folder = shutil.copytree(expected, tmp_path / "run")
    damage(folder / "features" / name)
    before = stamps(folder)
    assert runs.finish(folder) == [[]]
    assert stamps(folder) == before
    assert_same(folder, expected)


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

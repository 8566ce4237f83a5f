"""A run that finds its features damaged encodes those again, and ends where an undisturbed run ends."""

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from interrupted import assert_same, encoded_images
from killed_runs import SHARD_ROWS, SHARDS, Runs, stamps


pytestmark = pytest.mark.slow


ONE_SIZE = ("--selection_ratio", "0.3")  # drawing the plots of another takes half a second


@pytest.fixture(scope="module")
def runs(forking_client, tmp_path_factory):
    return Runs(forking_client, tmp_path_factory.mktemp("runs") / "notes")


@pytest.fixture(scope="module")
def undisturbed(runs, tmp_path_factory):
    """The folder of a run that nobody disturbed, and the images it encoded."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    [images] = runs.finish(folder, *ONE_SIZE)
    return folder, images


@dataclass
class Finished:
    """A folder of which files were damaged and that a run finished since, and the images that the run encoded."""

    folder: Path
    before: dict[str, tuple[int, int]]
    encoded: list[str]


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


TO_A_SHARD = [(damage, SHARDS[2]) for damage in DAMAGES]
TO_ANOTHER_FILE = [
    (damage, f"features/{name}") for name in ("text.safetensors", "manifest.json") for damage in (cut_in_half, delete)
]


@pytest.fixture(scope="module")
def finished(runs, undisturbed, tmp_path_factory):
    """What came of each damage; one process finishes all folders, one after the other."""
    folders, before = [], []
    for damage, name in (*TO_A_SHARD, *TO_ANOTHER_FILE):
        folders.append(shutil.copytree(undisturbed[0], tmp_path_factory.mktemp("damaged") / "run"))
        damage(folders[-1] / name)
        before.append(stamps(folders[-1]))
    plans = [runs.plan(folder, *ONE_SIZE) for folder in folders]
    codes = runs.client.run({**plans[0], "runs": [run for plan in plans for run in plan["runs"]]})
    assert codes == [0], runs.output()
    encoded = [encoded_images(runs.notes, number)[0] for number in range(len(folders))]
    outcomes = map(Finished, folders, before, encoded)
    return dict(zip((*TO_A_SHARD, *TO_ANOTHER_FILE), outcomes, strict=True))


def name_of(value: object) -> str:
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize(("damage", "name"), TO_A_SHARD, ids=name_of)
def test_a_damaged_shard_is_found_and_it_alone_is_encoded_again(finished, undisturbed, damage, name):
    expected, images = undisturbed
    found = finished[damage, name]
    assert found.encoded == images[2 * SHARD_ROWS : 3 * SHARD_ROWS]
    found.before.pop(name, None)
    assert found.before.items() <= stamps(found.folder).items()
    assert_same(found.folder, expected)


@pytest.mark.parametrize(("damage", "name"), TO_ANOTHER_FILE, ids=name_of)
def test_a_damaged_manifest_or_text_costs_no_image(finished, undisturbed, damage, name):
    found = finished[damage, name]
    assert found.encoded == []
    assert stamps(found.folder) == found.before
    assert_same(found.folder, undisturbed[0])


def test_two_processes_share_out_the_shards_that_are_damaged(runs, undisturbed, tmp_path):
    expected, images = undisturbed
    folder = shutil.copytree(expected, tmp_path / "run")
    damaged = (0, 2, 4, 6)  # all of them the first process's in a run from the start
    for index, damage in zip(damaged, DAMAGES, strict=False):
        damage(folder / SHARDS[index])
    encoded = runs.finish(folder, *ONE_SIZE, processes=2)
    again = [image for index in damaged for image in images[index * SHARD_ROWS : (index + 1) * SHARD_ROWS]]
    assert Counter(sum(encoded, [])) == Counter(again)
    assert all(encoded)
    assert_same(folder, expected)

"""A run that finds its features damaged encodes those again, and ends where an undisturbed run ends."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from interrupted import assert_same
from killed_runs import SHARD_ROWS, SHARDS, Runs, stamps, undisturbed_runs


pytestmark = pytest.mark.slow


@pytest.fixture
def runs(forking_client, tmp_path):
    return Runs(forking_client, tmp_path / "notes")


@pytest.fixture(scope="module")
def undisturbed(forking_client, tmp_path_factory):
    return undisturbed_runs(forking_client, tmp_path_factory.mktemp("undisturbed"), [1])


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

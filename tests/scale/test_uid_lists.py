"""Sorted files of uids are merged block by block."""

import io

import numpy as np
import pytest
from datatrove.io import get_datafolder

from hf_clipselect.errors import InputError, RunError
from hf_clipselect.scale import uid_lists
from hf_clipselect.scale.uid_lists import write_merged


def merged(folder, lists: list[list[tuple[int, int]]]) -> list[tuple[int, int]]:
    for number, pairs in enumerate(lists):
        np.save(folder / f"{number}.npy", np.array(sorted(pairs), dtype="u8,u8"))
    file, count = io.BytesIO(), sum(map(len, lists))
    write_merged(get_datafolder(str(folder)), [f"{n}.npy" for n in range(len(lists))], file, num_uids=count)
    file.seek(0)
    return np.load(file).tolist()


@pytest.mark.parametrize("highest", [3, 2**64])
def test_merges_many_lists_in_small_blocks(highest, tmp_path, monkeypatch):
    """With few high halves the low ones decide."""
    monkeypatch.setattr(uid_lists, "_UIDS_AT_ONCE", 12)
    monkeypatch.setattr(uid_lists, "_FEWEST_OF_ONE", 2)
    rng = np.random.default_rng(0)
    highs = rng.integers(0, highest, 300, dtype=np.uint64, endpoint=False).tolist()
    pairs = list(zip(highs, rng.permutation(2**20)[:300].tolist(), strict=True))
    cuts = sorted(rng.integers(0, 300, 4).tolist())
    lists = [pairs[start:end] for start, end in zip([0, *cuts, 300], [*cuts, 300, 300], strict=True)]
    assert merged(tmp_path, lists) == sorted(pairs)


@pytest.mark.parametrize("others", [[], [(1, 2), (1, 3), (4, 5)]])
def test_a_uid_that_comes_twice_is_named(others, tmp_path, monkeypatch):
    monkeypatch.setattr(uid_lists, "_UIDS_AT_ONCE", 1)
    monkeypatch.setattr(uid_lists, "_FEWEST_OF_ONE", 1)
    with pytest.raises(InputError, match="The uid 0000000000000003000000000000000a stands at rows of different"):
        merged(tmp_path, [[(3, 10), *others], [(3, 10)]])


def test_fewer_uids_than_were_kept_are_told(tmp_path):
    np.save(tmp_path / "0.npy", np.array([(1, 2)], dtype="u8,u8"))
    with pytest.raises(RunError, match="holds 1 uids instead of 2"):
        write_merged(get_datafolder(str(tmp_path)), ["0.npy"], io.BytesIO(), num_uids=2)


def test_nothing_kept_is_an_empty_list(tmp_path):
    assert merged(tmp_path, [[], []]) == []

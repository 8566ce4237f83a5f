import numpy as np
import pytest
import torch

from hf_clipselect import InputError
from hf_clipselect.scores import arrays
from hf_clipselect.scores.arrays import checked_embeds, on_its_device, row_blocks, row_lengths, unit_rows


@pytest.mark.parametrize("rows", [slice(1, 3), np.array([2, 0, 2])])
@pytest.mark.parametrize("kind", ["array", "read-only", "float64", "integers", "tensor", "bfloat16"])
def test_unit_rows_are_new_and_of_length_one(rows, kind):
    values = np.array([[3, 4], [0, 2], [-5, 12], [1, 0]])
    embeds = {
        "array": values.astype(np.float32),
        "read-only": values.astype(np.float32),
        "float64": values.astype(np.float64),
        "integers": values,
        "tensor": torch.from_numpy(values).float(),
        "bfloat16": torch.from_numpy(values).bfloat16(),
    }[kind]
    if kind == "read-only":
        embeds.setflags(write=False)
    lengths = row_lengths(embeds, "image_embeds")
    assert lengths.tolist() == [5, 2, 13, 1]
    unit = unit_rows(embeds, rows, lengths)
    assert isinstance(unit, type(embeds))
    assert str(unit.dtype).endswith("float32")
    expected = values / np.array([[5], [2], [13], [1]])
    np.testing.assert_allclose(unit, expected[rows], rtol=1e-6)
    assert embeds.tolist() == values.tolist()


def test_a_tensor_on_the_cpu_is_read_where_it_lies():
    tensor = torch.ones(3, 2, requires_grad=True)
    array = on_its_device(tensor)
    assert isinstance(array, np.ndarray)
    assert np.shares_memory(array, tensor.detach().numpy())
    assert checked_embeds(torch.ones(3, 2, dtype=torch.bfloat16), "image_embeds").dtype == np.float32


def test_lengths_of_many_rows_are_those_of_each():
    rows = np.random.default_rng(0).normal(size=(5000, 1000)).astype(np.float32)  # more than a block
    assert len(list(row_blocks(5000, width=1000))) == 2
    expected = np.linalg.norm(rows.astype(np.float64), axis=1)
    np.testing.assert_allclose(row_lengths(rows, "image_embeds"), expected, rtol=1e-6)
    np.testing.assert_allclose(row_lengths(torch.from_numpy(rows), "image_embeds"), expected, rtol=1e-6)


@pytest.mark.parametrize(("num_rows", "width", "sizes"), [(10, 2**20, [4, 4, 2]), (3, 2**30, [1, 1, 1]), (7, 1, [7])])
def test_row_blocks_cover_all_rows_once(num_rows, width, sizes):
    blocks = list(row_blocks(num_rows, width=width))
    assert [block.stop - block.start for block in blocks] == sizes
    assert [row for block in blocks for row in range(block.start, block.stop)] == list(range(num_rows))


FAR = {
    "float64, long": (np.float64, 1e200),
    "float64, short": (np.float64, 1e-200),
    "float64, shortest": (np.float64, 1e-320),
    "float32, long": (np.float32, 1e38),
    "float32, short": (np.float32, 1e-40),
    "longdouble": (np.longdouble, 1e300),
}


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("kind", FAR)
def test_rows_that_float32_can_not_hold_keep_their_direction(kind, as_tensor, monkeypatch):
    dtype, scale = FAR[kind]
    if as_tensor:
        if dtype is np.longdouble:
            pytest.skip("torch has no such type")
        monkeypatch.setattr(arrays, "on_its_device", lambda embeds, name="": embeds)  # as one of a GPU
    rows = np.random.default_rng(0).uniform(-2, 2, size=(50, 8)).astype(dtype)
    given = rows.copy()
    given[::2] *= dtype(scale)
    given = torch.from_numpy(given) if as_tensor else given
    before = given.tolist()
    embeds = checked_embeds(given, "image_embeds")
    unit = unit_rows(embeds, slice(None), row_lengths(embeds, "image_embeds"))
    expected = rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1)[:, None]
    # Of the shortest rows the given numbers themselves have few digits.
    coarse = 3e-4 if kind in ("float32, short", "float64, shortest") else 1e-6
    np.testing.assert_allclose(np.asarray(unit)[::2], expected[::2], atol=coarse)
    assert np.array_equal(
        np.asarray(unit)[1::2], np.asarray(unit_rows(rows, slice(None), row_lengths(rows, "x")))[1::2]
    )
    assert given.tolist() == before


def test_ordinary_rows_are_not_copied():
    for rows in (np.ones((3, 2)), np.ones((3, 2), np.float32), np.zeros((3, 2)), np.ones((3, 2), np.float16)):
        assert checked_embeds(rows, "image_embeds") is rows


@pytest.mark.parametrize(
    "embeds",
    [
        [[1, 2], [3]],
        "text",
        {"a": 1},
        None,
        3,
        b"x",
        object(),
        np.ones((2, 2), complex),
        np.ones((2, 2), bool),
        np.ones((2, 2), object),
        [["a"]],
        torch.ones(2, 2).to_sparse(),
        torch.ones(2, 2) > 0,
        torch.ones(2, 2) * 1j,
        torch.ones(2, 2, device="meta"),
        torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8),
        torch.ones(2),
        torch.ones(0, 2),
        [[10**400]],
    ],
)
def test_what_is_no_matrix_of_numbers_is_refused(embeds):
    with pytest.raises(InputError, match="image_embeds must be"):
        checked_embeds(embeds, "image_embeds")

import numpy as np
import pytest
import torch

from hf_clipselect.arrays import checked_embeds, on_its_device, row_blocks, row_lengths, unit_rows


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

import numpy as np
import pytest
import torch

from hf_clipselect.errors import InputError
from hf_clipselect.scores import arrays
from hf_clipselect.scores.alignment import alignment_scores, semantic_alignment_score


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def predicted_labels(images, texts):
    return alignment_scores(images, texts, np.zeros(len(images), dtype=int))[0]


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_alignment_of_four_rows_by_hand():
    texts = [[1, 0], [0, 1]]
    images = [[1, 0], [3, 4], [0, 2], [-1, 0]]
    labels = [0, 0, 0, 0]
    np.testing.assert_allclose(
        semantic_alignment_score(np.array(images), np.array(texts), np.array(labels)), [1, 0.6, 0, -1], atol=1e-7
    )
    margin = semantic_alignment_score(np.array(images), np.array(texts), np.array(labels), kind="margin")
    np.testing.assert_allclose(margin, [1, -0.2, -1, -1], atol=1e-7)
    assert predicted_labels(np.array(images), np.array(texts)).tolist() == [0, 1, 1, 1]


def test_alignment_equals_the_slow_version_over_several_blocks(monkeypatch):
    monkeypatch.setattr(arrays, "_BLOCK_ELEMENTS", 64)
    rng = np.random.default_rng(0)
    images, texts, labels = rng.normal(size=(101, 16)), rng.normal(size=(7, 16)), rng.integers(7, size=101)
    cosines = unit(images) @ unit(texts).T
    sas = semantic_alignment_score(images, texts, labels)
    assert sas.dtype == np.float32
    np.testing.assert_allclose(sas, [row[label] for row, label in zip(cosines, labels, strict=True)], atol=1e-6)
    expected = [row[label] - max(np.delete(row, label)) for row, label in zip(cosines, labels, strict=True)]
    margin = semantic_alignment_score(images, texts, labels, kind="margin")
    np.testing.assert_allclose(margin, expected, atol=1e-6)
    predicted = predicted_labels(images, texts)
    assert predicted.dtype == np.int64
    np.testing.assert_array_equal(predicted, cosines.argmax(axis=1))
    np.testing.assert_array_equal(margin > 0, predicted == labels)


def test_one_product_gives_what_the_public_functions_give():
    rng = np.random.default_rng(6)
    images, texts, labels = rng.normal(size=(50, 16)), rng.normal(size=(7, 16)), rng.integers(7, size=50)
    predicted, sas, margin = alignment_scores(images, texts, labels)
    assert (predicted.dtype, sas.dtype, margin.dtype) == (np.int64, np.float32, np.float32)
    np.testing.assert_array_equal(predicted, predicted_labels(images, texts))
    np.testing.assert_array_equal(sas, semantic_alignment_score(images, texts, labels))
    np.testing.assert_array_equal(margin, semantic_alignment_score(images, texts, labels, kind="margin"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_are_scored_where_they_are(device, dtype, monkeypatch):
    monkeypatch.setattr(arrays, "_BLOCK_ELEMENTS", 64)
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(30, 16, generator=generator).to(dtype), torch.randn(5, 16, generator=generator)
    labels = torch.randint(5, (30,), generator=generator)
    expected = alignment_scores(images, texts, labels)
    # A tensor on the CPU goes to numpy; left as it is, it goes the way of a GPU's.
    monkeypatch.setattr(arrays, "on_its_device", lambda embeds, name="": embeds)
    found = alignment_scores(images.to(device), texts.to(device), labels)
    assert all(isinstance(column, np.ndarray) for column in found)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1:], expected[1:], atol=1e-6)
    np.testing.assert_array_equal(predicted_labels(images.to(device), texts.to(device)), expected[0])


def test_alignment_stays_in_its_range_and_takes_one_class():
    row = np.random.default_rng(1).normal(size=(1, 512))
    images = np.repeat(row, 50, axis=0) * np.arange(1, 51)[:, None]
    sas = semantic_alignment_score(images, row, np.zeros(50, dtype=int))
    np.testing.assert_allclose(sas, 1, atol=1e-6)
    assert sas.max() <= 1
    margin = semantic_alignment_score(images, row, np.zeros(50, dtype=int), kind="margin")
    np.testing.assert_allclose(margin, sas, atol=1e-6)


def test_predicted_label_of_equal_prompts_is_the_lower():
    assert predicted_labels(np.array([[1.0, 1.0]]), np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])).tolist() == [0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_torch_in_gives_numpy_out(dtype):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(20, 8, generator=generator).to(dtype).requires_grad_()
    texts = torch.randn(3, 8, generator=generator).to(dtype)
    labels = torch.randint(3, (20,), generator=generator)
    as_numpy = images.detach().double().numpy(), texts.double().numpy(), labels.numpy()
    sas = semantic_alignment_score(images, texts, labels)
    assert isinstance(sas, np.ndarray)
    np.testing.assert_array_equal(sas, semantic_alignment_score(*as_numpy))
    np.testing.assert_array_equal(predicted_labels(images, texts), predicted_labels(*as_numpy[:2]))


def test_inputs_are_left_alone():
    images, texts = np.full((4, 2), 3.0, dtype=np.float32), np.full((2, 2), 5.0, dtype=np.float32)
    labels = np.array([0, 0, 1, 1])
    semantic_alignment_score(images, texts, labels, kind="margin")
    predicted_labels(images, texts)
    assert (images == 3).all()
    assert (texts == 5).all()


def test_extreme_lengths_are_normalised():
    images = np.array([[1e-30, 0], [1e30, 1e30]], dtype=np.float32)
    sas = semantic_alignment_score(images, np.eye(2), np.array([0, 0]))
    np.testing.assert_allclose(sas, [1, np.sqrt(0.5)], rtol=1e-6)


def broken(position, value):
    embeds = np.ones((4, 3))
    embeds[position] = value
    return embeds


@pytest.mark.parametrize(
    ("image_embeds", "text_embeds", "labels", "message"),
    [
        (broken(2, 0), np.eye(3), [0, 1, 2, 0], "image_embeds .* row 2 is all zero"),
        (broken((1, 0), np.nan), np.eye(3), [0, 1, 2, 0], "image_embeds .* row 1 is not finite"),
        (np.ones((4, 3)), broken((3, 1), np.inf), [0, 1, 2, 0], "text_embeds .* row 3 is not finite"),
        (np.ones(4), np.eye(3), [0, 1, 2, 0], r"image_embeds .* shape \(4,\)"),
        (np.ones((0, 3)), np.eye(3), [], r"image_embeds .* shape \(0, 3\)"),
        (np.full((4, 3), "x"), np.eye(3), [0, 1, 2, 0], "image_embeds must be numbers"),
        (np.ones((4, 3)), np.eye(2), [0, 1, 1, 0], r"shapes \(4, 3\) and \(2, 2\)"),
        (np.ones((4, 3)), np.eye(3), [0, 1, 2], r"labels must be 4 integers.*shape \(3,\)"),
        (np.ones((4, 3)), np.eye(3), [0.0, 1.0, 2.0, 0.0], "labels must be 4 integers.*float64"),
        (np.ones((4, 3)), np.eye(3), [True, False, True, True], "labels must be 4 integers.*bool"),
        (np.ones((4, 3)), np.eye(3), [0, 3, 1, 2], r"labels must be in \[0, 3\).* got 3 in row 1"),
        (np.ones((4, 3)), np.eye(3), [0, 1, -1, 2], "got -1 in row 2"),
    ],
)
def test_alignment_says_what_is_wrong(image_embeds, text_embeds, labels, message):
    with pytest.raises(InputError, match=message):
        semantic_alignment_score(image_embeds, text_embeds, np.array(labels))


def test_unknown_kind():
    with pytest.raises(InputError, match="cosine, margin, got 'dot'"):
        semantic_alignment_score(np.eye(2), np.eye(2), np.array([0, 1]), kind="dot")

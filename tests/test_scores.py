import logging

import numpy as np
import pytest
import torch

from hf_clipselect import scores
from hf_clipselect.errors import InputError
from hf_clipselect.scores import predicted_labels, sample_diversity_score, semantic_alignment_score


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def slow_diversity(embeds, labels, neighbors_of_class):
    """Eq. 2 row by row in float64."""
    embeds = unit(embeds)
    result = np.zeros(len(embeds))
    for row, label in enumerate(labels):
        others = [other for other in np.flatnonzero(labels == label) if other != row]
        if others:
            k = min(max(neighbors_of_class(len(others) + 1), 1), len(others))
            result[row] = np.sort(np.linalg.norm(embeds[others] - embeds[row], axis=1))[:k].mean()
    return result


# --- alignment


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
    monkeypatch.setattr(scores, "_BLOCK_ELEMENTS", 64)
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
    sds = sample_diversity_score(images, labels)
    np.testing.assert_array_equal(sds, sample_diversity_score(as_numpy[0], as_numpy[2]))


def test_inputs_are_left_alone():
    images, texts = np.full((4, 2), 3.0, dtype=np.float32), np.full((2, 2), 5.0, dtype=np.float32)
    labels = np.array([0, 0, 1, 1])
    semantic_alignment_score(images, texts, labels, kind="margin")
    sample_diversity_score(images, labels)
    assert (images == 3).all()
    assert (texts == 5).all()


def test_extreme_lengths_are_normalised():
    images = np.array([[1e-30, 0], [1e30, 1e30]], dtype=np.float32)
    sas = semantic_alignment_score(images, np.eye(2), np.array([0, 0]))
    np.testing.assert_allclose(sas, [1, np.sqrt(0.5)], rtol=1e-6)


# --- diversity


def test_diversity_of_four_rows_by_hand():
    # On the circle at 0, 60, 180 degrees and, in the other class, 90: the chord of an angle a is 2 sin(a / 2).
    angles = np.deg2rad([0, 60, 180, 90])
    embeds, labels = np.stack([np.cos(angles), np.sin(angles)], axis=1), np.array([5, 5, 5, 2])
    root3 = np.sqrt(3)
    one = sample_diversity_score(embeds, labels, num_neighbors=1)
    np.testing.assert_allclose(one, [1, 1, root3, 0], atol=1e-6)
    two = sample_diversity_score(embeds, labels, num_neighbors=2)
    np.testing.assert_allclose(two, [1.5, (1 + root3) / 2, (2 + root3) / 2, 0], atol=1e-6)


@pytest.mark.parametrize("fraction", [0.1, 0.25, 1.0])
def test_diversity_equals_brute_force(fraction, monkeypatch):
    monkeypatch.setattr(scores, "_BLOCK_ELEMENTS", 1000)
    rng = np.random.default_rng(2)
    labels = rng.permutation(np.repeat([0, 1, 2, 4, 7], [1, 2, 3, 45, 260]))
    embeds = rng.normal(size=(len(labels), 12)) + 2
    embeds[labels == 7] = embeds[labels == 7][rng.integers(200, size=260)]  # duplicates
    result = sample_diversity_score(embeds, labels, neighbor_fraction=fraction)
    assert result.dtype == np.float32
    expected = slow_diversity(embeds, labels, lambda size: int(np.floor(fraction * size + 0.5)))
    np.testing.assert_allclose(result, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("k", [1, 3, 49, 50, 500])
def test_fixed_number_of_neighbors(k):
    rng = np.random.default_rng(3)
    embeds, labels = rng.normal(size=(120, 32)), np.repeat([0, 1], [70, 50])
    result = sample_diversity_score(embeds, labels, num_neighbors=k, neighbor_fraction=0.5)
    np.testing.assert_allclose(result, slow_diversity(embeds, labels, lambda size: k), rtol=1e-6)


@pytest.mark.parametrize(("size", "k"), [(4, 1), (14, 1), (15, 2), (25, 3), (35, 4)])
def test_neighbor_count_rounds_half_up(size, k):
    rng = np.random.default_rng(size)
    embeds, labels = rng.normal(size=(size, 4)), np.zeros(size, dtype=int)
    np.testing.assert_array_equal(
        sample_diversity_score(embeds, labels), sample_diversity_score(embeds, labels, num_neighbors=k)
    )


@pytest.mark.parametrize("k", [1, 49, 50, 300])
def test_a_class_of_duplicates_has_diversity_zero(k):
    rng = np.random.default_rng(4)
    embeds = np.repeat(rng.normal(size=(1, 512)), 400, axis=0)
    assert not sample_diversity_score(embeds, np.zeros(400, dtype=int), num_neighbors=k).any()


def test_near_duplicates_keep_their_digits():
    # 2 - 2 cos in float32 is off by some 1e-7, a tenth of a squared distance of 1e-6.
    rng = np.random.default_rng(5)
    embeds = unit(np.repeat(rng.normal(size=(30, 256)), 2, axis=0))
    embeds = unit(embeds + 5e-5 * rng.normal(size=embeds.shape)).astype(np.float32)
    labels = np.zeros(60, dtype=int)
    result = sample_diversity_score(embeds, labels, num_neighbors=1)
    assert result.max() < 2e-3
    np.testing.assert_allclose(result, slow_diversity(embeds, labels, lambda size: 1), rtol=1e-3)


def test_single_rows_are_warned_about_once(caplog):
    embeds = np.eye(5)
    with caplog.at_level(logging.WARNING):
        result = sample_diversity_score(embeds, np.array([3, 1, 1, 8, 1]))
    assert result[0] == result[3] == 0
    np.testing.assert_allclose(result[[1, 2, 4]], np.sqrt(2), rtol=1e-6)
    [record] = caplog.records
    assert "classes 3, 8" in record.getMessage()


# --- validation


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


@pytest.mark.parametrize(
    ("labels", "arguments", "message"),
    [
        ([0, 0, -1], {}, "labels must be 0 or more, got -1 in row 2"),
        ([0, 0], {}, "labels must be 3 integers"),
        ([0, 0, 0], {"neighbor_fraction": 0.0}, "neighbor_fraction"),
        ([0, 0, 0], {"neighbor_fraction": 1.5}, "neighbor_fraction"),
        ([0, 0, 0], {"num_neighbors": 0}, "num_neighbors"),
        ([0, 0, 0], {"num_neighbors": 1.5}, "num_neighbors"),
    ],
)
def test_diversity_says_what_is_wrong(labels, arguments, message):
    with pytest.raises(InputError, match=message):
        sample_diversity_score(np.eye(3), np.array(labels), **arguments)


def test_unknown_kind():
    with pytest.raises(InputError, match="cosine, margin, got 'dot'"):
        semantic_alignment_score(np.eye(2), np.eye(2), np.array([0, 1]), kind="dot")

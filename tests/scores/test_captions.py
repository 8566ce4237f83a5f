"""How an image is compared with its own caption and with those of others."""

import numpy as np
import pytest
import torch

from hf_clipselect.scores import arrays
from hf_clipselect.scores.alignment import alignment_scores
from hf_clipselect.scores.captions import LIKE_THE_OWN, NUM_REFERENCES, caption_alignment, draw_references


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def random_pairs(num_rows, num_captions, num_references, dim=16, seed=0):
    rng = np.random.default_rng(seed)
    texts = unit(rng.normal(size=(num_captions, dim)))
    own = rng.integers(num_captions, size=num_rows)
    references = np.sort(rng.choice(num_captions, num_references, replace=False))
    images = unit(texts[own] + rng.normal(size=(num_rows, dim)))
    return images, texts, own, references


def test_four_rows_by_hand():
    # Three captions: along one axis, along the other, and one between them that is more like the first.
    texts = np.array([[1, 0], [0, 1], [0.8, 0.6]], np.float32)
    images = np.array([[1, 0], [0.6, 0.8], [0.6, 0.8], [0, 1]], np.float32)
    own = np.array([0, 1, 0, 2])
    # A tenth of three is none, so that the own caption alone is left out.
    best, sas, margin = caption_alignment(images, texts[own], own, texts, np.arange(3))
    np.testing.assert_allclose(sas, [1, 0.8, 0.6, 0.6], atol=1e-6)
    np.testing.assert_allclose(margin, [1 - 0.8, 0.8 - 0.96, 0.6 - 0.96, 0.6 - 1], atol=1e-6)
    assert best.tolist() == [0, 2, 2, 1]
    assert (best.dtype, sas.dtype, margin.dtype) == (np.int64, np.float32, np.float32)


def test_captions_like_the_own_are_left_out():
    # Ten references: the own caption's nearest is left out, whether the own is among them or not.
    rng = np.random.default_rng(0)
    texts = unit(rng.normal(size=(12, 32)))
    texts[11] = unit(texts[0] + 0.01 * rng.normal(size=32))  # other words for the same
    image = texts[[11]]
    best, _, margin = caption_alignment(image, texts[[0]], np.array([0]), texts[2:], np.arange(2, 12))
    assert best.tolist() == [0] and margin[0] > 0.3
    # Where only the caption itself is left out, the other words win.
    best, _, margin = caption_alignment(image, texts[[0]], np.array([0]), texts[[0, 5, 11]], np.array([0, 5, 11]))
    assert best.tolist() == [11] and -0.1 < margin[0] < 0


@pytest.mark.parametrize("num_references", [2, 9, 40, 300])
def test_alignment_equals_the_slow_version_over_several_blocks(num_references, monkeypatch):
    monkeypatch.setattr(arrays, "_BLOCK_ELEMENTS", 2000)
    images, texts, own, references = random_pairs(150, 300, num_references)
    best, sas, margin = caption_alignment(images, texts[own], own, texts[references], references)
    left_out = max(1, int(LIKE_THE_OWN * num_references + 0.5))
    for row in range(150):
        others = sorted(references, key=lambda other: (other != own[row], -float(texts[other] @ texts[own[row]])))
        others = others[left_out:]
        cosines = {other: float(images[row] @ texts[other]) for other in others}
        winner = max(cosines, key=cosines.get)
        mine = float(images[row] @ texts[own[row]])
        assert sas[row] == pytest.approx(mine, abs=1e-6)
        assert margin[row] == pytest.approx(mine - cosines[winner], abs=1e-6)
        assert best[row] == (own[row] if mine > cosines[winner] else winner)


def test_captions_that_are_classes_have_the_margin_of_classes():
    images, texts, own, _ = random_pairs(200, 4, 4)
    best, sas, margin = caption_alignment(images, texts[own], own, texts, np.arange(4))
    predicted, expected_sas, expected = alignment_scores(images, texts, own)
    np.testing.assert_allclose(sas, expected_sas, atol=1e-6)
    np.testing.assert_allclose(margin, expected, atol=1e-6)
    assert best.tolist() == predicted.tolist()


@pytest.mark.parametrize("device", DEVICES)
def test_tensors_are_scored_where_they_are(device):
    images, texts, own, references = random_pairs(50, 80, 30)
    expected = caption_alignment(images, texts[own], own, texts[references], references)
    tensors = [torch.from_numpy(array).to(device) for array in (images, texts[own], texts[references])]
    found = caption_alignment(tensors[0], tensors[1], own, tensors[2], references)
    assert found[0].tolist() == expected[0].tolist()
    np.testing.assert_allclose(found[1:], expected[1:], atol=1e-6)


def test_references_are_all_captions_or_a_thousand_of_them():
    assert draw_references(5, seed=0).tolist() == [0, 1, 2, 3, 4]
    drawn = draw_references(5000, seed=0)
    assert len(drawn) == NUM_REFERENCES and (np.diff(drawn) > 0).all() and 0 <= drawn[0] and drawn[-1] < 5000
    assert drawn.tolist() == draw_references(5000, seed=0).tolist() != draw_references(5000, seed=1).tolist()

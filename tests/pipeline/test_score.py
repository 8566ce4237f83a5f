"""Scores straight from cached features: the same as from all embeddings at once, whoever computes which class."""

import logging

import numpy as np
import pytest
import torch

from hf_clipselect import InputError, sample_diversity_score, semantic_alignment_score
from hf_clipselect.adapters.projections import IdentityProjections
from hf_clipselect.encoder.feature_rows import FeatureRows
from hf_clipselect.pipeline.score import _shares, score_rows
from hf_clipselect.runtime.processes import Processes
from hf_clipselect.scores.alignment import alignment_scores
from hf_clipselect.scores.sample_scores import present_classes
from hf_clipselect.scores.targets import Classes


def predicted_labels(images, texts):
    return alignment_scores(images, texts, np.zeros(len(images), dtype=int))[0]


def targets_of(labels, classes):
    return Classes(labels, classes, [])


def scores_of(images, texts, labels, classes, **options):
    scores, graph = score_rows(
        IdentityProjections(images.shape[1]),
        FeatureRows([images]),
        torch.from_numpy(texts)[None],
        targets_of(labels, classes),
        **{"neighbor_fraction": 0.1, "num_neighbors": None, "processes": Processes(), **options},
    )
    assert (graph is None) == (scores.duplicate_group is None) == ("num_nearest" not in options)
    return scores


def random_rows(num_rows=900, num_classes=7, dim=16, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num_rows)
    labels[:num_classes] = np.arange(num_classes)
    images = rng.normal(size=(num_rows, dim)).astype(np.float32)
    return images, rng.normal(size=(num_classes, dim)).astype(np.float32), labels


def test_scores_of_four_rows_by_hand():
    # Classes 2 and 5 of a larger dataset; prompts along the two axes.
    texts = np.array([[1, 0], [0, 1]], np.float32)
    images = np.array([[1, 0], [0.6, 0.8], [0, 1], [0.8, 0.6]], np.float32)
    classes, labels = present_classes(np.array([2, 2, 5, 5]))
    scores = scores_of(images, texts, labels, classes)
    assert scores.predicted_label.tolist() == [0, 1, 1, 0]
    assert targets_of(labels, classes).in_table(scores).predicted_label.tolist() == [2, 5, 5, 2]
    np.testing.assert_allclose(scores.sas, [1, 0.6, 1, 0.6], atol=1e-6)
    np.testing.assert_allclose(scores.margin, [1, -0.2, 1, -0.2], atol=1e-6)
    np.testing.assert_allclose(scores.sds, [np.sqrt(0.8)] * 4, atol=1e-6)


@pytest.mark.parametrize("num_rows", [30, 900, 5000])
def test_scores_are_those_of_the_public_functions(num_rows):
    images, texts, labels = random_rows(num_rows)
    scores = scores_of(images, texts, labels, np.arange(7) * 10)
    assert np.array_equal(scores.predicted_label, predicted_labels(images, texts))
    np.testing.assert_allclose(scores.sas, semantic_alignment_score(images, texts, labels), atol=1e-6)
    np.testing.assert_allclose(
        scores.margin, semantic_alignment_score(images, texts, labels, kind="margin"), atol=1e-6
    )
    np.testing.assert_allclose(scores.sds, sample_diversity_score(images, labels), atol=1e-6)
    assert [column.dtype for column in (scores.predicted_label, scores.sas, scores.margin, scores.sds)] == [
        np.int64,
        np.float32,
        np.float32,
        np.float32,
    ]


def test_the_order_of_rows_and_parts_of_features_changes_nothing():
    images, texts, labels = random_rows()
    whole = scores_of(images, texts, labels, np.arange(7))
    in_parts, _ = score_rows(
        IdentityProjections(16),
        FeatureRows([images[:400], images[400:800], images[800:]]),
        torch.from_numpy(texts)[None],
        targets_of(labels, np.arange(7)),
        neighbor_fraction=0.1,
        num_neighbors=None,
        processes=Processes(),
    )
    assert np.array_equal(in_parts.sas, whole.sas) and np.array_equal(in_parts.sds, whole.sds)
    order = np.random.default_rng(1).permutation(len(labels))
    shuffled = scores_of(images[order], texts, labels[order], np.arange(7))
    np.testing.assert_allclose(shuffled.sds, whole.sds[order], atol=1e-6)


def test_copies_are_groups_by_their_lowest_row():
    images, texts, labels = random_rows(200, 4)
    labels[150], labels[60] = labels[7], labels[20]
    images[150], images[60] = 2 * images[7], images[20]  # the length does not count
    scores = scores_of(images, texts, labels, np.arange(4), num_nearest=8)
    expected = np.full(200, -1)
    expected[[7, 150]], expected[[20, 60]] = 7, 20
    assert scores.duplicate_group.tolist() == expected.tolist()


def test_classes_of_one_row_are_named(caplog):
    caplog.set_level(logging.WARNING, "hf_clipselect")
    images, texts, _ = random_rows(40, 4)
    labels = np.array([0, 3] + [1, 2] * 19)
    scores = scores_of(images, texts, labels, np.array([5, 6, 7, 8]))
    assert (scores.sds[:2] == 0).all() and (scores.sds[2:] > 0).all()
    assert caplog.messages == ["Classes of one row have a diversity score of 0, 2 in all: 5, 8."]


def test_an_embedding_of_zeros_is_refused():
    images, texts, labels = random_rows(40, 4)
    images[17] = 0
    with pytest.raises(InputError, match="1 of 40 images"):
        scores_of(images, texts, labels, np.arange(4))


def test_classes_are_shared_out_whole_and_evenly():
    sizes = np.array([5000] + [100] * 40 + [3000, 700])
    alone = _shares(sizes, 1)[0]
    for count in (2, 3, 5):
        shares = _shares(sizes, count)
        assert sorted(map(tuple, (group for share in shares for group in share))) == sorted(map(tuple, alone))
    assert sorted(label for group in alone for label in group) == list(range(len(sizes)))
    assert [0] in alone and [41] in alone
    first, second = _shares(sizes, 2)
    assert [0] in first and [41] in second
    assert _shares(np.array([3, 4]), 3) == [[[0, 1]], [], []]

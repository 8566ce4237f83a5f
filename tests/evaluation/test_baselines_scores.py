"""Each score of a baseline is its paper's formula: by hand, or against a slow version that follows the text."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from hf_clipselect import InputError
from hf_clipselect.evaluation.baselines import glister
from hf_clipselect.evaluation.baselines.cg_score import cg_score_gigabytes, cg_scores, complexity_gaps
from hf_clipselect.evaluation.baselines.el2n import el2n_scores
from hf_clipselect.evaluation.baselines.forgetting import ForgettingCounter
from hf_clipselect.evaluation.baselines.glister import glister_rows
from hf_clipselect.evaluation.baselines.grand import grand_scores
from hf_clipselect.evaluation.baselines.moderate import moderate_scores
from hf_clipselect.evaluation.baselines.moso import mean_gradient, moso_scores
from hf_clipselect.evaluation.baselines.random import random_scores
from hf_clipselect.evaluation.robustness import add_label_noise


def rows_and_labels(num_rows=24, num_classes=3, hidden_size=5, *, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(num_rows) % num_classes)
    features = rng.normal(size=(num_rows, hidden_size)) + 2 * rng.normal(size=(num_classes, hidden_size))[labels]
    return features.astype(np.float32), labels


def head_of(num_classes=3, hidden_size=5, *, seed=1):
    return np.random.default_rng(seed).normal(size=(num_classes, hidden_size + 1)).astype(np.float32)


def probabilities_of(features, head):
    return torch.from_numpy(features @ head[:, :-1].T + head[:, -1]).softmax(dim=1)


def gradients_of(features, labels, head):
    """By autograd, row for row: of the cross entropy by weights and bias, `(N, C, H + 1)`, float64."""
    gradients = []
    for row, label in zip(features, labels, strict=True):
        weights = torch.from_numpy(head).double().requires_grad_()
        logits = weights[:, :-1] @ torch.from_numpy(row).double() + weights[:, -1]
        functional.cross_entropy(logits[None], torch.tensor([label])).backward()
        gradients.append(weights.grad.numpy())
    return np.stack(gradients)


# Random


def test_random_scores_are_an_order_of_the_seed():
    scores = random_scores(1000, seed=3)
    assert scores.dtype == np.float32 and sorted(scores) == list(range(-999, 1))
    assert np.array_equal(scores, random_scores(1000, seed=3))
    assert not np.array_equal(scores, random_scores(1000, seed=4))


def test_random_rows_are_not_those_that_got_wrong_labels():
    """The same seed in both must neither find nor avoid them."""
    labels = np.arange(2000) % 10
    shares = []
    for seed in range(10):
        wrong = add_label_noise(labels, 10, rate=0.2, seed=seed) != labels
        shares.append(wrong[np.argsort(-random_scores(2000, seed=seed))[:400]].mean())
    assert 0.18 < np.mean(shares) < 0.22


# Moderate-DS


def test_moderate_by_hand():
    # The centre of class 0 is (0.8, 0), the median of 0, 0.6, 0.8, 1, 1 and of -0.6, 0, 0, 0.8, 1: 0.2, 0.2, 0.6,
    # sqrt(0.68) and sqrt(1.64) away; the lone row of class 1 is its own centre. The median of all is 0.4.
    embeds = np.array([[1, 0], [0, 2], [3, 0], [0.6, 0.8], [0.8, -0.6], [1, 1]])
    labels = np.array([0, 0, 0, 0, 0, 1])
    distances = np.array([0.2, np.sqrt(1.64), 0.2, np.sqrt(0.68), 0.6, 0])
    np.testing.assert_allclose(moderate_scores(embeds, labels), -np.abs(distances - 0.4), atol=1e-6)


def test_moderate_equals_the_formula_about_the_medians():
    features, labels = rows_and_labels(40, 4, 6)
    units = features.astype(np.float64) / np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    distances = [
        np.linalg.norm(unit - np.median([u for u, other in zip(units, labels, strict=True) if other == label], axis=0))
        for unit, label in zip(units, labels, strict=True)
    ]
    scores = moderate_scores(torch.from_numpy(features), labels)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, -np.abs(distances - np.median(distances)), atol=1e-6)


# EL2N, GraNd, MoSo


def test_el2n_by_hand():
    probabilities = np.array([[1.0, 0, 0], [0, 1, 0], [0.7, 0.2, 0.1], [0.25, 0.25, 0.5]])
    scores = el2n_scores(probabilities, np.array([0, 0, 0, 2]))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [0, np.sqrt(2), np.sqrt(0.09 + 0.04 + 0.01), np.sqrt(0.375)], atol=1e-6)
    assert probabilities[0, 0] == 1  # nothing is written into what was given


def test_grand_is_the_norm_of_autograds_gradient():
    (features, labels), head = rows_and_labels(), head_of()
    gradients = gradients_of(features, labels, head)
    scores = grand_scores(probabilities_of(features, head), labels, features)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, np.linalg.norm(gradients.reshape(len(labels), -1), axis=1), rtol=1e-4)


def test_moso_is_the_product_with_the_gradient_of_all_others():
    (features, labels), head = rows_and_labels(), head_of()
    gradients = gradients_of(features, labels, head)
    probabilities = probabilities_of(features, head)
    mean = mean_gradient(probabilities, labels, features)
    np.testing.assert_allclose(mean, gradients.mean(axis=0), atol=1e-5)
    expected = [np.sum(gradients[row] * np.delete(gradients, row, axis=0).mean(axis=0)) for row in range(len(labels))]
    scores = moso_scores(probabilities, labels, features, mean, num_rows=len(labels))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_moso_by_hand():
    # All at probability 1/2. Gradients (weight, bias) of class 0: -1/2 (1, 1), -1/2 (1, 1), 1/2 (1, 1) and -1/2 (0,
    # 1); of class 1 the same turned round. The others of row 0 add up to (0, -1/2): 2 * 1/4 / 3.
    features, labels = np.array([[1.0], [1], [1], [0]], dtype=np.float32), np.array([0, 0, 1, 0])
    probabilities = torch.full((4, 2), 0.5)
    scores = moso_scores(probabilities, labels, features, mean_gradient(probabilities, labels, features), num_rows=4)
    np.testing.assert_allclose(scores, np.array([0.25, 0.25, -1.25, 0.25]) * 2 / 3, atol=1e-6)


# Forgetting


def forgetting_scores(epochs):
    counter = ForgettingCounter(epochs.shape[1])
    for is_right in epochs:
        counter.add_epoch(is_right)
    return counter.scores()


def test_forgetting_by_hand():
    epochs = np.array([[1, 0, 0, 1, 1], [0, 0, 1, 1, 0], [1, 0, 1, 1, 0], [0, 0, 0, 1, 1]], dtype=bool)
    # forgotten twice; never right; learnt late, forgotten once; never forgotten; forgotten once
    assert forgetting_scores(epochs).tolist() == [2, 4, 1, 0, 1]
    assert forgetting_scores(epochs).dtype == np.float32


def test_a_row_that_was_never_right_is_above_any_other():
    flickering = np.arange(9) % 2 == 0
    scores = forgetting_scores(np.stack([flickering, np.zeros(9, dtype=bool)], axis=1))
    assert scores[1] > scores[0] == 4


# CG-Score


def gram_matrix(rows):
    gram = np.empty((len(rows), len(rows)))
    for i, one in enumerate(rows):
        for j, other in enumerate(rows):
            cosine = min(1.0, max(-1.0, one @ other))
            gram[i, j] = 0.5 if i == j else cosine * (np.pi - np.arccos(cosine)) / (2 * np.pi)
    return gram


def test_complexity_gap_equals_leaving_the_row_out():
    features, labels = rows_and_labels(20, 2)
    rows = features.astype(np.float64) / np.linalg.norm(features, axis=1, keepdims=True)
    signs, gram = np.where(labels == 0, 1.0, -1.0), gram_matrix(rows)
    whole = signs @ np.linalg.inv(gram) @ signs
    expected = []
    for row in range(20):
        rest = np.arange(20) != row
        expected.append(whole - signs[rest] @ np.linalg.inv(gram[np.ix_(rest, rest)]) @ signs[rest])
    np.testing.assert_allclose(complexity_gaps(rows, signs), expected, rtol=1e-3)


def test_cg_score_by_hand():
    # Orthogonal rows do not see each other: H is half the identity, and each gap is 1 / H_ii.
    scores = cg_scores(np.eye(4), np.array([0, 0, 1, 1]), seed=0)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, 2, rtol=1e-5)


def test_a_copy_is_worth_nothing_and_a_copy_with_another_label_much():
    embeds = np.eye(5)[[0, 0, 1, 2, 2]]
    scores = cg_scores(embeds, np.array([0, 0, 0, 0, 1]), seed=0)
    assert np.isfinite(scores).all()
    assert max(scores[:2]) < 1e-4 < 1 < scores[2] < 3 < 1000 < scores[3]


def test_cg_score_sets_a_class_against_as_many_rows_of_the_others():
    features, labels = rows_and_labels(60, 3)
    scores = cg_scores(features, labels, seed=0)
    assert np.array_equal(scores, cg_scores(features, labels, seed=0))
    assert not np.array_equal(scores, cg_scores(features, labels, seed=1))
    # Two classes of one size: nothing is drawn, and the order of the classes does not count.
    two = labels < 2
    both = cg_scores(features[two], labels[two], seed=0)
    np.testing.assert_allclose(both, cg_scores(features[two], 1 - labels[two], seed=5), rtol=1e-4)


def test_cg_score_tells_its_memory_before_it_starts():
    labels = np.repeat(np.arange(10), 100_000)
    assert cg_score_gigabytes(labels) == pytest.approx(320)  # 200,000 x 200,000 of 8 bytes
    assert cg_score_gigabytes(np.zeros(1000, dtype=np.int64)) == pytest.approx(0.008)  # there are no others
    features, labels = rows_and_labels()
    with pytest.raises(
        InputError, match=r"needs a matrix of 0\.0 GB for the largest class, of 8 rows, and 1e-06 GB are allowed"
    ):
        cg_scores(features, labels, seed=0, max_gigabytes=1e-6)


# Glister


def slow_glister(features, labels, val_features, val_labels, head, *, num_rounds):
    """Greedy, with autograd for every gradient; a round's rows are taken one by one by their gains at its start."""
    per_round = -(-len(labels) // num_rounds)
    eta = 1 / (per_round * (np.square(features, dtype=np.float64).sum(axis=1) + 1).mean())
    gradients, order, stepped = gradients_of(features, labels, head), [], head.astype(np.float64)
    while len(order) < len(labels):
        wanted = gradients_of(val_features, val_labels, stepped).mean(axis=0)
        gains = {row: np.sum(gradients[row] * wanted) for row in range(len(labels)) if row not in order}
        for row in sorted(gains, key=lambda row: -gains[row])[:per_round]:
            order.append(row)
            stepped = stepped - eta * gradients[row]
    return order


@pytest.mark.parametrize("num_rounds", [8, 24, 100])
def test_glister_equals_the_slow_greedy(num_rounds, monkeypatch):
    monkeypatch.setattr(glister, "_NUM_ROUNDS", num_rounds)
    (features, labels), head = rows_and_labels(), head_of()
    val = rows_and_labels(9, seed=7)
    order = glister_rows(features, labels, *val, head, 24)
    assert order.dtype == np.int64
    assert order.tolist() == slow_glister(features, labels, *val, head, num_rounds=num_rounds)
    assert glister_rows(features, labels, *val, head, 10).tolist() == order[:10].tolist()


def test_glister_by_hand():
    # A head of zeros; the validation row is x = 1 of class 0. Its gradient is (-1/2, 1/2) by (1, 1): row 0 has it as
    # well, row 1 its opposite, and rows at x = -1 have one that is orthogonal to it.
    features, labels = np.array([[1.0], [1], [-1], [-1]], dtype=np.float32), np.array([0, 1, 0, 1])
    order = glister_rows(features, labels, features[:1], labels[:1], np.zeros((2, 2), dtype=np.float32), 4)
    assert order[0] == 0 and order[-1] == 1

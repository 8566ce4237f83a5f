"""A noise model of some rows judges the labels of others: by the definition, and as well as a model of their own."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from test_noise_model import clusters, wrong_labels

from hf_clipselect.scores.label_judge import LabelJudge
from hf_clipselect.scores.noise_model import estimate_label_noise, fit_label_judge


def unit(images):
    return images / np.linalg.norm(images, axis=1, keepdims=True)


def softmax(logits):
    logits = np.array(logits)
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def by_definition(judge, image, label):
    """P(wrong) = 1 - q_y T_yy / sum_k q_k T_ky."""
    count = len(judge.texts)
    by_clip = np.log(softmax([judge.logit_scale * float(image @ text) for text in judge.texts]))
    by_regression = np.log(softmax([float(np.append(1, image) @ judge.regression[:, k]) for k in range(count)]))
    if not judge.has_regression[label]:
        by_regression[:] = 0
    of_clip, of_regression = judge.model.parameters[:2]
    prior = softmax(of_clip * by_clip + of_regression * by_regression + judge.model.parameters[2:])
    given = judge.model.transitions
    pairs = dict(zip(given.codes.tolist(), given.pairs.tolist(), strict=True))
    of_label = [
        1 - given.share[k]
        if k == label
        else pairs.get(k * count + label, given.share[k] * given.even[k] / (count - 1))
        for k in range(count)
    ]
    joint = prior * of_label
    return 1 - joint[label] / joint.sum()


@pytest.mark.parametrize("num_classes", [2, 5, 60])
def test_is_the_definition_for_each_row_whatever_the_others(num_classes):
    images, texts, labels = clusters(300, num_classes)
    judge = fit_label_judge(images, texts, wrong_labels(labels, num_classes, 0.2))
    fresh, _, given = clusters(40, num_classes, seed=0)
    fresh = unit(fresh + 0.1)
    found = judge.error_probability(fresh, given)
    assert found.dtype == np.float32 and found.shape == (40,)
    expected = [by_definition(judge, image, label) for image, label in zip(fresh, given, strict=True)]
    assert np.allclose(found, expected, atol=1e-5)
    alone = [judge.error_probability(fresh[[row]], given[[row]])[0] for row in range(40)]
    assert np.allclose(found, alone, atol=1e-6)
    again = LabelJudge.of(judge.arrays())
    assert np.array_equal(again.error_probability(fresh, given), found)


@pytest.mark.parametrize("rate", [0, 0.1, 0.3])
def test_rows_that_it_was_not_fitted_to_are_judged_as_by_a_model_of_their_own(rate):
    images, texts, labels = clusters(2400)
    given = wrong_labels(labels, 5, rate)
    is_fitted = np.random.default_rng(0).permutation(2400) < 1200
    judge = fit_label_judge(images[is_fitted], texts, given[is_fitted])
    others, is_wrong = ~is_fitted, (given != labels)[~is_fitted]
    found = judge.error_probability(unit(images[others]), given[others])
    assert found.mean() == pytest.approx(is_wrong.mean(), abs=0.03)
    if rate:
        own = estimate_label_noise(images[others], texts, given[others]).error_probability
        assert roc_auc_score(is_wrong, found) > roc_auc_score(is_wrong, own) - 0.01


def test_a_class_of_one_row_has_no_regression():
    images, texts, labels = clusters(101, 5)
    labels[labels == 4] = 3
    labels[0] = 4
    judge = fit_label_judge(images, texts, labels)
    assert judge.has_regression.tolist() == [True, True, True, True, False]
    assert np.isfinite(judge.error_probability(unit(images), labels)).all()


def test_nothing_is_judged_where_nothing_tells_the_classes_apart():
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(400, 8)), rng.normal(size=(4, 8))
    assert fit_label_judge(images, texts, rng.integers(0, 4, 400)) is None
    assert fit_label_judge(images, texts[:1], np.zeros(400, dtype=np.int64)) is None

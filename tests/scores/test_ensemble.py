"""The ensemble is CLIP's log probability plus that of a regression that did not see the row's label."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from real_features import NOISES, food_embeds, mislabelled
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from hf_clipselect import semantic_alignment_score
from hf_clipselect.errors import InputError
from hf_clipselect.scores import arrays
from hf_clipselect.scores.ensemble import ensemble_alignment
from hf_clipselect.scores.folds import content_order
from hf_clipselect.scores.judges import Judges


def out_of_fold_weights(images, texts, labels, order, folds):
    """Of regressions for these folds, whatever what the rows are says."""
    num_folds = int(folds.max()) + 1
    judges = Judges(images, texts, labels, num_folds=num_folds)
    judges.order, judges.labels, judges._folds = order, labels[order], folds[order]
    return judges._weights


def clusters(num_rows=150, num_classes=4, embed_dim=12, *, seed=0):
    """Unit-norm images around class centres, with a direction in common as CLIP's have; a tenth is mislabelled."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(num_classes, embed_dim)) + 2
    labels = rng.integers(0, num_classes, num_rows)
    images = centres[labels] + rng.normal(size=(num_rows, embed_dim))
    texts = centres + 0.5 * rng.normal(size=centres.shape)
    labels[::10] = (labels[::10] + 1) % num_classes
    images, texts = (rows / np.linalg.norm(rows, axis=1)[:, None] for rows in (images, texts))
    return images.astype(np.float32), texts.astype(np.float32), labels


def explicit_ensemble(images, texts, labels, *, logit_scale, num_folds, seed):
    """The definition in float64, with scikit-learn's regression for each fold, trained to its optimum."""
    images, texts = images.astype(np.float64), texts.astype(np.float64)
    own = np.arange(len(labels)), labels
    logits = logit_scale * images @ texts.T
    total = logits[own] - np.log(np.exp(logits).sum(axis=1))
    folds = np.empty(len(labels), dtype=np.int64)
    folds[content_order(images.astype(np.float32), labels, seed=seed)[0]] = np.arange(len(labels)) % num_folds
    inputs = np.concatenate([images, np.ones((len(images), 1))], axis=1)  # the constant is penalised as well
    for fold in range(num_folds):
        train, rows = folds != fold, np.flatnonzero(folds == fold)
        regression = LogisticRegression(fit_intercept=False, tol=1e-10, max_iter=10_000).fit(
            inputs[train], labels[train]
        )
        assert regression.classes_.tolist() == list(range(len(texts)))
        total[rows] += regression.predict_log_proba(inputs[rows])[np.arange(len(rows)), labels[rows]]
    return total


@pytest.mark.parametrize(("num_folds", "logit_scale", "seed"), [(5, 100.0, 42), (2, 10.0, 0)])
def test_equals_the_definition_with_scikit_learns_regression(num_folds, logit_scale, seed):
    options = {"num_folds": num_folds, "logit_scale": logit_scale, "seed": seed}
    images, texts, labels = clusters()
    alignment = ensemble_alignment(images, texts, labels, **options)
    assert alignment.dtype == np.float32 and alignment.shape == (150,)
    np.testing.assert_allclose(alignment, explicit_ensemble(images, texts, labels, **options), atol=5e-3)


def test_four_rows_by_hand():
    # Each fold trains on one row of each class, (1, 0) and (0, 1). By symmetry its logits are a and -a for the own and
    # the other class, and 2 a^2 + 2 log(1 + exp(-2 a)) is least where a (1 + exp(2 a)) = 1.
    a = 0.3374158
    assert a * (1 + math.exp(2 * a)) == pytest.approx(1, abs=1e-5)
    regression = -math.log(1 + math.exp(-2 * a))
    clip = -math.log(1 + math.exp(-2))
    images = np.eye(2)[[0, 0, 1, 1]]
    alignment = ensemble_alignment(images, np.eye(2), [0, 0, 1, 1], logit_scale=2, num_folds=2)
    np.testing.assert_allclose(alignment, [regression + clip] * 4, atol=1e-4)
    # The prompts the other way round: CLIP is now as sure of the other class.
    alignment = ensemble_alignment(images, np.eye(2)[::-1], [0, 0, 1, 1], logit_scale=2, num_folds=2)
    np.testing.assert_allclose(alignment, [regression + clip - 2] * 4, atol=1e-4)


def test_labels_of_a_fold_do_not_reach_the_regression_that_scores_it():
    images, texts, labels = clusters()
    folds, order = np.empty(150, dtype=np.int64), np.random.default_rng(0).permutation(150)
    folds[order] = np.arange(150) % 3
    flipped = np.where(folds == 1, (labels + 1) % 4, labels)
    before, after = (out_of_fold_weights(images, texts, some, order, folds) for some in (labels, flipped))
    assert torch.equal(before[:, 1], after[:, 1])
    for other in (0, 2):
        assert (before[:, other] - after[:, other]).abs().max() > 0.1


@settings(max_examples=25, deadline=None)
@given(num_rows=st.integers(4, 200), copies=st.integers(0, 30), small=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_rows_changes_no_digit(num_rows, copies, small, seed):
    rng = np.random.default_rng(seed)
    images, texts, labels = clusters(num_rows, embed_dim=int(rng.choice([3, 12, 65, 512])), seed=seed)
    some = rng.integers(0, num_rows, copies)
    images, labels = np.concatenate([images, images[some]]), np.concatenate([labels, labels[some]])
    order = rng.permutation(len(labels))
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(arrays, "_BLOCK_ELEMENTS", 1024)
        alignment = ensemble_alignment(images, texts, labels, seed=seed)
        permuted = ensemble_alignment(images[order], texts, labels[order], seed=seed)
    assert np.array_equal(permuted, alignment[order])
    assert np.array_equal(alignment[some], alignment[num_rows:])


def test_is_higher_for_right_labels():
    images, texts, labels = clusters(300)
    right = np.arange(300) % 10 != 0
    alignment = ensemble_alignment(images, texts, labels)
    assert roc_auc_score(right, alignment) > 0.95
    assert (alignment <= 0).all() and alignment[right].mean() > alignment[~right].mean() + 1


def test_is_finite_however_sure_clip_is_and_where_a_class_has_one_row_or_none():
    images, texts, labels = clusters(60)
    labels = np.where(labels == 3, 0, labels)
    labels[5] = 3
    more = np.concatenate([texts, -texts[:1]])
    alignment = ensemble_alignment(images, more, labels, logit_scale=1e6)
    assert np.isfinite(alignment).all() and alignment.min() < -1e4 and (alignment <= 0).all()


def test_one_class_fits_for_certain():
    images, texts, labels = clusters(20)
    assert ensemble_alignment(images, texts[:1], labels * 0).tolist() == [0] * 20


def test_the_seed_decides_the_folds_and_nothing_else():
    images, texts, labels = clusters()
    alignment = ensemble_alignment(images, texts, labels)
    torch.rand(3)
    assert np.array_equal(alignment, ensemble_alignment(images, texts, labels, seed=42))
    other = ensemble_alignment(images, texts, labels, seed=1)
    assert not np.array_equal(alignment, other)
    np.testing.assert_allclose(alignment, other, atol=1)


def test_blocks_change_nothing(monkeypatch):
    images, texts, labels = clusters()
    whole = ensemble_alignment(images, texts, labels)
    monkeypatch.setattr(arrays, "_BLOCK_ELEMENTS", 12 * 7)
    np.testing.assert_allclose(ensemble_alignment(images, texts, labels), whole, atol=1e-3)


@pytest.mark.parametrize(
    "convert",
    [torch.from_numpy, lambda a: a.astype(np.float64), lambda a: 8 * a, lambda a: a.tolist()],
    ids=["torch", "float64", "scaled", "lists"],
)
def test_kinds_of_arrays(convert):
    images, texts, labels = clusters()
    alignment = ensemble_alignment(images, texts, labels)
    other = ensemble_alignment(convert(images), convert(texts), torch.from_numpy(labels))
    np.testing.assert_allclose(other, alignment, atol=1e-3)


def test_the_arrays_are_left_as_they_are():
    images, texts, labels = clusters()
    copies = images.copy(), texts.copy(), labels.copy()
    ensemble_alignment(images, texts, labels)
    for array, before in zip((images, texts, labels), copies, strict=True):
        assert np.array_equal(array, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logit_scale": 0}, "logit_scale must be a number above 0, got 0; CLIP's own is 100"),
        ({"logit_scale": math.nan}, "logit_scale"),
        ({"logit_scale": math.inf}, "logit_scale"),
        ({"num_folds": 1}, "num_folds must be a whole number from 2 to the number of rows, 150, got 1"),
        ({"labels": np.full(150, 4)}, r"labels must be in \[0, 4\)"),
        ({"text_embeds": np.ones((4, 3))}, "must share their last dimension"),
        ({"image_embeds": np.zeros((150, 12))}, "row 0 is all zero"),
    ],
)
def test_input_that_does_not_fit_is_refused(change, message):
    images, texts, labels = clusters()
    with pytest.raises(InputError, match=message):
        ensemble_alignment(**{"image_embeds": images, "text_embeds": texts, "labels": labels, **change})


# Real CLIP features


@pytest.mark.parametrize("noise", NOISES)
def test_wrong_labels_of_real_images_are_told(real_data, record_property, noise):
    images, texts, labels = food_embeds(real_data)
    found = []
    for seed in range(5):
        noisy = mislabelled(labels, noise, seed)
        margin = semantic_alignment_score(images, texts, noisy, kind="margin")
        ensemble = ensemble_alignment(images, texts, noisy, seed=seed)
        found.append([100 * roc_auc_score(noisy == labels, scores) for scores in (margin, ensemble)])
    margin, ensemble = np.mean(found, axis=0)
    record_property("printed", f"AUROC, {noise} noise: margin {margin:.2f}, ensemble {ensemble:.2f}")
    assert margin >= 99.7
    assert ensemble >= 99.7

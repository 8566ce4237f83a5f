"""The noise model: planted wrong labels are counted and found, whatever the order of the rows, and never NaN."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad

from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.robustness import add_label_noise
from hf_clipselect.scores import arrays, label_model, noise_model
from hf_clipselect.scores.judges import Judges
from hf_clipselect.scores.noise_model import LabelNoise, check_auto, estimate_label_noise


def clusters(num_rows=1000, num_classes=5, *, spread=1.2, embed_dim=16, seed=0):
    """Images around class centres, with a direction in common as CLIP's have, and texts near the centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(num_classes, embed_dim)) + 1
    labels = np.arange(num_rows) % num_classes
    images = centres[labels] + spread * rng.normal(size=(num_rows, embed_dim))
    texts = centres + 0.5 * rng.normal(size=centres.shape)
    return images.astype(np.float32), texts.astype(np.float32), labels


def wrong_labels(labels, num_classes, rate, kind="symmetric", seed=0):
    return add_label_noise(labels, num_classes, rate=rate, kind=kind, seed=seed)


@pytest.mark.parametrize("kind", ["symmetric", "pairwise"])
@pytest.mark.parametrize("rate", [0, 0.1, 0.2, 0.4])
def test_counts_planted_wrong_labels(kind, rate):
    images, texts, labels = clusters()
    given_labels = wrong_labels(labels, 5, rate, kind)
    noise = estimate_label_noise(images, texts, given_labels)
    assert noise.share == pytest.approx(rate, abs=0.03)
    assert noise.share == pytest.approx(noise.error_probability.mean(), abs=1e-6)
    is_wrong = given_labels != labels
    if rate:
        assert noise.error_probability[is_wrong].mean() > 0.8
    assert noise.error_probability[~is_wrong].mean() < 0.06
    assert (noise.clean_label == labels).mean() > 0.93
    assert noise.notices == ()


def test_many_small_classes_have_no_wrong_labels_where_judges_are_weak():
    images, texts, labels = clusters(2000, 50, spread=1.6, embed_dim=24)
    noise = estimate_label_noise(images, texts, labels)
    assert noise.share < 0.05


def test_drawn_candidates_stand_for_all_classes(monkeypatch):
    images, texts, labels = clusters(2400, 80, spread=1.2, embed_dim=24)
    given_labels = wrong_labels(labels, 80, 0.2)
    drawn = estimate_label_noise(images, texts, given_labels)
    monkeypatch.setattr(noise_model, "_DRAWN", 80)
    every = estimate_label_noise(images, texts, given_labels)
    assert drawn.share == pytest.approx(every.share, abs=0.005)
    assert np.abs(drawn.error_probability - every.error_probability).mean() < 0.01


@pytest.mark.parametrize("rows_of_class", [100, 1000])
def test_a_cheaper_judge_counts_them_too(monkeypatch, rows_of_class):
    """Of many rows: ten steps from a tenth of them, or two long ones from all."""
    images, texts, labels = clusters(5000)
    given_labels = wrong_labels(labels, 5, 0.2)
    whole = estimate_label_noise(images, texts, given_labels)
    monkeypatch.setattr(noise_model, "_SMALL", 0)
    monkeypatch.setattr(noise_model, "_ROWS_OF_CLASS", rows_of_class)
    cheaper = estimate_label_noise(images, texts, given_labels)
    assert cheaper.share == pytest.approx(0.2, abs=0.03)
    assert not np.array_equal(cheaper.error_probability, whole.error_probability)
    assert np.corrcoef(cheaper.error_probability, whole.error_probability)[0, 1] > 0.95


def test_a_sample_of_rows_fits_the_model_for_all(monkeypatch):
    images, texts, labels = clusters(4000)
    given_labels = wrong_labels(labels, 5, 0.2)
    whole = estimate_label_noise(images, texts, given_labels)
    monkeypatch.setattr(noise_model, "_FIT_ROWS", 800)
    sampled = estimate_label_noise(images, texts, given_labels)
    assert sampled.share == pytest.approx(whole.share, abs=0.02)
    assert not np.array_equal(sampled.error_probability, whole.error_probability)


@settings(max_examples=15, deadline=None)
@given(num_rows=st.integers(10, 120), copies=st.integers(0, 20), many=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_rows_changes_no_digit(num_rows, copies, many, seed):
    rng = np.random.default_rng(seed)
    images, texts, labels = clusters(num_rows, 80 if many else 4, seed=seed)
    some = rng.integers(0, num_rows, copies)
    images, labels = np.concatenate([images, images[some]]), np.concatenate([labels, labels[some]])
    order = rng.permutation(len(labels))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "_BLOCK_ELEMENTS", 1024)
        noise = estimate_label_noise(images, texts, labels, seed=seed)
        permuted = estimate_label_noise(images[order], texts, labels[order], seed=seed)
    assert np.array_equal(permuted.error_probability, noise.error_probability[order])
    assert np.array_equal(permuted.clean_label, noise.clean_label[order])
    assert (permuted.share, permuted.share_error) == (noise.share, noise.share_error)
    assert np.array_equal(noise.error_probability[some], noise.error_probability[num_rows:])


@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(st.integers(0, 5), min_size=2, max_size=40),
    structure=st.sampled_from(["drawn", "constant", "own label only", "two points"]),
    seed=st.integers(0, 99),
)
def test_is_never_nan(labels, structure, seed):
    rng, labels = np.random.default_rng(seed), np.array(labels)
    texts = rng.normal(size=(6, 8))
    images = rng.normal(size=(len(labels), 8))
    if structure == "constant":
        images[:] = images[0]
    elif structure == "own label only":
        images = texts[labels]
    elif structure == "two points":
        images = images[:2][np.arange(len(labels)) % 2]
    noise = estimate_label_noise(images, texts, labels)
    assert noise.error_probability.dtype == np.float32 and noise.clean_label.dtype == np.int64
    assert ((noise.error_probability >= 0) & (noise.error_probability <= 1)).all()
    assert ((noise.clean_label >= 0) & (noise.clean_label < 6)).all()
    assert 0 <= noise.share <= 1 and noise.share_error >= 0


def test_a_class_of_one_row_is_judged_by_clip():
    images, texts, labels = clusters(200)
    labels[labels == 4] = 3
    images[7], labels[7] = texts[4], 4
    noise = estimate_label_noise(images, texts, labels)
    assert noise.notices == ("1 class has one row only: whether its label is wrong is judged by CLIP alone.",)
    assert noise.error_probability[7] < 0.5 and noise.clean_label[7] == 4


@pytest.mark.parametrize("num_classes", [5, 200])
@pytest.mark.parametrize("structure", ["drawn", "constant"])
def test_no_label_is_taken_for_wrong_where_nothing_is_known(num_classes, structure):
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(1000, 16)), rng.normal(size=(num_classes, 16))
    if structure == "constant":
        images[:] = images[0]
    labels = np.arange(1000) % num_classes
    noise = estimate_label_noise(images, texts, labels)
    assert not noise.error_probability.any() and noise.share == 0
    assert np.array_equal(noise.clean_label, labels) and noise.clean_label.dtype == np.int64
    assert "tells the classes apart" in noise.notices[-1]
    with pytest.raises(InputError, match="too uncertain"):
        check_auto(noise)


def test_few_rows_are_judged_by_clip():
    images, texts, labels = clusters(8)
    noise = estimate_label_noise(images, texts, labels)
    assert noise.notices == (
        "8 rows of 5 classes are too few to learn from: which labels are wrong is judged by CLIP alone.",
    )


def test_auto_is_refused_where_the_share_is_uncertain():
    zeros = np.zeros(3, dtype=np.float32), np.zeros(3, dtype=np.int64)
    check_auto(LabelNoise(*zeros, share=0.2, share_error=0.01))
    with pytest.raises(InputError, match=r"about 23% .* give or take 9% .* such as --selection_ratio 0.7\."):
        check_auto(LabelNoise(*zeros, share=0.23, share_error=0.09))


def evidence_of(judges):
    """Of all rows, with their labels."""
    everything = np.ones(len(judges.labels), dtype=bool)
    parts = list(noise_model._evidence(judges, everything, step=1, seed=0))
    places = np.concatenate([places for places, _ in parts])
    return judges.labels[places], noise_model._joined([evidence for _, evidence in parts])


def test_the_gradient_is_that_of_the_loss():
    images, texts, labels = clusters(60, 70, embed_dim=8)
    _, evidence = evidence_of(Judges(images, texts, labels % 7))
    rng = np.random.default_rng(0)
    of_labels = rng.uniform(0.01, 1, evidence.classes.shape)
    parameters = rng.uniform(0.1, 1, 72)
    loss, gradient = (lambda p, part=part: label_model._loss(p, evidence, of_labels)[part] for part in (0, 1))
    assert check_grad(loss, gradient, parameters) < 1e-5


def explicit_transitions(posterior, classes, labels, num_classes):
    """One EM step by the definition, with the whole matrix."""
    counts = np.zeros((num_classes, num_classes))
    for row, label in enumerate(labels):
        for probability, true in zip(posterior[row], classes[row], strict=True):
            counts[true, label] += probability
    matrix = np.zeros_like(counts)
    wrong_of_all = counts.sum() - np.trace(counts)
    for true in range(num_classes):
        wrong = counts[true].sum() - counts[true, true]
        share = min(0.5, (wrong + 20 * wrong_of_all / counts.sum()) / (counts[true].sum() + 20))
        even = max(1 / 3, (num_classes - 1) / (num_classes - 1 + wrong))
        for label in range(num_classes):
            shape = (counts[true, label] / wrong if wrong else 0) * (1 - even) + even / (num_classes - 1)
            matrix[true, label] = 1 - share if true == label else share * shape
    return matrix


def test_an_em_step_is_the_explicit_one():
    images, texts, labels = clusters(90, 6)
    labels = wrong_labels(labels, 6, 0.3)
    given_labels, evidence = evidence_of(Judges(images, texts, labels))
    posterior = np.random.default_rng(0).dirichlet(np.ones(6), size=90)
    transitions = label_model._Transitions(evidence.classes, 6)
    transitions.start(np.zeros(90, dtype=np.int64))
    transitions.update(posterior)
    expected = explicit_transitions(posterior, evidence.classes, given_labels, 6)
    by_definition = expected[evidence.classes, given_labels[:, None]]
    assert np.allclose(transitions.of_rows(), by_definition)
    assert np.allclose(transitions.of_labels(evidence.classes), by_definition)


def test_transitions_of_many_classes_are_those_of_the_table(monkeypatch):
    images, texts, labels = clusters(400, 40)
    _, evidence = evidence_of(Judges(images, texts, labels))
    transitions = label_model._Transitions(evidence.classes[:60], 40)
    transitions.start(np.zeros(60, dtype=np.int64))
    transitions.update(np.random.default_rng(0).dirichlet(np.ones(evidence.classes.shape[1]), size=60))
    by_table = transitions.of_labels(evidence.classes)
    monkeypatch.setattr(label_model, "_TABLE_CLASSES", 0)
    stands_for_any = np.isfinite(evidence.log_counts)  # a candidate that comes again has no weight
    assert np.array_equal(transitions.of_labels(evidence.classes)[stands_for_any], by_table[stands_for_any])
    assert np.array_equal(transitions.of_labels(evidence.classes[:60]), transitions.of_rows())

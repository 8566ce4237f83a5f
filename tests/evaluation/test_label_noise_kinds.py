"""Pairwise and class-dependent label noise on arrays, and any of it on datasets."""

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value

from hf_clipselect.embedded import load_digits_dataset
from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.robustness import (
    NOISE_KINDS,
    add_label_noise,
    corrupt_images,
    corrupt_labels,
    similarity_transition_matrix,
)


# Class 0 is never mistaken; 1 is for 0 and 2; 2 for 3 alone; half of class 3 is for any other.
MATRIX = np.array([[1, 0, 0, 0], [0.1, 0.7, 0.2, 0], [0, 0, 0.8, 0.2], [0.125, 0.125, 0.25, 0.5]])


def moves(labels: np.ndarray, noisy: np.ndarray, num_classes: int) -> np.ndarray:
    """Rows of each class (down) that are now labelled as each class (right)."""
    counts = np.zeros((num_classes, num_classes), dtype=int)
    np.add.at(counts, (labels, noisy), 1)
    return counts


@pytest.mark.parametrize(("num_rows", "rate", "changed"), [(10, 0.25, 3), (50, 0.29, 15), (7, 0.0, 0), (0, 0.5, 0)])
def test_pairwise_noise_moves_exact_counts_to_the_next_class(num_rows, rate, changed):
    labels = np.arange(num_rows) % 4
    noisy = add_label_noise(labels, 4, rate=rate, seed=0, kind="pairwise")
    wrong = noisy != labels
    assert wrong.sum() == changed and noisy.dtype == np.int64
    assert np.array_equal(noisy[wrong], (labels[wrong] + 1) % 4)
    # The same rows as with symmetric noise of that seed.
    assert np.array_equal(wrong, add_label_noise(labels, 4, rate=rate, seed=0) != labels)


def test_a_matrix_decides_how_many_rows_move_where():
    labels = np.repeat([3, 1, 0, 2], 1000)
    noisy = add_label_noise(labels, 4, seed=5, kind="class_dependent", transition_matrix=MATRIX)
    # Whole numbers are met exactly: nothing is left to round.
    assert np.array_equal(moves(labels, noisy, 4), 1000 * MATRIX)


def test_four_rows_by_hand():
    # Both rows of class 0 become 1 and one of the two of class 1 becomes 0.
    swap = np.array([[0, 1], [0.5, 0.5]])
    for seed in range(20):
        noisy = add_label_noise([0, 1, 0, 1], 2, seed=seed, kind="class_dependent", transition_matrix=swap)
        assert noisy[[0, 2]].tolist() == [1, 1] and sorted(noisy[[1, 3]]) == [0, 1]


@pytest.mark.parametrize("rate", [None, 0.05, 0.2, 0.333, 0.4])
def test_counts_are_exact_and_within_a_row_of_their_share(rate):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, size=237)
    sizes = np.bincount(labels)
    shares = MATRIX * (1 - np.eye(4)) * sizes[:, None]
    count = int(shares.sum() + 0.5) if rate is None else int(rate * 237 + 0.5)
    shares *= count / shares.sum()
    for seed in range(30):
        noisy = add_label_noise(labels, 4, rate=rate, seed=seed, kind="class_dependent", transition_matrix=MATRIX)
        counts = moves(labels, noisy, 4) * (1 - np.eye(4, dtype=int))
        assert counts.sum() == count
        assert (abs(counts.sum(axis=1) - shares.sum(axis=1)) < 1).all() and (abs(counts - shares) < 2).all()
        assert (counts[MATRIX == 0] == 0).all()


def test_shares_of_less_than_a_row_are_met_on_average():
    """30 rows among 30 classes: a rule that rounds the same way every time would always move the same classes."""
    num_classes = 30
    matrix = np.full((num_classes, num_classes), 0.3 / (num_classes - 1))
    np.fill_diagonal(matrix, 0.7)
    labels, total = np.arange(num_classes), np.zeros((num_classes, num_classes), dtype=int)
    for seed in range(2000):
        noisy = add_label_noise(labels, num_classes, seed=seed, kind="class_dependent", transition_matrix=matrix)
        total += moves(labels, noisy, num_classes)
    # Each class leaves in 600 of 2,000 draws and arrives as often; five standard deviations are about 105.
    leaving, arriving = (
        (total * (1 - np.eye(num_classes))).sum(axis=1),
        (total * (1 - np.eye(num_classes))).sum(axis=0),
    )
    assert leaving.sum() == 2000 * 9
    assert abs(leaving - 600).max() < 105 and abs(arriving - 600).max() < 125


def test_which_rows_of_a_class_move_is_drawn():
    labels = np.zeros(10, dtype=int)
    matrix = np.array([[0.8, 0.2], [0, 1]])
    rows = {
        tuple(np.flatnonzero(add_label_noise(labels, 2, seed=seed, kind="class_dependent", transition_matrix=matrix)))
        for seed in range(200)
    }
    assert {len(pair) for pair in rows} == {2} and len(rows) > 35  # of 45 pairs


def test_similar_classes_are_mistaken_for_each_other():
    embeds = np.array([[1, 0, 0], [1, 0.1, 0], [0, 0, 5]])
    matrix = similarity_transition_matrix(embeds, temperature=0.5)
    units = embeds / np.linalg.norm(embeds, axis=1, keepdims=True)
    for row in range(3):
        others = [column for column in range(3) if column != row]
        weights = np.exp([units[row] @ units[column] / 0.5 for column in others])
        assert np.allclose(matrix[row, others], weights / weights.sum(), atol=1e-6) and matrix[row, row] == 0
    assert matrix[0, 1] > 5 * matrix[0, 2]
    assert np.allclose(similarity_transition_matrix(torch.tensor(embeds), temperature=0.5), matrix, atol=1e-6)
    labels = np.repeat(np.arange(3), 100)
    noisy = add_label_noise(labels, 3, rate=0.2, seed=0, kind="class_dependent", transition_matrix=matrix)
    assert ((noisy != labels).reshape(3, 100).sum(axis=1) == 20).all()


def test_similarities_that_make_no_matrix():
    with pytest.raises(InputError, match="at least two classes, got 1"):
        similarity_transition_matrix(np.ones((1, 3)))
    with pytest.raises(InputError, match="temperature must be above 0, got 0"):
        similarity_transition_matrix(np.eye(3), temperature=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 0.2, "kind": "uniform"}, "symmetric, pairwise, class_dependent"),
        ({"rate": None}, "'symmetric' needs a rate"),
        ({"kind": "class_dependent"}, "belong together, got none"),
        ({"rate": 0.2, "transition_matrix": np.eye(2)}, "belong together, but kind is 'symmetric'"),
        ({"kind": "class_dependent", "transition_matrix": np.eye(3)}, r"shape \(2, 2\).*got \(3, 3\)"),
        (
            {"kind": "class_dependent", "transition_matrix": [[0.5, 0.4], [0, 1]]},
            r"Row 0 .*sum to 1, got the sum 0\.9",
        ),
        ({"kind": "class_dependent", "transition_matrix": [[1, 0], [1.5, -0.5]]}, "Row 1 .*lowest value -0.5"),
        ({"kind": "class_dependent", "transition_matrix": [[1, 0], [np.nan, 1]]}, "Row 1 "),
        (
            {"kind": "class_dependent", "transition_matrix": np.eye(2), "rate": 0.2},
            "2 wrong labels, .* at most 0 of 10",
        ),
        (
            {"kind": "class_dependent", "transition_matrix": [[0.5, 0.5], [0, 1]], "rate": 0.6},
            "6 wrong labels, .* at most 5 of 10",
        ),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(InputError, match=message):
        add_label_noise(np.arange(10) % 2, 2, seed=0, **arguments)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_digits_dataset("train")


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_a_dataset_remembers_its_clean_labels(digits, kind):
    matrix = None
    if kind == "class_dependent":
        matrix = 0.5 * np.eye(10) + 0.5 * similarity_transition_matrix(np.random.default_rng(0).normal(size=(10, 4)))
    arguments = {"rate": 0.2, "kind": kind, "transition_matrix": matrix}
    noisy = corrupt_labels(digits, seed=3, **arguments)
    assert noisy.column_names == ["image", "label", "is_noisy", "clean_label"]
    assert noisy.features["clean_label"] == noisy.features["label"] == digits.features["label"]
    assert noisy.features["is_noisy"] == Value("bool")
    assert noisy["clean_label"] == digits["label"][:]
    assert np.array_equal(noisy["label"], add_label_noise(digits["label"][:], 10, seed=3, **arguments))
    assert np.array_equal(noisy["is_noisy"], np.array(noisy["label"]) != np.array(digits["label"]))
    assert sum(noisy["is_noisy"]) == 259
    # Another load of the same rows gives the same dataset, another seed other rows.
    again = corrupt_labels(load_digits_dataset("train"), seed=3, **arguments)
    assert again["label"] == noisy["label"]
    assert corrupt_labels(digits, seed=4, **arguments)["is_noisy"] != noisy["is_noisy"]


def test_other_columns_stay_as_they_are_stored():
    broken = [{"bytes": b"not an image", "path": None}] * 6
    features = Features({"given": ClassLabel(names=["a", "b"]), "image": Image(), "note": Value("string")})
    dataset = Dataset.from_dict({"given": [0, 1] * 3, "image": broken, "note": list("uvwxyz")}, features=features)
    shuffled = dataset.select([5, 3, 1, 0]).with_format("torch")
    noisy = corrupt_labels(shuffled, label_column="given", rate=0.5, seed=0)
    assert noisy.column_names == ["given", "image", "note", "is_noisy", "clean_label"]
    assert noisy["note"] == list("zxvu") and noisy["clean_label"] == [1, 1, 1, 0] and sum(noisy["is_noisy"]) == 2
    assert noisy.cast_column("image", Image(decode=False))["image"] == broken[:4]


def test_wrong_labels_and_damaged_images_together(digits):
    some = digits.select(range(100))
    dirty = corrupt_images(corrupt_labels(some, rate=0.2, seed=0), rate=0.1, seed=0)
    assert dirty.column_names == ["image", "label", "is_noisy", "clean_label", "corruption"]
    assert sum(dirty["is_noisy"]) == 20 and sum(name != "none" for name in dirty["corruption"]) == 10


def test_a_label_column_alone():
    features = Features({"label": ClassLabel(names=["a", "b"])})
    noisy = corrupt_labels(Dataset.from_dict({"label": [0, 1]}, features=features), rate=0.5, seed=0)
    assert sum(noisy["is_noisy"]) == 1


def test_datasets_that_do_not_fit(digits):
    with pytest.raises(InputError, match="'image' is not a column of class labels; choose label_column from: label"):
        corrupt_labels(digits, label_column="image", rate=0.1, seed=0)
    with pytest.raises(InputError, match="has a column 'is_noisy'"):
        corrupt_labels(corrupt_labels(digits, rate=0.1, seed=0), rate=0.1, seed=0)
    features = Features({"label": ClassLabel(names=["a", "b"])})
    with pytest.raises(InputError, match="Row 1 has no label"):
        corrupt_labels(Dataset.from_dict({"label": [0, None]}, features=features), rate=0.5, seed=0)
    with pytest.raises(InputError, match=r"\[0, 2\), but row 0 has -1"):
        corrupt_labels(Dataset.from_dict({"label": [-1, 1]}, features=features), rate=0.5, seed=0)

import numpy as np
import pytest
import torch

from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.baselines import prototypes
from hf_clipselect.evaluation.baselines.prototypes import prototype_scores
from hf_clipselect.selection import top_k


def slow_scores(embeds, groups):
    """Where the clusters are known: cosine distance to the nearest of their means, a pair at a time."""
    unit = embeds.astype(np.float64) / np.linalg.norm(embeds, axis=1, keepdims=True)
    means = [unit[groups == group].mean(axis=0) for group in np.unique(groups)]
    return np.array([min(1 - row @ mean / np.linalg.norm(mean) for mean in means) for row in unit])


def separate_clusters(seed, num_rows=90):
    rng = np.random.default_rng(seed)
    groups = rng.integers(3, size=num_rows)
    embeds = np.eye(8)[groups] + 0.15 * rng.normal(size=(num_rows, 8))
    return (embeds * rng.uniform(0.5, 3, size=(num_rows, 1))).astype(np.float32), groups


def test_four_rows_by_hand():
    angles = np.radians([0, 60, 180, 180])  # prototypes at 30 and at 180 degrees
    embeds = np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[1], [1], [2], [5]]
    scores = prototype_scores(embeds, num_clusters=2, seed=0)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [1 - 3**0.5 / 2, 1 - 3**0.5 / 2, 0, 0], atol=1e-6)
    # With one prototype alone the mean of all four, at (-0.125, 0.2165), 120 degrees.
    np.testing.assert_allclose(prototype_scores(embeds, num_clusters=1, seed=0), [1.5, 0.5, 0.5, 0.5], atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_equals_distances_to_the_means_of_known_clusters(seed):
    embeds, groups = separate_clusters(seed)
    scores = prototype_scores(embeds, num_clusters=3, seed=seed)
    np.testing.assert_allclose(scores, slow_scores(embeds, groups), atol=2e-6)
    np.testing.assert_array_equal(scores, prototype_scores(torch.from_numpy(embeds), num_clusters=3, seed=seed))


def test_the_odd_rows_are_the_hardest():
    embeds, _ = separate_clusters(0)
    embeds[:3] = np.eye(8)[3:6]  # between the clusters, each elsewhere
    assert top_k(prototype_scores(embeds, num_clusters=3, seed=0), 3).tolist() == [0, 1, 2]


def test_many_rows_go_in_batches(monkeypatch):
    embeds, groups = separate_clusters(2, num_rows=3000)
    monkeypatch.setattr(prototypes, "_FULL_UP_TO", 2999)
    scores = prototype_scores(embeds, num_clusters=3, seed=0)
    np.testing.assert_allclose(scores, slow_scores(embeds, groups), atol=0.02)
    assert np.abs(scores - slow_scores(embeds, groups)).max() > 1e-5  # it is another method


def test_rows_that_cancel_out_have_no_direction():
    embeds = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    np.testing.assert_allclose(prototype_scores(embeds, num_clusters=1, seed=0), [1, 1])


def test_every_row_its_own_prototype():
    embeds, _ = separate_clusters(0, num_rows=20)
    np.testing.assert_allclose(prototype_scores(embeds, num_clusters=20, seed=0), np.zeros(20), atol=1e-6)


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_fewer_different_rows_than_prototypes():
    embeds = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    np.testing.assert_allclose(prototype_scores(embeds, num_clusters=5, seed=0), np.zeros(12), atol=1e-6)


@pytest.mark.parametrize("num_clusters", [0, 13, 1.5, None])
def test_rejects_numbers_of_clusters(num_clusters):
    with pytest.raises(InputError, match="num_clusters must be an integer from 1 to the number of rows, 12, got"):
        prototype_scores(np.ones((12, 2)), num_clusters=num_clusters, seed=0)

import numpy as np
import pytest

from hf_clipselect.scores.diversity import class_diversity
from hf_clipselect.scores.leaks import copies, nearest_references, usual_cosine
from hf_clipselect.selection import class_graph, duplicate_groups


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    rows = rng.normal(size=shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def all_cosines(embeds: np.ndarray, count: int) -> np.ndarray:
    """Of each row with so many of the others that are nearest to it, from one matrix of all pairs."""
    cosines = embeds @ embeds.T
    np.fill_diagonal(cosines, -np.inf)
    return -np.sort(-cosines, axis=1)[:, :count]


def test_the_nearest_row_of_a_reference_of_several_blocks():
    rng = np.random.default_rng(0)
    embeds, references = unit(rng, 700, 6), unit(rng, 40_000, 6)
    nearest, cosines = nearest_references(embeds, references)
    products = embeds @ references.T
    np.testing.assert_array_equal(nearest, products.argmax(axis=1))
    np.testing.assert_allclose(cosines, products.max(axis=1), atol=1e-6)
    assert (nearest.dtype, cosines.dtype) == (np.int64, np.float32)


@pytest.mark.parametrize("num_rows", [2, 3, 33, 200])
def test_the_usual_cosine_is_the_median_of_the_listed_ones(num_rows):
    embeds = unit(np.random.default_rng(num_rows), num_rows, 5)
    expected = np.median(all_cosines(embeds, min(32, num_rows - 1)))
    assert usual_cosine(embeds) == pytest.approx(expected, abs=1e-6)


def test_of_a_large_class_some_rows_tell_about_what_all_do():
    embeds = unit(np.random.default_rng(1), 3000, 5)
    assert usual_cosine(embeds) == pytest.approx(np.median(all_cosines(embeds, 32)), abs=2e-3)
    assert usual_cosine(embeds) == usual_cosine(embeds.copy())


def test_one_row_tells_nothing():
    assert usual_cosine(unit(np.random.default_rng(2), 1, 5)) is None


def test_copies_by_hand():
    # (0.94 - 0.5) / 0.5 squared is 0.774, (0.95 - 0.5) / 0.5 squared 0.81; 0.8 is what near duplicates have.
    found = copies(np.array([7, 8, 9]), np.array([0.94, 0.95, 1], dtype=np.float32), np.float32(0.5))
    assert found.tolist() == [-1, 8, 9]


def test_a_copy_is_what_is_a_near_duplicate_within_a_class():
    rng = np.random.default_rng(3)
    embeds = unit(rng, 60, 8)
    likes = embeds + rng.normal(size=(60, 8)).astype(np.float32) * np.linspace(0, 0.3, 60, dtype=np.float32)[:, None]
    both = np.concatenate([embeds, likes / np.linalg.norm(likes, axis=1, keepdims=True)])
    listed = class_diversity(both, 5, num_nearest=32)
    groups = duplicate_groups(class_graph(listed.nearest, listed.cosines))
    found = copies(listed.nearest[:, 0], listed.cosines[:, 0], usual_cosine(both))
    np.testing.assert_array_equal(found >= 0, groups >= 0)
    assert 20 < (found >= 0).sum() < 100

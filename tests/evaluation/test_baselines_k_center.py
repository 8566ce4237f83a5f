from itertools import combinations

import numpy as np
import pytest

from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.baselines.k_center import k_center_rows


def unit(embeds):
    return embeds / np.linalg.norm(embeds, axis=1, keepdims=True)


def slow_k_center(embeds, first, count):
    """All distances anew for every pick."""
    rows, picked = unit(embeds.astype(np.float64)), [first]
    while len(picked) < count:
        nearest = [min(np.linalg.norm(row - rows[other]) for other in picked) for row in rows]
        picked.append(max((row for row in range(len(rows)) if row not in picked), key=lambda row: nearest[row]))
    return picked


def test_four_rows_by_hand():
    angles = np.radians([0, 20, 90, 150])
    embeds = np.stack([np.cos(angles), np.sin(angles)], axis=1) * 3
    # From each first row: the farthest one, then what lies most apart from both.
    by_first = {0: [0, 3, 2, 1], 1: [1, 3, 2, 0], 2: [2, 0, 3, 1], 3: [3, 0, 2, 1]}
    seen = set()
    for seed in range(20):
        rows = k_center_rows(embeds, 4, seed=seed)
        assert rows.dtype == np.int64
        assert rows.tolist() == by_first[rows[0]]
        seen.add(int(rows[0]))
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("seed", range(5))
def test_equals_a_slow_greedy_and_its_prefixes(seed):
    embeds = np.random.default_rng(seed).normal(size=(40, 5)).astype(np.float32)
    rows = k_center_rows(embeds, 40, seed=seed)
    assert rows.tolist() == slow_k_center(embeds, rows[0], 40)
    for count in (1, 2, 13):
        np.testing.assert_array_equal(k_center_rows(embeds, count, seed=seed), rows[:count])


def test_the_radius_is_at_most_twice_the_best():
    embeds = unit(np.random.default_rng(3).normal(size=(14, 3)))
    distances = np.linalg.norm(embeds[:, None] - embeds, axis=2)
    best = min(distances[:, list(rows)].min(axis=1).max() for rows in combinations(range(14), 4))
    radii = [distances[:, k_center_rows(embeds, 4, seed=seed)].min(axis=1).max() for seed in range(20)]
    assert best <= min(radii) and max(radii) <= 2 * best


def test_copies_come_last_and_of_equal_rows_the_lower_first():
    embeds = np.tile(np.eye(4, dtype=np.float32), (3, 1))
    rows = k_center_rows(embeds, 12, seed=1).tolist()
    different = [rows[0], *(row for row in range(4) if row != rows[0] % 4)]
    assert rows == different + [row for row in range(12) if row not in different]
    assert k_center_rows(embeds[:1], 1, seed=0).tolist() == [0]


@pytest.mark.parametrize("count", [0, 4, 1.0])
def test_rejects_counts(count):
    with pytest.raises(InputError, match="count must be an integer from 1 to the number of rows, 3, got"):
        k_center_rows(np.eye(3), count, seed=0)


def test_rejects_rows_without_a_direction():
    with pytest.raises(InputError, match="embeds must have finite rows with a direction; row 2 is all zero"):
        k_center_rows(np.eye(3) * [1, 1, 0], 1, seed=0)

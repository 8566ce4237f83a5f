import numpy as np
import pytest

from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.baselines.d2_pruning import d2_rows


def slow_d2(embeds, scores, count, num_neighbors, gamma):
    """The three steps over full matrices."""
    unit = embeds.astype(np.float64) / np.linalg.norm(embeds, axis=1, keepdims=True)
    num_rows = len(unit)
    distances = np.linalg.norm(unit[:, None] - unit, axis=2)
    joined = np.zeros((num_rows, num_rows), dtype=bool)
    for row in range(num_rows):
        others = sorted((other for other in range(num_rows) if other != row), key=lambda other: distances[row, other])
        joined[row, others[:num_neighbors]] = True
    joined |= joined.T
    values = scores + (joined * np.exp(-distances)) @ scores
    picked = []
    while len(picked) < count:
        best = max((row for row in range(num_rows) if row not in picked), key=lambda row: values[row])
        picked.append(best)
        values = values - joined[best] * np.exp(-gamma * distances[best]) * values[best]
    return picked


def test_four_rows_by_hand():
    # One neighbour each, at distance 1: 0 with 1 and 2 with 3; exp(-1) = 0.368. Forward: 4 + 0.368 * 3 = 5.10, 4.47,
    # 3.10, 3.74. Row 0 takes 0.368 * 5.10 from row 1, leaving 2.59, so that row 3 is next; it leaves 1.73 for row 2.
    angles = np.radians([0, 60, 180, 240])
    embeds, scores = np.stack([np.cos(angles), np.sin(angles)], axis=1), np.array([4, 3, 2, 3])
    rows = d2_rows(embeds, scores, 4, num_neighbors=1)
    assert rows.dtype == np.int64
    assert rows.tolist() == [0, 3, 1, 2]
    # Messages that fade at once change nothing on the way back.
    assert d2_rows(embeds, scores, 4, num_neighbors=1, gamma=100).tolist() == [0, 1, 3, 2]


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 5.0])
@pytest.mark.parametrize("seed", range(4))
def test_equals_full_matrices_and_its_prefixes(seed, gamma):
    rng = np.random.default_rng(seed)
    embeds, scores = rng.normal(size=(60, 5)).astype(np.float32), rng.exponential(size=60)
    num_neighbors = [1, 4, 10, 100][seed]
    rows = d2_rows(embeds, scores, 60, num_neighbors=num_neighbors, gamma=gamma)
    assert rows.tolist() == slow_d2(embeds, scores, 60, min(num_neighbors, 59), gamma)
    for count in (1, 2, 23):
        np.testing.assert_array_equal(
            d2_rows(embeds, scores, count, num_neighbors=num_neighbors, gamma=gamma), rows[:count]
        )


def test_a_pick_puts_its_copies_back():
    rng = np.random.default_rng(0)
    embeds = rng.normal(size=(40, 16)).astype(np.float32)
    embeds[:5] = embeds[0]
    scores = np.where(np.arange(40) < 5, 2.0, 1.0)  # the copies are the hardest
    # Each listed neighbour is a copy at distance 0: messages of the full value.
    rows = d2_rows(embeds, scores, 20, num_neighbors=4, gamma=1.0)
    assert rows[0] in range(5) and not set(rows[1:].tolist()) & set(range(5))
    by_score = np.argsort(-scores, kind="stable")[:20]
    assert set(range(5)) <= set(by_score.tolist())


def test_equal_rows_go_by_number_and_constant_scores_do():
    assert d2_rows(np.ones((4, 3)), np.zeros(4), 4, num_neighbors=3).tolist() == [0, 1, 2, 3]
    assert d2_rows(np.ones((1, 3)), np.ones(1), 1).tolist() == [0]


def test_the_scale_of_scores_and_rows_changes_nothing():
    rng = np.random.default_rng(5)
    embeds, scores = rng.normal(size=(50, 4)), rng.random(50)
    rows = d2_rows(embeds, scores, 30)
    np.testing.assert_array_equal(rows, d2_rows(embeds * 8, scores * 4, 30))


def test_rejects_scores():
    with pytest.raises(InputError, match="scores must be at least 0 to be passed on, got -1.0 in row 1; subtract"):
        d2_rows(np.eye(3), np.array([1.0, -1, 0]), 1)
    with pytest.raises(InputError, match="scores must be one number per row, 3, got 2"):
        d2_rows(np.eye(3), np.ones(2), 1)
    with pytest.raises(InputError, match="got inf in row 2"):
        d2_rows(np.eye(3), np.array([1, 0, np.inf]), 1)


def test_rejects_arguments_out_of_range():
    with pytest.raises(InputError, match="num_neighbors must be an integer of at least 1, got 0"):
        d2_rows(np.eye(3), np.ones(3), 1, num_neighbors=0)
    with pytest.raises(InputError, match="gamma must be a number of at least 0, got -1"):
        d2_rows(np.eye(3), np.ones(3), 1, gamma=-1)
    with pytest.raises(InputError, match="count must be an integer from 1 to the number of rows, 3, got 4"):
        d2_rows(np.eye(3), np.ones(3), 4)

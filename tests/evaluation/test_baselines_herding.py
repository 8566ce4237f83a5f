from fractions import Fraction

import numpy as np
import pytest

from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.baselines.herding import herding_rows


def turned(*degrees):
    """Unit rows in the plane."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def slow_herding(embeds, labels, count):
    """Tries every row for the mean of each class, and lines all turns up as fractions."""
    unit = embeds.astype(np.float64) / np.linalg.norm(embeds, axis=1, keepdims=True)
    due = []
    for label in sorted(set(labels.tolist())):
        members = np.flatnonzero(labels == label).tolist()
        mean, picked = unit[members].mean(axis=0), []
        while len(picked) < len(members):
            left = [row for row in members if row not in picked]
            picked.append(min(left, key=lambda row: np.linalg.norm(unit[[*picked, row]].mean(axis=0) - mean)))
        due += [(Fraction(2 * turn + 1, 2 * len(members)), label, row) for turn, row in enumerate(picked)]
    return [row for _, _, row in sorted(due, key=lambda turn: turn[:2])[:count]]


def test_four_rows_by_hand():
    # The mean m is (0.75, 0.53), and the products with it 0.75, 0.92, 0.84, 0.89: 30 degrees. With w = 2m - x = (0.64,
    # 0.57) the products are 0.64, -, 0.81, 0.84: 50 degrees, and with 3m - x - x' = (0.75, 0.33) 0.75 and 0.66: 0
    # degrees.
    embeds = turned(0, 30, 60, 50)
    rows = herding_rows(embeds, np.zeros(4, dtype=int), 4)
    assert rows.dtype == np.int64
    assert rows.tolist() == slow_herding(embeds, np.zeros(4, dtype=int), 4) == [1, 3, 0, 2]


@pytest.mark.parametrize("seed", range(6))
def test_equals_trying_every_row(seed):
    rng = np.random.default_rng(seed)
    embeds = (rng.normal(size=(60, 7)) + 1).astype(np.float32)
    labels = rng.choice([0, 2, 3], size=60, p=[0.6, 0.3, 0.1])
    expected = slow_herding(embeds, labels, 60)
    for count in (1, 2, 17, 60):
        assert herding_rows(embeds, labels, count).tolist() == expected[:count]  # and so the selections are nested
    # Powers of two leave every bit of a direction; others round it, and which of two near rows comes first then hangs
    # on the machine.
    scaled = embeds * rng.choice([0.25, 0.5, 2, 4], size=(60, 1)).astype(np.float32)
    assert herding_rows(scaled, labels, 30).tolist() == expected[:30]


def test_counts_are_proportional():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 2], [50, 30, 20]))
    embeds = rng.normal(size=(100, 4)).astype(np.float32)
    for count, expected in ((10, [5, 3, 2]), (50, [25, 15, 10]), (100, [50, 30, 20])):
        assert np.bincount(labels[herding_rows(embeds, labels, count)]).tolist() == expected


def test_copies_are_picked_once_each_and_the_lower_first():
    embeds = np.repeat(np.eye(4, dtype=np.float32)[:2], 3, axis=0)
    rows = herding_rows(embeds, np.zeros(6, dtype=int), 6)
    assert rows.tolist() == [0, 3, 1, 4, 2, 5]
    assert herding_rows(np.ones((1, 3), dtype=np.float32), np.array([7]), 1).tolist() == [0]


def test_the_mean_of_the_picked_rows_is_nearer_than_that_of_random_ones():
    rng = np.random.default_rng(1)
    embeds = (rng.normal(size=(500, 16)) + 0.5).astype(np.float32)
    unit = embeds / np.linalg.norm(embeds, axis=1, keepdims=True)

    def distance(rows):
        return np.linalg.norm(unit[rows].mean(axis=0) - unit.mean(axis=0))

    herded = distance(herding_rows(embeds, np.zeros(500, dtype=int), 50))
    assert herded < 0.2 * min(distance(rng.choice(500, 50, replace=False)) for _ in range(20))


@pytest.mark.parametrize("count", [0, 5, -1, 2.0, True, "2"])
def test_rejects_counts(count):
    with pytest.raises(InputError, match="count must be an integer from 1 to the number of rows, 4, got"):
        herding_rows(turned(0, 30, 60, 50), np.zeros(4, dtype=int), count)


def test_rejects_rows_and_labels():
    with pytest.raises(InputError, match="row 1 is all zero"):
        herding_rows(np.array([[1.0, 0], [0, 0]]), np.zeros(2, dtype=int), 1)
    with pytest.raises(InputError, match="row 0 is not finite"):
        herding_rows(np.array([[np.nan, 0], [1, 0]]), np.zeros(2, dtype=int), 1)
    with pytest.raises(InputError, match="labels must be 4 integers"):
        herding_rows(turned(0, 30, 60, 50), np.zeros(3, dtype=int), 1)

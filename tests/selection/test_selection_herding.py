import numpy as np
import pytest
import torch

from hf_clipselect.selection.herding_order import MAX_PART_ROWS, _in_parts, herding_order, order_by_content


def unit_rows(num_rows, seed, width=16):
    """Rows around a common direction, as the embeddings of a class lie."""
    rows = np.random.default_rng(seed).normal(size=(num_rows, width)) + 0.5
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def slowly(embeds):
    """The paper's rule with its weights written out, on rounded rows."""
    embeds = np.round(embeds.astype(np.float64) * 2048) / 2048
    mean = embeds.mean(axis=0)
    weights, left, picks = mean, list(range(len(embeds))), []
    while left:
        pick = max(left, key=lambda row: weights @ embeds[row])
        left.remove(pick)
        picks.append(pick)
        weights = weights + mean - embeds[pick]
    return picks


def distances_to_mean(embeds, order):
    """How far the mean of the first 1, 2, ... rows lies from that of all."""
    means = np.cumsum(embeds[order].astype(np.float64), axis=0) / np.arange(1, len(order) + 1)[:, None]
    return np.linalg.norm(means - embeds.mean(axis=0, dtype=np.float64), axis=1)


def test_four_rows_by_hand():
    embeds = np.array([[0.8, 0.6], [0.8, -0.6], [0.0, 1.0], [1.0, 0.0]], dtype=np.float32)
    # The mean is (0.65, 0.25): row 0 fits with 0.67, row 3 with 0.65. Then w is (0.5, -0.1): row 3 fits with 0.5,
    # row 1 with 0.46. Then w is (0.15, 0.15): row 2 fits with 0.15, row 1 with 0.03.
    assert herding_order(embeds, seed=0).tolist() == [0, 3, 2, 1]


@pytest.mark.parametrize("num_rows", [1, 3, 10, 200])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_rule_with_its_weights_written_out(num_rows, seed):
    embeds = unit_rows(num_rows, seed)
    order = herding_order(embeds, seed=3)
    assert order.dtype == np.int64
    assert order.tolist() == slowly(embeds)


def test_the_order_of_sums_changes_nothing():
    # As another number of threads, another library or device does. Without rounding these orders part at place 508.
    embeds = unit_rows(4000, 2, width=512)
    shuffled = np.random.default_rng(1).permutation(512)
    np.testing.assert_array_equal(
        herding_order(np.ascontiguousarray(embeds[:, shuffled]), seed=0), herding_order(embeds, seed=0)
    )


def test_rounding_costs_nothing_of_what_herding_is_for():
    embeds = unit_rows(400, 0, width=512)
    exact = embeds.astype(np.float64)
    weights, picks = exact.mean(axis=0), []
    for _ in range(100):
        fit = exact @ weights
        fit[picks] = -np.inf
        picks.append(fit.argmax())
        weights = weights + exact.mean(axis=0) - exact[picks[-1]]
    ours = distances_to_mean(embeds, herding_order(embeds, seed=0))[99]
    assert ours < 1.1 * distances_to_mean(embeds, picks)[99]


def test_numpy_and_torch_give_the_same():
    embeds = unit_rows(300, 0)
    np.testing.assert_array_equal(herding_order(torch.from_numpy(embeds), seed=0), herding_order(embeds, seed=0))


@pytest.mark.parametrize("max_rows", [MAX_PART_ROWS, 70])
def test_the_order_of_the_rows_changes_nothing(max_rows):
    embeds = unit_rows(500, 0)
    shuffled = np.random.default_rng(1).permutation(500)
    np.testing.assert_array_equal(shuffled[_in_parts(embeds[shuffled], 5, max_rows)], _in_parts(embeds, 5, max_rows))


def test_last_digits_draw_no_other_parts():
    # Another device, or adapters of another number of processes, changes the last digits alone.
    embeds = unit_rows(500, 0)
    nearly = np.nextafter(embeds, np.float32(1))
    np.testing.assert_array_equal(order_by_content(nearly), order_by_content(embeds))
    np.testing.assert_array_equal(_in_parts(nearly, 5, 70), _in_parts(embeds, 5, 70))
    by_first = np.argsort(embeds[:, 0].round(3), kind="stable")
    assert np.abs(np.argsort(by_first) - np.argsort(order_by_content(embeds))).max() < 10


@pytest.mark.parametrize("max_rows", [MAX_PART_ROWS, 50])
def test_copies_may_change_places_and_nothing_else(max_rows):
    embeds = unit_rows(60, 0)[np.random.default_rng(0).integers(60, size=300)]
    embeds[::7, 3] = 0
    embeds[::14, 3] = -0.0  # equal, though of other bytes
    shuffled = np.random.default_rng(1).permutation(300)
    order, other = (_in_parts(rows, 5, max_rows) for rows in (embeds, embeds[shuffled]))
    np.testing.assert_array_equal(embeds[order], embeds[shuffled][other])
    assert sorted(order) == sorted(other) == list(range(300))


def test_few_and_equal_rows():
    assert herding_order(np.empty((0, 4), dtype=np.float32), seed=0).tolist() == []
    assert sorted(herding_order(unit_rows(2, 0), seed=0)) == [0, 1]  # both are as near to their mean
    equal = np.repeat(unit_rows(1, 0), 20, axis=0)
    assert sorted(herding_order(equal, seed=0)) == list(range(20))
    assert sorted(_in_parts(equal, 0, 3)) == list(range(20))


def test_parts_are_herded_one_by_one_and_merged_by_quantile():
    embeds, sizes = unit_rows(103, 0), [26, 26, 26, 25]
    order = _in_parts(embeds, 0, 30)
    due = sorted(((place + 0.5) / size, part) for part, size in enumerate(sizes) for place in range(size))
    part_of = np.array([part for _, part in due])
    for part, size in enumerate(sizes):
        herded = order[part_of == part]
        members = np.sort(herded)
        assert len(members) == size
        np.testing.assert_array_equal(herded, members[slowly(embeds[members])])


def test_the_seed_draws_the_parts_and_nothing_else():
    embeds = unit_rows(200, 0)
    np.testing.assert_array_equal(herding_order(embeds, seed=0), herding_order(embeds, seed=1))
    np.testing.assert_array_equal(_in_parts(embeds, 0, 50), _in_parts(embeds, 0, 50))
    assert (_in_parts(embeds, 0, 50) != _in_parts(embeds, 1, 50)).any()


@pytest.mark.parametrize("max_rows", [MAX_PART_ROWS, 100])
def test_every_beginning_is_nearer_to_the_mean_than_random_rows(max_rows):
    embeds = unit_rows(400, 0, width=64)
    herded = distances_to_mean(embeds, _in_parts(embeds, 0, max_rows))
    rng = np.random.default_rng(0)
    drawn = np.min([distances_to_mean(embeds, rng.permutation(400)) for _ in range(20)], axis=0)
    assert (herded[30:350] < drawn[30:350]).all()
    assert herded[200] < 0.5 * drawn[200]

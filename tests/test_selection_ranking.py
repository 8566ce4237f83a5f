import numpy as np
import pytest

from hf_clipselect.selection import RowColumns, passes_gate, quantiles_within, resolve_objective, selection_scores


def columns(**changes):
    values = {
        "labels": np.zeros(4, dtype=int),
        "agrees": np.array([False, True, True, False]),
        "sas": np.array([0.2, 0.4, 0.6, 1.0], dtype=np.float32),
        "margin": np.array([-0.1, 0.3, 0.2, 0.0], dtype=np.float32),
        "sds": np.array([1.0, 0.5, 0.5, 0.0], dtype=np.float32),
        "ensemble": np.array([-4.0, -1.0, -2.0, -3.0], dtype=np.float32),
    }
    return RowColumns(**{**values, **changes})


def random_columns(num_rows, num_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    margin = rng.normal(0.2, 0.3, num_rows).astype(np.float32)
    return RowColumns(
        labels=rng.integers(num_classes, size=num_rows), agrees=margin > 0, margin=margin,
        sas=rng.random(num_rows).astype(np.float32), sds=rng.random(num_rows).astype(np.float32),
    )  # fmt: skip


def scores(name, knobs=None, ratio=0.3, rows=None):
    result = selection_scores(resolve_objective(name, knobs), rows or columns(), ratio)
    assert result.dtype == np.float32
    return result


def test_scores_by_hand():
    np.testing.assert_array_equal(scores("clean"), columns().margin)
    np.testing.assert_array_equal(scores("clean", {"alignment": "ensemble"}), columns().ensemble)
    np.testing.assert_allclose(scores("clean", {"diversity_weight": 2.0}), [1.9, 1.3, 1.2, 0.0], atol=1e-6)
    np.testing.assert_allclose(scores("paper", ratio=0.5), [0.7, 0.65, 0.85, 1.0], atol=1e-6)
    np.testing.assert_allclose(scores("paper", ratio=1.0), [1.2, 0.9, 1.1, 1.0], atol=1e-6)
    # SAS to 0, .25, .5, 1 with mean .4375; SDS to 1, .5, .5, 0 with mean .5.
    expected = np.array([0, 0.25, 0.5, 1]) / 0.4375 + 0.1 * np.array([2, 1, 1, 0])
    np.testing.assert_allclose(scores("released"), expected, rtol=1e-6)
    # The mean of SAS is .55 and its variance (.1225 + .0225 + .0025 + .2025) / 4 = .0875; SDS has mean .5, variance .125.
    expected = (columns().sas - 0.55) / 0.0875**0.5 + 0.1 * (columns().sds - 0.5) / 0.125**0.5
    np.testing.assert_allclose(scores("released", {"normalization": "zscore"}), expected, atol=1e-6)
    # Of four rows the ranks are 1/8, 3/8, 5/8, 7/8; two equal ones share their mean.
    expected = np.array([0.125, 0.375, 0.625, 0.875]) + 0.1 * np.array([0.875, 0.5, 0.5, 0.125])
    np.testing.assert_allclose(scores("released", {"normalization": "rank"}), expected, atol=1e-6)


@pytest.mark.parametrize("normalization", ["minmax_mean", "zscore", "rank"])
def test_a_constant_column_normalises_to_zero(normalization):
    constant = np.full(4, 0.5, dtype=np.float32)
    knobs = {"normalization": normalization}
    flat = columns(sas=constant, sds=constant)
    np.testing.assert_array_equal(scores("released", knobs, rows=flat), np.zeros(4))
    ranked = scores("released", knobs, rows=columns(sds=constant))
    assert (np.diff(ranked) > 0).all()


def test_the_gate_by_hand():
    gate = resolve_objective("clean", {"gate": True})
    assert passes_gate(resolve_objective("clean"), columns()).all()
    assert passes_gate(gate, columns()).tolist() == [False, True, True, False]
    # The median of the margins .3 and .2 of the agreeing rows is .25.
    floor = resolve_objective("clean", {"gate": True, "gate_floor": 0.5})
    assert passes_gate(floor, columns()).tolist() == [False, True, False, False]


def test_the_floor_is_within_each_class():
    rows = random_columns(300)
    floor = resolve_objective("clean", {"gate": True, "gate_floor": 0.2})
    passes = passes_gate(floor, rows)
    for label in range(3):
        agreeing = rows.agrees & (rows.labels == label)
        assert (
            passes[rows.labels == label].sum()
            == (rows.margin[agreeing] >= np.quantile(rows.margin[agreeing], 0.2)).sum()
        )


def test_spread_by_hand():
    """Four rows pass: each is a stratum, and they take turns in the order first, third, second, fourth... of golden steps."""
    rows = columns(
        agrees=np.array([False, True, True, True]), margin=np.array([-0.1, 0.3, 0.2, 0.1], dtype=np.float32)
    )
    spread = scores("diverse", rows=rows)
    assert spread[0] == rows.margin[0]  # does not pass: its margin
    # Three strata at golden steps 0, .618, .236: the first turn takes the easiest row, then the hardest, then the middle.
    np.testing.assert_allclose(spread[1:], [1, 1 / 3, 2 / 3], rtol=1e-6)


def test_a_stratum_gives_its_most_diverse_row_first():
    margin = np.linspace(1, 0.1, 20, dtype=np.float32)
    rows = columns(
        labels=np.zeros(20, dtype=int), agrees=np.ones(20, dtype=bool), margin=margin,
        sds=np.tile([0.1, 0.9], 10).astype(np.float32), sas=margin, ensemble=None,
    )  # fmt: skip
    spread = scores("diverse", rows=rows)
    first_turn = np.argsort(-spread)[:10]
    assert sorted(first_turn) == list(range(1, 20, 2))  # of each pair the second, which is the more diverse


@pytest.mark.parametrize("size", [20, 57, 100])
def test_every_beginning_is_spread_over_the_ranking(size):
    rows = random_columns(1000, num_classes=1)
    spread = scores("diverse", rows=rows)
    passing = np.flatnonzero(rows.agrees)
    by_margin = passing[np.argsort(-rows.margin[passing], kind="stable")]
    kept = np.argsort(-spread, kind="stable")[:size]
    assert rows.agrees[kept].all()
    strata = np.array_split(by_margin, 10)
    counts = [np.isin(stratum, kept).sum() for stratum in strata]
    assert max(counts) - min(counts) <= 1
    easy = np.isin(by_margin[: len(by_margin) // 2], kept).mean()
    hard = np.isin(by_margin[len(by_margin) // 2 :], kept).mean()
    assert abs(easy - hard) < 0.05


def test_spread_does_not_depend_on_the_order_of_the_rows():
    rows = random_columns(200)
    order = np.random.default_rng(1).permutation(200)
    permuted = RowColumns(**{
        name: None if values is None else values[order] for name, values in vars(rows).items()
    })  # fmt: skip
    np.testing.assert_array_equal(scores("diverse", rows=permuted), scores("diverse", rows=rows)[order])


def test_quantiles_within_each_class():
    labels, values = np.array([0, 0, 0, 0, 3]), np.array([0.1, 0.3, 0.3, 0.9, 5.0])
    quantiles = quantiles_within(labels, values)
    assert quantiles.dtype == np.float32
    np.testing.assert_allclose(quantiles, [0.125, 0.5, 0.5, 0.875, 0.5])

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
        labels=rng.integers(num_classes, size=num_rows),
        agrees=margin > 0,
        margin=margin,
        sas=rng.random(num_rows).astype(np.float32),
        sds=rng.random(num_rows).astype(np.float32),
    )


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
    # SAS has mean .55 and variance (.1225 + .0225 + .0025 + .2025) / 4 = .0875; SDS has mean .5 and variance .125.
    expected = (columns().sas - 0.55) / 0.0875**0.5 + 0.1 * (columns().sds - 0.5) / 0.125**0.5
    np.testing.assert_allclose(scores("released", {"normalization": "zscore"}), expected, atol=1e-6)
    # Of four rows the ranks are 1/8, 3/8, 5/8, 7/8; two equal ones share their mean.
    expected = np.array([0.125, 0.375, 0.625, 0.875]) + 0.1 * np.array([0.875, 0.5, 0.5, 0.125])
    np.testing.assert_allclose(scores("released", {"normalization": "rank"}), expected, atol=1e-6)


def test_the_probability_of_being_right_by_hand():
    p = np.array([0.75, 0.0, 0.25, 1.0], dtype=np.float32)
    judged = columns(error_probability=p)
    np.testing.assert_array_equal(scores("clean", {"alignment": "noise_model"}, rows=judged), [0.25, 1, 0.75, 0])
    knobs = {"alignment": "noise_model", "diversity_weight": 0.5}
    np.testing.assert_array_equal(scores("clean", knobs, rows=judged), [0.75, 1.25, 1, 0])
    gate = resolve_objective("clean", {"alignment": "noise_model", "gate": True, "gate_floor": 0.5})
    assert passes_gate(gate, judged).tolist() == [False, True, False, False]
    with pytest.raises(ValueError, match="no error_probability"):
        scores("clean", {"alignment": "noise_model"})


def test_herding_by_hand():
    rows = columns(labels=np.array([2, 0, 2, 2]), class_rank=np.array([1, 0, 2, 0]))
    np.testing.assert_allclose(scores("robust", rows=rows), [2 / 3, 1, 1 / 3, 1])
    # Neither the alignment nor a gate has a part in it.
    knobs = {"alignment": "cosine", "gate": True}
    np.testing.assert_array_equal(scores("robust", knobs, rows=rows), scores("robust", rows=rows))
    with pytest.raises(ValueError, match="no class_rank"):
        scores("robust")


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
    """Three rows pass, each a stratum: golden steps lead from the middle one to the easier, then to the harder."""
    rows = columns(
        agrees=np.array([False, True, True, True]), margin=np.array([-0.1, 0.3, 0.2, 0.1], dtype=np.float32)
    )
    spread = scores("diverse", rows=rows)
    assert spread[0] == rows.margin[0]  # does not pass: its margin
    # The places -1, 0 and 1 from the middle, times .618, are .382, 0 and .618 beyond a whole number.
    np.testing.assert_allclose(spread[1:], [2 / 3, 1, 1 / 3], rtol=1e-6)


@pytest.mark.parametrize("num_rows", [1, 7, 23, 300])
def test_spread_against_a_slow_version(num_rows):
    rng = np.random.default_rng(num_rows)
    margin, sds = (rng.integers(1, 40, num_rows).astype(np.float32) / 64 for _ in range(2))  # with ties
    rows = RowColumns(np.zeros(num_rows, dtype=int), np.ones(num_rows, dtype=bool), margin, margin, sds)
    ranking = sorted(range(num_rows), key=lambda row: (-margin[row], row))
    strata = [[row for place, row in enumerate(ranking) if place * 10 // num_rows == number] for number in range(10)]
    listed = [row for stratum in strata for row in sorted(stratum, key=lambda row: (-sds[row], row))]
    steps = [(place - num_rows // 2) * (5**0.5 - 1) / 2 for place in range(num_rows)]
    order = [
        listed[place] for place in sorted(range(num_rows), key=lambda place: steps[place] - np.floor(steps[place]))
    ]
    expected = 1 - np.argsort(order) / num_rows
    np.testing.assert_allclose(scores("diverse", rows=rows), expected, rtol=1e-6)


@pytest.mark.parametrize("size", [20, 57, 100, 300])
def test_every_beginning_is_spread_over_the_ranking_and_over_the_diversity(size):
    rows = random_columns(1000, num_classes=1)
    spread = scores("diverse", rows=rows)
    passing = np.flatnonzero(rows.agrees)
    by_margin = passing[np.argsort(-rows.margin[passing], kind="stable")]
    kept = np.argsort(-spread, kind="stable")[:size]
    assert rows.agrees[kept].all()
    strata = np.array_split(by_margin, 10)
    counts = [np.isin(stratum, kept).sum() for stratum in strata]
    assert max(counts) - min(counts) <= 2
    halves = [
        np.argsort(np.argsort(rows.sds[stratum]))[np.isin(stratum, kept)] < len(stratum) / 2 for stratum in strata
    ]
    assert max(abs(half.sum() - (~half).sum()) for half in halves) <= 2


def test_the_most_diverse_rows_do_not_come_first():
    """A damaged image lies far from its class, and may well agree with its label."""
    rng = np.random.default_rng(0)
    damaged = np.arange(500) % 5 == 0
    margin = rng.uniform(0.1, 0.9, 500).astype(np.float32)
    rows = columns(
        labels=np.zeros(500, dtype=int),
        agrees=np.ones(500, dtype=bool),
        margin=margin,
        sas=margin,
        sds=(rng.random(500) + damaged).astype(np.float32),
        ensemble=None,
    )
    order = np.argsort(-scores("diverse", rows=rows), kind="stable")
    assert all(damaged[order[:size]].mean() <= 0.22 for size in (50, 100, 150, 250, 400))


def test_spread_does_not_depend_on_the_order_of_the_rows():
    rows = random_columns(200)
    order = np.random.default_rng(1).permutation(200)
    permuted = RowColumns(**{name: None if values is None else values[order] for name, values in vars(rows).items()})
    np.testing.assert_array_equal(scores("diverse", rows=permuted), scores("diverse", rows=rows)[order])


def test_quantiles_within_each_class():
    labels, values = np.array([0, 0, 0, 0, 3]), np.array([0.1, 0.3, 0.3, 0.9, 5.0])
    quantiles = quantiles_within(labels, values)
    assert quantiles.dtype == np.float32
    np.testing.assert_allclose(quantiles, [0.125, 0.5, 0.5, 0.875, 0.5])

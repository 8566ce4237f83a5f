import dataclasses
import json
import logging

import numpy as np
import pytest

from hf_clipselect.errors import InputError
from hf_clipselect.selection import Objective, resolve_objective, selection_scores


KNOBS = ("alignment", "diversity_weight", "normalization", "class_balance", "solver", "ratio_weight")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("clean", ("margin", 0.0, "none", "proportional", "exact", 2.0)),
        ("paper", ("cosine", "ratio", "none", "none", "exact", 2.0)),
        ("released", ("cosine", 0.1, "minmax_mean", "none", "exact", 2.0)),
    ],
)
def test_presets(name, values):
    objective = resolve_objective(name)
    assert objective.name == name
    assert tuple(getattr(objective, knob) for knob in KNOBS) == values


def test_the_default_is_clean():
    assert resolve_objective() == resolve_objective("clean")


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("alignment", "cosine"),
        ("diversity_weight", 0.5),
        ("diversity_weight", "ratio"),
        ("normalization", "minmax_mean"),
        ("class_balance", "uniform"),
        ("ratio_weight", 3.0),
    ],
)
def test_a_knob_set_alone_wins_over_the_preset(knob, value):
    assert resolve_objective("clean", **{knob: value}) == dataclasses.replace(
        resolve_objective("clean"), **{knob: value}
    )


def test_a_weight_of_zero_is_a_set_knob():
    assert resolve_objective("paper", diversity_weight=0).diversity_weight == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "best"}, "objective must be one of clean, paper, released, got 'best'"),
        ({"alignment": "dot"}, "alignment must be one of cosine, margin, got 'dot'"),
        ({"normalization": "z"}, "normalization must be one of none, minmax_mean, got 'z'"),
        ({"class_balance": "equal"}, "class_balance must be one of none, proportional, uniform, got 'equal'"),
        ({"solver": "adam"}, "solver must be one of exact, sgd, got 'adam'"),
        ({"diversity_weight": "alpha"}, "diversity_weight .* got 'alpha'"),
        ({"diversity_weight": -0.1}, "diversity_weight .* got -0.1"),
        ({"diversity_weight": float("nan")}, "diversity_weight .* got nan"),
        ({"ratio_weight": 0}, "ratio_weight must be a number above 0, got 0"),
        ({"ratio_weight": float("inf")}, "ratio_weight .* got inf"),
        ({"solver": "sgd"}, 'takes no class quotas.*class_balance="none" or solver="exact"'),
    ],
)
def test_says_what_is_wrong(arguments, message):
    with pytest.raises(InputError, match=message):
        resolve_objective(**arguments)


def test_sgd_without_quotas():
    assert resolve_objective(solver="sgd", class_balance="none").solver == "sgd"
    assert resolve_objective("released", solver="sgd").solver == "sgd"


def test_warns_only_where_alpha_follows_the_ratio(caplog):
    with caplog.at_level(logging.WARNING):
        resolve_objective("clean")
        resolve_objective("released")
        resolve_objective("paper", diversity_weight=0.1)
        assert not caplog.records
        resolve_objective("paper")
    [record] = caplog.records
    assert "keeps most mislabelled rows at high ratios" in record.getMessage()
    assert "79 %" in record.getMessage()


def test_to_dict_survives_json():
    objective = resolve_objective("released", ratio_weight=3.5)
    assert Objective(**json.loads(json.dumps(objective.to_dict()))) == objective


SAS = np.array([0.2, 0.4, 0.6, 1.0], dtype=np.float32)
MARGIN = np.array([-0.1, 0.3, 0.2, 0.0], dtype=np.float32)
SDS = np.array([1.0, 0.5, 0.5, 0.0], dtype=np.float32)


def test_scores_by_hand():
    def scores(objective, ratio=0.3):
        result = selection_scores(objective, SAS, MARGIN, SDS, ratio)
        assert result.dtype == np.float32
        return result

    np.testing.assert_array_equal(scores(resolve_objective("clean")), MARGIN)
    np.testing.assert_allclose(
        scores(resolve_objective("clean", diversity_weight=2.0)), [1.9, 1.3, 1.2, 0.0], atol=1e-6
    )
    np.testing.assert_allclose(scores(resolve_objective("paper"), 0.5), [0.7, 0.65, 0.85, 1.0], atol=1e-6)
    np.testing.assert_allclose(scores(resolve_objective("paper"), 1.0), [1.2, 0.9, 1.1, 1.0], atol=1e-6)
    # SAS to 0, .25, .5, 1 with mean .4375; SDS to 1, .5, .5, 0 with mean .5.
    expected = np.array([0, 0.25, 0.5, 1]) / 0.4375 + 0.1 * np.array([2, 1, 1, 0])
    np.testing.assert_allclose(scores(resolve_objective("released")), expected, rtol=1e-6)


def test_a_constant_column_normalises_to_zero():
    constant = np.full(4, 0.5, dtype=np.float32)
    released = resolve_objective("released")
    np.testing.assert_array_equal(selection_scores(released, constant, constant, constant, 0.3), np.zeros(4))
    ranked = selection_scores(released, SAS, MARGIN, constant, 0.3)
    np.testing.assert_allclose(ranked, np.array([0, 0.25, 0.5, 1]) / 0.4375, rtol=1e-6)

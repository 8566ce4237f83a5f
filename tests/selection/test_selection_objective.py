import dataclasses
import json
import logging

import pytest

from hf_clipselect.errors import InputError
from hf_clipselect.selection import Objective, resolve_objective


KNOBS = ("alignment", "diversity_weight", "normalization", "class_balance", "gate", "spread", "solver", "ratio_weight")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("diverse", ("margin", 0.0, "none", "proportional", True, True, "exact", 2.0)),
        ("clean", ("margin", 0.0, "none", "proportional", False, False, "exact", 2.0)),
        ("paper", ("cosine", "ratio", "none", "none", False, False, "exact", 2.0)),
        ("released", ("cosine", 0.1, "minmax_mean", "none", False, False, "exact", 2.0)),
    ],
)
def test_presets(name, values):
    objective = resolve_objective(name)
    assert objective.name == name
    assert tuple(getattr(objective, knob) for knob in KNOBS) == values


def test_the_default_is_diverse():
    assert resolve_objective() == resolve_objective("diverse")


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("alignment", "cosine"),
        ("diversity_weight", 0.5),
        ("diversity_weight", "ratio"),
        ("normalization", "minmax_mean"),
        ("class_balance", "uniform"),
        ("ratio_weight", 3.0),
        ("gate", True),
        ("spread", True),
        ("redundancy_weight", 0.5),
        ("min_per_class", 2),
        ("class_quotas", {"cat": 3}),
        ("balance_by", "group"),
    ],
)
def test_a_knob_set_alone_wins_over_the_preset(knob, value):
    assert resolve_objective("clean", {knob: value}) == dataclasses.replace(
        resolve_objective("clean"), **{knob: value}
    )


def test_a_weight_of_zero_is_a_set_knob():
    assert resolve_objective("paper", {"diversity_weight": 0}).diversity_weight == 0


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("best", {}, "objective must be one of diverse, clean, paper, released, got 'best'"),
        ("clean", {"alignment": "dot"}, "alignment must be one of cosine, margin, ensemble, got 'dot'"),
        ("clean", {"normalization": "z"}, "normalization must be one of none, minmax_mean, zscore, rank, got 'z'"),
        ("clean", {"class_balance": "equal"}, "class_balance must be one of none, proportional, uniform, got 'equal'"),
        ("clean", {"balance_by": "label"}, "balance_by must be one of class, group, got 'label'"),
        ("clean", {"solver": "adam"}, "solver must be one of exact, sgd, got 'adam'"),
        ("clean", {"diversity_weight": "alpha"}, "diversity_weight .* got 'alpha'"),
        ("clean", {"diversity_weight": -0.1}, "diversity_weight .* got -0.1"),
        ("clean", {"diversity_weight": float("nan")}, "diversity_weight .* got nan"),
        ("clean", {"gate": "yes"}, "gate must be true or false, got 'yes'"),
        ("diverse", {"gate_floor": 1.0}, r"gate_floor .* in \[0, 1\), got 1.0"),
        ("clean", {"redundancy_weight": -1}, "redundancy_weight .* got -1"),
        ("clean", {"min_per_class": 1.5}, "min_per_class must be a whole number of at least 0, got 1.5"),
        ("clean", {"class_quotas": {"cat": -1}}, "class_quotas .* got 'cat': -1"),
        ("clean", {"class_quotas": {}}, "class_quotas .* got nothing"),
        ("clean", {"ratio_weight": 0}, "ratio_weight must be a number above 0, got 0"),
        ("clean", {"ratio_weight": float("inf")}, "ratio_weight .* got inf"),
        ("clean", {"weight": 1}, "Unknown knobs of an objective: weight; known are alignment, "),
        ("clean", {"gate_floor": 0.3}, "gate_floor 0.3 is a part of the gate, which is off"),
        ("diverse", {"diversity_weight": 0.1}, "--diversity_weight 0.1 would do nothing .* pass --spread false"),
        ("diverse", {"normalization": "rank"}, "--normalization rank would do nothing .* pass --spread false"),
        ("paper", {"min_per_class": 2}, "--min_per_class needs quotas, but class_balance is none"),
        ("paper", {"class_quotas": {"cat": 2}}, "--class_quotas_file needs quotas, but class_balance is none"),
        ("paper", {"balance_by": "group"}, "--balance_by group needs quotas"),
        ("clean", {"solver": "sgd"}, "takes no class_balance.*pass --class_balance none or --solver exact"),
        ("paper", {"solver": "sgd", "gate": True}, "takes no gate, got True"),
        ("paper", {"solver": "sgd", "redundancy_weight": 0.5}, "takes no redundancy_weight, got 0.5"),
    ],
)
def test_says_what_is_wrong(name, knobs, message):
    with pytest.raises(InputError, match=message):
        resolve_objective(name, knobs)


def test_sgd_without_quotas():
    assert resolve_objective("clean", {"solver": "sgd", "class_balance": "none"}).solver == "sgd"
    assert resolve_objective("released", {"solver": "sgd"}).solver == "sgd"


def test_warns_only_where_alpha_follows_the_ratio(caplog):
    with caplog.at_level(logging.WARNING):
        resolve_objective("clean")
        resolve_objective("released")
        resolve_objective("paper", {"diversity_weight": 0.1})
        resolve_objective("paper", {"gate": True})
        assert not caplog.records
        resolve_objective("paper")
    [record] = caplog.records
    assert "keeps most mislabelled rows at high ratios" in record.getMessage()
    assert "79 %" in record.getMessage()


def test_to_dict_survives_json():
    objective = resolve_objective("clean", {"ratio_weight": 3.5, "class_quotas": {"cat": 3}, "gate": True})
    assert Objective(**json.loads(json.dumps(objective.to_dict()))) == objective

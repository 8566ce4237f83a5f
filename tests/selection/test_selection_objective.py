import dataclasses
import json
import logging

import pytest

from hf_clipselect.errors import InputError
from hf_clipselect.selection import Objective, check_captions, resolve_objective


KNOBS = "alignment diversity_weight normalization class_balance gate spread solver ratio_weight herding".split()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("robust", ("noise_model", 0.0, "none", "proportional", False, False, "exact", 2.0, True)),
        ("diverse", ("margin", 0.0, "none", "proportional", True, True, "exact", 2.0, False)),
        ("clean", ("margin", 0.0, "none", "proportional", False, False, "exact", 2.0, False)),
        ("paper", ("cosine", "ratio", "none", "none", False, False, "exact", 2.0, False)),
        ("released", ("cosine", 0.1, "minmax_mean", "none", False, False, "exact", 2.0, False)),
    ],
)
def test_presets(name, values):
    objective = resolve_objective(name)
    assert objective.name == name
    assert tuple(getattr(objective, knob) for knob in KNOBS) == values


def test_the_default_is_robust_and_for_captions_diverse():
    assert resolve_objective() == resolve_objective("robust")
    assert resolve_objective(has_captions=True) == resolve_objective("diverse")
    assert resolve_objective("clean", has_captions=True) == resolve_objective("clean")


def test_which_objectives_need_the_noise_model():
    needing = {name: resolve_objective(name).needs_noise_model for name in ("robust", "diverse", "clean", "paper")}
    assert needing == {"robust": True, "diverse": False, "clean": False, "paper": False}
    assert resolve_objective("clean", {"herding": True}).needs_noise_model
    assert resolve_objective("diverse", {"alignment": "noise_model"}).needs_noise_model
    assert not resolve_objective("robust", {"herding": False, "alignment": "margin"}).needs_noise_model


@pytest.mark.parametrize(
    ("name", "knobs", "sizes", "message"),
    [
        ("robust", {}, [0.3], "--objective robust asks how probably .* pass --objective diverse"),
        ("clean", {"herding": True}, [0.3], "--herding true asks how probably a label is wrong"),
        ("clean", {"alignment": "noise_model"}, [0.3], "--alignment noise_model asks how"),
        ("diverse", {}, [0.3, "auto"], "--selection_ratio auto asks .* give a number, such as --selection_ratio 0.3"),
    ],
)
def test_what_captions_do_without(name, knobs, sizes, message):
    with pytest.raises(InputError, match=message):
        check_captions(resolve_objective(name, knobs), sizes)
    check_captions(resolve_objective("diverse"), [0.3, 500])


@pytest.mark.parametrize("name", [None, "released", "robust"])
def test_herding_of_captions_is_refused_before_what_contradicts_it(name):
    with pytest.raises(InputError, match="--herding true asks how probably .* in place of labels; leave it out"):
        resolve_objective(name, {"herding": True}, has_captions=True)
    assert not resolve_objective(None, {"herding": False}, has_captions=True).herding


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("alignment", "cosine"),
        ("diversity_weight", 0.5),
        ("diversity_weight", "ratio"),
        ("normalization", "minmax_mean"),
        ("class_balance", "uniform"),
        ("ratio_weight", 3.0),
        ("theta", 5e-5),
        ("gate", True),
        ("spread", True),
        ("herding", True),
        ("alignment", "noise_model"),
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
        ("best", {}, "objective must be one of robust, diverse, clean, paper, released, got 'best'"),
        ("clean", {"alignment": "dot"}, "alignment must be one of cosine, margin, ensemble, noise_model, got 'dot'"),
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
        ("clean", {"theta": 0}, r"--theta is a share .* in \(0, 1\), got 0"),
        ("clean", {"theta": 1.0}, r"--theta .* got 1.0"),
        ("clean", {"weight": 1}, "Unknown knobs of an objective: weight; known are alignment, "),
        ("clean", {"gate_floor": 0.3}, "gate_floor 0.3 is a part of the gate, which is off"),
        ("diverse", {"diversity_weight": 0.1}, "--diversity_weight 0.1 would do nothing .* pass --spread false"),
        ("diverse", {"normalization": "rank"}, "--normalization rank would do nothing .* pass --spread false"),
        ("clean", {"herding": 1}, "herding must be true or false, got 1"),
        (
            "robust",
            {"spread": True},
            "--spread true would do nothing .*robust.* or pass --herding false",
        ),
        ("robust", {"diversity_weight": 0.1}, "--diversity_weight 0.1 would do nothing .* pass --herding false"),
        ("robust", {"diversity_weight": "ratio"}, "herding orders rows .* --diversity_weight ratio would do nothing"),
        ("robust", {"normalization": "rank"}, "--normalization rank would do nothing .* pass --herding false"),
        ("diverse", {"herding": True}, r"--spread true would do nothing .* leave it out \(--spread false\), or"),
        ("released", {"herding": True}, "--diversity_weight 0.1 would do nothing"),
        (
            "robust",
            {"solver": "sgd", "class_balance": "none"},
            "sgd ranks .* takes no herding, got True .*pass --herding false or --solver exact",
        ),
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


def test_herding_goes_with_all_that_decides_between_classes():
    knobs = {"gate": True, "gate_floor": 0.2, "redundancy_weight": 0.5, "class_balance": "uniform", "min_per_class": 3}
    assert resolve_objective("robust", {**knobs, "class_quotas": {"cat": 3}, "balance_by": "group"}).herding


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


def test_an_objective_that_was_written_before_there_was_herding():
    for name in ("diverse", "clean", "paper", "released"):
        written = json.loads(json.dumps(resolve_objective(name).to_dict()))
        del written["herding"]
        assert Objective(**written) == resolve_objective(name)

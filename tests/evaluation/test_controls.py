"""Controls: trusted rows of each class in another order than ours, and the others from the best judged on."""

import numpy as np
import pytest
from small_sweeps import sweep_of, write_features

from hf_clipselect.evaluation.comparison import METHODS, SweepArguments, settings_of
from hf_clipselect.evaluation.comparison.controls import CONTROLS
from hf_clipselect.selection import class_quotas


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    [setting] = settings_of(sweep_of(write_features(folder / "features.npz"), folder, class_balance="uniform"))
    return setting


def columns(setting):
    scores = setting.scored[0].scores
    return {name: np.array(scores[name]) for name in ("label_error_probability", "margin")}


def trusted_and_judged(name, setting):
    found = columns(setting)
    if name.startswith("gate"):
        return found["margin"] > 0, found["margin"]
    return found["label_error_probability"] <= 0.02, -found["label_error_probability"]


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_trusted_rows_come_first_and_others_from_the_best_on_within_proportional_quotas(control, setting):
    trusted, judged = trusted_and_judged(control.name, setting)
    assert 0 < trusted.sum() < setting.num_rows
    kept = control.select(setting, [0.2, 0.9]).rows
    for ratio, rows in kept.items():
        quotas = class_quotas(setting.labels, len(rows), balance="proportional", num_classes=3)
        assert np.bincount(setting.labels[rows]).tolist() == quotas.tolist()
        for label, quota in enumerate(quotas):
            members = np.flatnonzero(setting.labels == label)
            own = np.intersect1d(rows, members)
            assert trusted[own].sum() == min(quota, trusted[members].sum()), ratio
            others = members[~trusted[members]]
            best = others[np.argsort(-judged[others], kind="stable")][: max(0, quota - trusted[members].sum())]
            assert set(own[~trusted[own]]) == set(best)
    assert np.isin(kept[0.2], kept[0.9]).all()


def test_the_first_rows_of_a_class_are_those_of_the_order(setting):
    """At a tenth of the rows: by a slow herding, and by a slow k-center from the row that it starts with."""
    images = setting.embeddings.images.astype(np.float64)
    images /= np.linalg.norm(images, axis=1)[:, None]
    trusted, _ = trusted_and_judged("gate", setting)
    kept = {name: METHODS[name].select(setting, [0.1]).rows[0.1] for name in ("gate_herding", "gate_k_center")}
    for label in range(3):
        rows = np.flatnonzero(trusted & (setting.labels == label))
        mean, herded = images[rows].mean(axis=0), []
        weights = mean.copy()
        own = [kept[name][setting.labels[kept[name]] == label] for name in kept]
        for _ in own[0]:
            left = [row for row in rows if row not in herded]
            herded.append(max(left, key=lambda row: images[row] @ weights))
            weights += mean - images[herded[-1]]
        # Herding rounds the embeddings: of two rows that fit about as well it may take the other.
        assert len(set(own[0]) & set(herded)) >= len(herded) - 1
        assert any(picks_by_k_center(images, rows, start, own[1]) for start in own[1])


def picks_by_k_center(images, rows, start, wanted):
    picked = [start]
    while len(picked) < len(wanted):
        distances = np.min(1 - images[rows] @ images[picked].T, axis=1)
        picked.append(rows[distances.argmax()])
    return set(picked) == set(wanted)


def test_controls_are_among_all_methods_and_differ_in_their_orders(setting):
    names = [control.name for control in CONTROLS]
    assert set(names) <= set(SweepArguments(methods=["all"]).methods)
    assert {METHODS[name].family for name in names} == {"control"}
    kept = [METHODS[name].select(setting, [0.2]).rows[0.2].tolist() for name in names if name.startswith("gate")]
    assert len({tuple(rows) for rows in kept}) == 3

"""Knobs that papers set for each dataset and ratio: what they change, and how a sweep sets and tells them."""

import numpy as np
import pytest
from small_sweeps import cell_files, sweep_of, write_features

from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.baselines import select_baseline, train_probe
from hf_clipselect.evaluation.baselines.ccs import ccs_rows
from hf_clipselect.evaluation.baselines.d2_pruning import d2_rows
from hf_clipselect.evaluation.baselines.registry import Given
from hf_clipselect.evaluation.comparison import METHODS, SweepArguments, run_sweep, settings_of
from hf_clipselect.evaluation.comparison.tuning import tuned


@pytest.fixture(scope="module")
def features_file(tmp_path_factory):
    return write_features(tmp_path_factory.mktemp("blobs") / "features.npz")


@pytest.fixture(scope="module")
def made():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 2], [30, 50, 11]))
    embeds = rng.normal(size=(91, 6)) + 2 * rng.normal(size=(3, 6))[labels]
    dynamics = train_probe(embeds, labels, num_epochs=4, num_runs=1, num_checkpoints=1)
    return {"image_embeds": embeds, "labels": labels, "dynamics": dynamics}


def test_settings_reach_the_methods(made):
    embeds, labels, margins = made["image_embeds"], made["labels"], made["dynamics"].margins
    hardness, seed = margins.max() - margins, Given(embeds, labels, 0, 8.0).own_seed
    result = select_baseline("ccs", **made, selection_ratio=[0.2, 0.9], settings={"cutoff": 0.3})
    assert np.array_equal(result.at(0.2), ccs_rows(hardness, 18, cutoff=0.3, seed=seed))
    # Of nine tenths there are no seven tenths: the hardest are dropped as far as they can be.
    assert set(result.at(0.9)) == set(np.argsort(hardness, kind="stable")[:82])
    result = select_baseline("d2_pruning", **made, selection_ratio=0.2, settings={"gamma": 0.1, "num_neighbors": 3})
    assert np.array_equal(result.selected, np.sort(d2_rows(embeds, hardness, 18, gamma=0.1, num_neighbors=3)))
    hardest, easiest = (
        select_baseline("prototypes", **made, selection_ratio=0.2, settings={"keep": keep}).selected
        for keep in ("hardest", "easiest")
    )
    assert not set(hardest) & set(easiest)
    assert np.array_equal(hardest, select_baseline("prototypes", **made, selection_ratio=0.2).selected)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("ccs", {"gamma": 1}, "ccs has no setting 'gamma'; what can be set of it is cutoff"),
        ("moderate", {"cutoff": 0.1}, "moderate has no setting 'cutoff'; what can be set of it is nothing"),
        ("ccs", {"cutoff": 1.0}, r"cutoff must be a number in \[0, 1\), got 1.0"),
        ("ccs", {"cutoff": "0.3"}, r"cutoff must be a number in \[0, 1\), got '0.3'"),
        ("d2_pruning", {"gamma": -1.0}, "gamma must be a number of at least 0, got -1.0"),
        ("d2_pruning", {"num_neighbors": 0}, "num_neighbors must be an integer of at least 1, got 0"),
        ("prototypes", {"keep": "best"}, "keep must be one of hardest, easiest, got 'best'"),
    ],
)
def test_settings_that_a_method_does_not_take_are_refused(made, method, settings, message):
    with pytest.raises(InputError, match=message):
        select_baseline(method, **made, settings=settings)


def test_the_variant_whose_rows_train_best_on_the_other_seeds_is_taken(features_file, tmp_path):
    """Accuracies are made up from the kept rows, so that ratios, models and ties can be told apart."""
    arguments = sweep_of(features_file, tmp_path, methods=["ccs"], seeds=[0, 1], probe_c=[1.0, 10.0])
    settings = settings_of(arguments)
    assert [setting.seed for setting in settings] == [0, 1]
    assert [[other.seed for other in setting.tuning] for setting in settings] == [[1000, 1001]] * 2

    def kept_rows(setting, variant, ratios):
        assert setting.seed in (1000, 1001)
        return {ratio: np.array([variant.settings["cutoff"], setting.seed - 1000, ratio]) for ratio in ratios}

    def accuracy(_, model, rows):
        cutoff, seed, ratio = rows
        if model == "probe C=10":
            return 0.5  # all alike
        # 0.1 is best on one seed by much, 0.3 in the mean at a fifth; at a half, the more is dropped the better.
        if ratio == 0.5:
            return cutoff
        return {0.1: 0.9 - 0.6 * seed, 0.3: 0.7}.get(cutoff, 0.2)

    chosen = tuned(settings[0], METHODS["ccs"], [0.2, 0.5], kept_rows=kept_rows, accuracy=accuracy)
    cutoffs = {key: variant.settings["cutoff"] for key, variant in chosen.items()}
    assert cutoffs == {
        (0.2, "probe C=1"): 0.3,
        (0.5, "probe C=1"): 0.5,
        (0.2, "probe C=10"): 0.0,
        (0.5, "probe C=10"): 0.0,
    }
    assert chosen[0.2, "probe C=1"].columns(settings[0]) == {
        "settings": "cutoff=0.3, proxy=linear probe",
        "settings_from": "tuned on seeds 1000, 1001",
    }


def test_a_sweep_reports_the_tuned_value_and_computes_nothing_twice(features_file, tmp_path):
    arguments = sweep_of(
        features_file, tmp_path, methods=["ccs", "prototypes", "moderate", "ccs_cutoff"], selection_ratio=[0.2, 0.5]
    )
    rows = run_sweep(arguments)
    [setting] = settings_of(arguments)
    by_hand = {}
    for ratio in (0.2, 0.5):
        means = {}
        for cutoff in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5):
            accuracies = []
            for other in setting.tuning:
                kept = select_baseline(
                    "ccs",
                    other.embeddings.images,
                    other.labels,
                    selection_ratio=ratio,
                    class_balance="proportional",
                    seed=other.seed,
                    dynamics=other.proxy[0],
                    settings={"cutoff": cutoff},
                ).selected
                accuracies.append(other.train_and_test("probe C=1", kept))
            means[cutoff] = np.mean(accuracies)
        by_hand[ratio] = max(means, key=means.get)
    told = {(row["method"], row["selection_ratio"]): (row["settings"], row["settings_from"]) for row in rows}
    for ratio, cutoff in by_hand.items():
        assert told["ccs", ratio] == (f"cutoff={cutoff}, proxy=linear probe", "tuned on seeds 1000, 1001")
    assert told["prototypes", 0.2][0] in ("keep=hardest", "keep=easiest")
    assert told["moderate", 0.2] == told["random", 0.2] == told["full", 1.0] == ("", "-")
    assert told["ccs_cutoff", 0.2][1] == "the noise model"
    assert {row["seed"] for row in rows} == {0}
    before = cell_files(tmp_path)
    again = run_sweep(arguments)
    assert cell_files(tmp_path) == before
    np.testing.assert_equal(again, rows)


def test_seeds_that_report_are_not_tuned_on():
    with pytest.raises(InputError, match="--tuning_seeds 1 are among --seeds: what a method is tuned on must not"):
        SweepArguments(seeds=[0, 1], tuning_seeds=[1, 7])
    with pytest.raises(InputError, match="--tuning_seeds must name at least one value"):
        SweepArguments(tuning_seeds=[])

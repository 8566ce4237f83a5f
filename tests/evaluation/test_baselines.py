"""The one call for all baselines: what each keeps, of made and of real embeddings, and what is refused before it
starts.
"""

import numpy as np
import pytest
import torch
from real_features import food_embeds, mislabelled

from hf_clipselect import InputError
from hf_clipselect.evaluation.baselines import BASELINES, select_baseline, train_probe
from hf_clipselect.evaluation.baselines.herding import herding_rows
from hf_clipselect.evaluation.baselines.k_center import k_center_rows
from hf_clipselect.evaluation.baselines.registry import Given, PickingBaseline
from hf_clipselect.evaluation.robustness import add_label_noise
from hf_clipselect.selection import top_k


RATIOS = [0.2, 0.31, 0.7]
PICKING = [name for name, baseline in BASELINES.items() if isinstance(baseline, PickingBaseline)]


@pytest.fixture(scope="module")
def made():
    """Embeddings of three classes of unequal size, their labels, and what a probe showed of them."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 2], [30, 50, 11]))
    embeds = rng.normal(size=(91, 6)) + 2 * rng.normal(size=(3, 6))[labels]
    val_labels = np.arange(12) % 3
    val_embeds = embeds[[np.flatnonzero(labels == label)[0] for label in val_labels]]
    dynamics = train_probe(embeds, labels, val_image_embeds=val_embeds, num_epochs=4, num_runs=2, num_checkpoints=2)
    return {"image_embeds": embeds, "labels": labels, "dynamics": dynamics, "val_labels": val_labels}


def test_all_the_methods_are_there():
    assert set(BASELINES) == {
        "random",
        "herding",
        "moderate",
        "el2n",
        "grand",
        "forgetting",
        "prototypes",
        "cg_score",
        "glister",
        "moso",
        "ccs",
        "k_center",
        "d2_pruning",
    }
    assert {name for name, baseline in BASELINES.items() if "dynamics" in baseline.needs} == {
        "el2n",
        "grand",
        "forgetting",
        "glister",
        "moso",
        "ccs",
        "d2_pruning",
    }
    assert {name for name, baseline in BASELINES.items() if "validation" in baseline.needs} == {"glister"}


@pytest.mark.parametrize("method", BASELINES)
def test_every_method_keeps_nested_subsets_of_exact_size(made, method):
    result = select_baseline(method, **made, selection_ratio=RATIOS, selection_count=17)
    assert result.method == method
    kept = [result.at(size) for size in (17, *RATIOS)]
    assert [len(rows) for rows in kept] == [17, 18, 28, 64]
    for rows, larger in zip(kept, [*kept[1:], np.arange(91)], strict=True):
        assert rows.dtype == np.int64 and (np.diff(rows) > 0).all() and np.isin(rows, larger).all()
    assert np.array_equal(result.selected, kept[1])
    again = select_baseline(method, **made, selection_ratio=0.2)
    assert np.array_equal(again.selected, kept[1])  # whatever else is asked for
    if method not in PICKING:
        assert result.scores.dtype == np.float32 and result.scores.shape == (91,)
        assert np.array_equal(kept[2], top_k(result.scores, 28))
        assert np.array_equal(result.at(0.5), top_k(result.scores, 46))  # though it was not asked for
    else:
        assert result.scores is None
        with pytest.raises(InputError, match=f"{method} picks rows for the sizes .* 0.2, 0.31, 0.7, 17, not for 0.5"):
            result.at(0.5)


@pytest.mark.parametrize("method", BASELINES)
@pytest.mark.parametrize(("balance", "quotas"), [("proportional", [9, 16, 3]), ("uniform", [9, 9, 10])])
def test_quotas_hold_for_every_method(made, method, balance, quotas):
    result = select_baseline(method, **made, selection_ratio=RATIOS, class_balance=balance)
    counts = np.bincount(made["labels"][result.at(0.31)], minlength=3)
    assert sorted(counts) == sorted(quotas) and (balance == "uniform" or counts.tolist() == quotas)
    assert np.isin(result.at(0.2), result.at(0.31)).all() and np.isin(result.at(0.31), result.at(0.7)).all()
    assert len(result.at(0.7)) == 64
    if result.scores is not None:
        rows = np.flatnonzero(made["labels"] == 1)
        of_class = result.at(0.31)[made["labels"][result.at(0.31)] == 1]
        assert np.array_equal(rows[top_k(result.scores[rows], len(of_class))], of_class)


def test_rows_are_picked_in_the_functions_order(made):
    embeds, labels, count = made["image_embeds"], made["labels"], 28
    kept = select_baseline("herding", embeds, labels, selection_count=count).selected
    assert np.array_equal(kept, np.sort(herding_rows(embeds, labels, count)))
    result = select_baseline("k_center", embeds, labels, selection_count=count, class_balance="proportional", seed=3)
    seed = Given(embeds, labels, 3, 8.0).own_seed
    for label, quota in enumerate([9, 16, 3]):
        members = np.flatnonzero(labels == label)
        picked = np.sort(members[k_center_rows(embeds[members], quota, seed=seed)])
        assert np.array_equal(picked, result.selected[labels[result.selected] == label])


@pytest.mark.parametrize("method", ["random", "k_center", "ccs", "cg_score"])
def test_what_is_drawn_follows_the_seed(made, method):
    first, again, other = (select_baseline(method, **made, seed=seed).selected for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_arrays_may_be_of_torch_and_lists(made):
    expected = select_baseline("moderate", made["image_embeds"], made["labels"])
    result = select_baseline("moderate", torch.from_numpy(made["image_embeds"]), made["labels"].tolist())
    assert np.array_equal(result.selected, expected.selected) and len(result.selected) == 27  # of 91 rows three tenths


def test_features_of_a_model_stand_in_for_embeddings(made):
    features = made["dynamics"].features
    expected = select_baseline("moderate", features, made["labels"]).selected
    result = select_baseline("moderate", None, made["labels"], dynamics=made["dynamics"])
    assert np.array_equal(result.selected, expected)


def test_a_probe_is_trained_where_none_is_given(made):
    given = {name: made[name] for name in ("image_embeds", "labels")}
    val_embeds = made["image_embeds"][:9]
    dynamics = train_probe(**given, val_image_embeds=val_embeds, seed=4)
    for method in ("grand", "glister"):
        expected = select_baseline(method, **given, dynamics=dynamics, val_labels=made["labels"][:9]).scores
        options = {"val_image_embeds": val_embeds, "val_labels": made["labels"][:9], "seed": 4}
        assert np.array_equal(select_baseline(method, **given, **options).scores, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "best"}, "method must be one of random, herding, moderate, .*, d2_pruning, got 'best'"),
        ({"class_balance": "fair"}, "class_balance must be one of none, proportional, uniform, got 'fair'"),
        ({"seed": -1}, r"seed must be a whole number in \[0, 2\^32\), got -1"),
        ({"selection_ratio": 1.5}, r"must lie in \(0, 1\], got 1.5"),
        ({"selection_count": 92}, "selection_count=92 is more than there are, 91 rows"),
        ({"image_embeds": None, "dynamics": None}, "Pass image_embeds, or dynamics"),
        ({"labels": np.zeros(90, dtype=np.int64)}, "labels must be 91 integers"),
        ({"image_embeds": np.ones((5, 6)), "labels": np.arange(5)}, "dynamics are of 91 rows and there are 5 labels"),
        (
            {"method": "cg_score", "max_gigabytes": 1e-5},
            "needs a matrix of 0.0 GB for the largest class, of 50 rows, and 1e-05 GB",
        ),
        (
            {"method": "glister", "val_labels": None},
            "glister selects what lowers the loss on validation rows .* pass val_labels, or",
        ),
        ({"method": "glister", "dynamics": None}, "pass val_image_embeds, or take another method"),
        ({"method": "glister", "val_labels": np.zeros(5, dtype=np.int64)}, "labels must be 12 integers"),
        (
            {"method": "glister", "val_labels": np.full(12, 3)},
            r"val_labels must be classes of labels, in \[0, 3\), got 3",
        ),
    ],
)
def test_what_does_not_fit_is_refused(made, change, message):
    with pytest.raises(InputError, match=message):
        select_baseline(**{"method": "moderate", **made, **change})


def test_dynamics_without_validation_rows_are_refused_by_glister(made):
    dynamics = train_probe(
        made["image_embeds"], made["labels"], num_epochs=1, early_epochs=1, num_checkpoints=1, num_runs=1
    )
    with pytest.raises(InputError, match=r"pass validation rows in dynamics \(val_image_embeds of train_probe"):
        select_baseline(**{"method": "glister", **made, "dynamics": dynamics})


def test_cg_score_refuses_a_large_class_before_it_starts():
    """A million rows of one class: the matrix would have 8 TB."""
    embeds, labels = np.ones((1_000_000, 2), dtype=np.float32), np.zeros(1_000_000, dtype=np.int64)
    with pytest.raises(InputError, match=r"needs a matrix of 8000\.0 GB .* and 8 GB are allowed; raise max_gigabytes"):
        select_baseline("cg_score", embeds, labels)


# Real CLIP features with wrong labels in a fifth of the rows


def test_what_the_methods_make_of_wrong_labels(real_data, record_property):
    """Hard rows are wrong rows: who keeps the hardest keeps little else, who keeps the typical keeps few of them."""
    images, _, labels = food_embeds(real_data)
    noisy = mislabelled(labels, "symmetric", 0)
    with np.load(real_data / "clip-features-food101" / "features.npz") as arrays:
        rows = arrays["class_has_text"][arrays["test_labels"]]
        val_images = arrays["test_image_embeds"][rows]
        val_labels = np.unique(arrays["test_labels"][rows], return_inverse=True)[1]
    dynamics = train_probe(images, noisy, val_image_embeds=val_images)
    noise = {}
    for method in BASELINES:
        result = select_baseline(
            method, images, noisy, selection_ratio=[0.2, 0.5], dynamics=dynamics, val_labels=val_labels
        )
        noise[method] = [round(100 * float((noisy != labels)[result.at(ratio)].mean()), 1) for ratio in (0.2, 0.5)]
    record_property("printed", f"wrong labels kept at 0.2 and 0.5, %: {noise}")
    for method in ("random", "herding", "prototypes", "k_center", "d2_pruning"):  # of all rows 20 % are wrong
        assert 12 < noise[method][0] < 28 and 16 < noise[method][1] < 24
    assert (
        noise["el2n"][0] > 85 and noise["forgetting"][0] > 80 and noise["cg_score"][0] > 80 and noise["grand"][0] > 60
    )
    for method in ("el2n", "forgetting", "cg_score", "grand"):  # all of them would be 40 %
        assert noise[method][1] > 39
    assert noise["moderate"][0] < 3 and noise["moderate"][1] < 6
    assert noise["moso"][1] < 1 and noise["glister"][1] < 1


def test_random_rows_share_as_many_wrong_labels_as_all_rows():
    labels = np.arange(5000) % 10
    for seed in range(3):
        wrong = add_label_noise(labels, 10, rate=0.2, seed=seed) != labels
        rows = select_baseline("random", np.ones((5000, 1)), labels, selection_ratio=0.2, seed=seed).selected
        assert 0.16 < wrong[rows].mean() < 0.24

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Value

from hf_clipselect.data.row_facts import RowFacts
from hf_clipselect.errors import InputError
from hf_clipselect.results.scores_table import column_values, is_selection_column, join_columns, score_table
from hf_clipselect.results.subsets import select_from_table
from hf_clipselect.scores.sample_scores import SampleScores, present_classes
from hf_clipselect.selection import class_graph, resolve_objective


NAMES = ["cat", "dog", "small bird"]
SCORES = [
    "source_index",
    "label",
    "predicted_label",
    "label_agrees",
    "sas",
    "margin",
    "sds",
    "sas_quantile",
    "sds_quantile",
    "duplicate_group",
]


def random_scores(num_rows, *, seed=0):
    rng = np.random.default_rng(seed)
    return SampleScores(
        predicted_label=rng.integers(0, len(NAMES), num_rows),
        sas=rng.uniform(0, 1, num_rows).astype(np.float32),
        margin=rng.uniform(-1, 1, num_rows).astype(np.float32),
        sds=rng.uniform(0, 2, num_rows).astype(np.float32),
    )


def make_table(num_rows, unreadable=(), *, seed=0):
    """A table of random scores, with some rows that could not be read; returns the table, labels and scores."""
    labels = np.random.default_rng([seed, 1]).integers(0, len(NAMES), num_rows)
    readable = np.setdiff1d(np.arange(num_rows), unreadable)
    scores = random_scores(len(readable), seed=seed).scattered(readable, num_rows)
    return score_table(labels, NAMES, np.arange(num_rows), scores), labels, scores


def test_four_rows_by_hand():
    scores = SampleScores(
        predicted_label=np.array([0, 1, -1, 0]),
        sas=np.array([0.5, 0.25, np.nan, -0.5], np.float32),
        margin=np.array([0.125, 0.0, np.nan, -1.0], np.float32),
        sds=np.array([1.0, 0.0, np.nan, 0.75], np.float32),
    )
    table = score_table(np.array([0, 2, 1, 0]), NAMES, np.array([3, 5, 8, 13]), scores)
    assert table[:2] == {
        "source_index": [3, 5],
        "label": [0, 2],
        "predicted_label": [0, 1],
        "label_agrees": [True, False],
        "sas": [0.5, 0.25],
        "margin": [0.125, 0.0],
        "sds": [1.0, 0.0],
        "sas_quantile": [0.75, 0.5],  # of the two readable rows of the class 0, and of the only one of the class 2
        "sds_quantile": [0.75, 0.5],
        "duplicate_group": [None, None],
    }
    unreadable = table[2]
    assert unreadable["source_index"] == 8
    assert unreadable["label"] == 1
    assert unreadable["predicted_label"] is None
    assert unreadable["label_agrees"] is None
    assert all(np.isnan(unreadable[name]) for name in ("sas", "margin", "sds", "sas_quantile", "sds_quantile"))
    assert table[3]["label_agrees"] is True


def test_columns_and_types():
    table, _, _ = make_table(10, [4])
    assert table.column_names == SCORES
    names = ClassLabel(names=NAMES)
    types = [Value("int64"), names, names, Value("bool"), *[Value("float32")] * 5, Value("int64")]
    assert list(table.features.values()) == types
    assert table.format["type"] is None


def test_every_value_is_at_its_row_over_several_batches():
    num_rows = 23_456
    # On both sides of the borders between batches, and whole stretches.
    unreadable = [0, 9_999, 10_000, 19_998, *range(20_000, 20_050), num_rows - 1]
    table, labels, scores = make_table(num_rows, unreadable)
    assert len(table) == num_rows
    assert np.array_equal(column_values(table, "source_index"), np.arange(num_rows))
    assert np.array_equal(column_values(table, "label"), labels)
    assert np.array_equal(column_values(table, "predicted_label"), scores.predicted_label)
    assert np.array_equal(np.flatnonzero(column_values(table, "predicted_label") == -1), unreadable)
    agrees = (scores.predicted_label == labels) & (scores.predicted_label >= 0)
    assert np.array_equal(column_values(table, "label_agrees"), agrees)
    assert agrees.any()
    for name in ("sas", "margin", "sds"):
        assert np.array_equal(column_values(table, name), getattr(scores, name), equal_nan=True)
        assert np.array_equal(np.flatnonzero(np.isnan(column_values(table, name))), unreadable)


def test_columns_of_the_noise_model_are_missing_where_a_row_was_not_read():
    labels, readable = np.array([0, 2, 1, 0]), np.array([0, 1, 3])
    noise = {
        "label_error_probability": np.array([0.25, 1.0, 0.0], np.float32),
        "clean_label": np.array([0, 1, 2]),
        "class_rank": np.array([1, 0, 0]),
    }
    scores = dataclasses.replace(random_scores(3), **noise).scattered(readable, 4)
    table = score_table(labels, NAMES, np.arange(4), scores)
    assert table["clean_label"][:] == [0, 1, None, 2] and table["class_rank"][:] == [1, 0, None, 0]
    probability = table["label_error_probability"][:]
    assert probability[:2] == [0.25, 1.0] and np.isnan(probability[2]) and probability[3] == 0
    kinds = {"clean_label": ClassLabel(names=NAMES), "class_rank": Value("int64")}
    kinds |= {"label_error_probability": Value("float32")}
    assert {name: table.features[name] for name in noise} == kinds
    assert [name for name in table.column_names if name not in noise] == SCORES
    other = dataclasses.replace(scores, class_rank=np.array([0, 0, -1, 1]))
    assert score_table(labels, NAMES, np.arange(4), other)._fingerprint != table._fingerprint


def test_what_another_size_or_objective_needs_is_told_where_it_lacks():
    table, _, _ = make_table(20)
    for objective, sizes, knob, column in (
        ("robust", (0.5,), "herding true", "label_error_probability"),
        ("clean", (0.5, "auto"), "selection_ratio auto", "label_error_probability"),
    ):
        with pytest.raises(InputError, match=f"--{knob} needs the column {column}, which these scores lack"):
            select_from_table(table, resolve_objective(objective), sizes)


def test_scattered_scores():
    scores = random_scores(3).scattered(np.array([1, 2, 5]), 7)
    original = random_scores(3)
    assert scores.predicted_label.tolist() == [
        -1,
        *original.predicted_label[:2],
        -1,
        -1,
        original.predicted_label[2],
        -1,
    ]
    assert scores.predicted_label.dtype == np.int64
    for name in ("sas", "margin", "sds"):
        values = getattr(scores, name)
        assert values.dtype == np.float32
        assert np.array_equal(values[[1, 2, 5]], getattr(original, name))
        assert np.isnan(values[[0, 3, 4, 6]]).all()


def test_the_fingerprint_follows_the_content():
    labels, scores = np.array([0, 1, 2]), random_scores(3)
    other = random_scores(3, seed=1)
    tables = [
        score_table(labels, NAMES, np.arange(3), scores),
        score_table(labels, NAMES, np.arange(3), other),
        score_table(labels[::-1].copy(), NAMES, np.arange(3), scores),
        score_table(labels, NAMES, np.arange(3) + 1, scores),
        score_table(labels, ["a", "b", "c"], np.arange(3), scores),
    ]
    assert len({table._fingerprint for table in tables}) == len(tables)
    assert score_table(labels, NAMES, np.arange(3), scores)._fingerprint == tables[0]._fingerprint


def test_present_classes():
    classes, labels = present_classes(np.array([7, 2, 2, 9, 7]))
    assert classes.tolist() == [2, 7, 9]
    assert labels.tolist() == [1, 0, 0, 2, 1]
    assert labels.dtype == np.int64
    for labels in (np.array([3, 3]), np.array([], dtype=np.int64)):
        with pytest.raises(InputError, match=f"at least two classes, found {len(np.unique(labels))}"):
            present_classes(labels)


def test_columns_beside_columns_rewrite_nothing():
    dataset = Dataset.from_dict({"a": [1, 2, 3], "b": ["x", "y", "z"]}, split="test")
    dataset.info.license = "mit"
    joined = join_columns(dataset, {"c": np.array([1.5, np.nan, 3], np.float32), "d": np.array([True, False, True])})
    assert joined.column_names == ["a", "b", "c", "d"]
    assert (joined.features["c"], joined.features["d"]) == (Value("float32"), Value("bool"))
    assert joined["a"][:] == [1, 2, 3]
    assert joined["c"][2] == 3
    assert joined.split == "test"
    assert joined.info.license == "mit"
    with pytest.raises(ValueError):
        join_columns(dataset, {"c": np.arange(2)})


def test_values_of_a_column_keep_their_type():
    table = Dataset(
        pa.table(
            {
                "integers": pa.array([3, None, 5], pa.int64()),
                "bools": pa.array([True, None, False]),
                "floats": pa.array([0.5, np.nan, 1.5], pa.float32()),
            }
        )
    )
    integers, bools, floats = (column_values(table, name) for name in table.column_names)
    assert (integers.dtype, integers.tolist()) == (np.int64, [3, -1, 5])
    assert (bools.dtype, bools.tolist()) == (np.bool_, [True, False, False])
    assert floats.dtype == np.float32
    assert np.isnan(floats[1])
    picked = table.select([2, 0]).with_format("torch")
    assert column_values(picked, "integers").tolist() == [5, 3]
    assert (column_values(table, "bools").dtype, (~column_values(table, "bools")).tolist()) == (
        bool,
        [False, True, True],
    )


@pytest.mark.parametrize("preset", ["clean", "released", "paper"])
@pytest.mark.parametrize("class_balance", ["none", "proportional", "uniform"])
def test_unreadable_rows_are_never_selected_and_do_not_count(preset, class_balance):
    unreadable = np.array([0, 7, 30, 31, 59])
    table, labels, _ = make_table(60, unreadable)
    objective = resolve_objective(preset, {"class_balance": class_balance})
    ratios = (0.3, 0.5, 0.9, 1.0)
    selected = select_from_table(table, objective, ratios)
    # Of 55 readable rows: 16.5, 27.5 and 49.5 go up.
    for ratio, name, count in zip(ratios, ("30", "50", "90", "100"), (17, 28, 50, 55), strict=True):
        kept = column_values(selected, f"selected_{name}")
        score = column_values(selected, f"selection_score_{name}")
        assert kept.sum() == count == int(np.floor(ratio * 55 + 0.5))
        assert not kept[unreadable].any()
        assert np.array_equal(np.flatnonzero(np.isnan(score)), unreadable)
        if class_balance == "none":
            assert score[kept].min() >= np.delete(score, np.union1d(unreadable, np.flatnonzero(kept))).max(initial=-9)


def test_selection_scores_are_those_of_the_objective():
    table, _, scores = make_table(50)
    for ratio, name in ((0.2, "20"), (0.6, "60")):
        selected = select_from_table(table, resolve_objective("paper"), (0.2, 0.6))
        expected = scores.sas + ratio * scores.sds
        np.testing.assert_allclose(column_values(selected, f"selection_score_{name}"), expected, rtol=1e-6)
        best = np.argsort(-expected, kind="stable")[: int(50 * ratio)]
        assert np.array_equal(np.flatnonzero(column_values(selected, f"selected_{name}")), np.sort(best))
    clean = select_from_table(table, resolve_objective("clean"), (0.2,))
    assert np.array_equal(column_values(clean, "selection_score_20"), scores.margin)


@pytest.mark.parametrize("class_balance", ["none", "proportional", "uniform"])
def test_subsets_of_several_ratios_are_nested(class_balance):
    for seed in range(5):
        table, _, _ = make_table(97, [3, 50], seed=seed)
        objective = resolve_objective("clean", {"class_balance": class_balance})
        selected = select_from_table(table, objective, (0.5, 0.1, 0.8, 0.3))
        subsets = [
            set(np.flatnonzero(column_values(selected, f"selected_{name}"))) for name in ("10", "30", "50", "80")
        ]
        for smaller, larger in zip(subsets[:-1], subsets[1:], strict=True):
            assert smaller < larger


def test_two_columns_for_each_ratio_named_in_percent():
    table, _, _ = make_table(1000)
    selected = select_from_table(table, resolve_objective("diverse"), (0.3, 0.125, 0.07))
    added = [
        "selection_score_30",
        "selected_30",
        "selection_score_12_5",
        "selected_12_5",
        "selection_score_7",
        "selected_7",
    ]
    assert selected.column_names == [*SCORES, *added, "reason"]
    for name in added:
        assert selected.features[name] == Value("bool" if name.startswith("selected_") else "float32")
    assert [name for name in selected.column_names if is_selection_column(name)] == [*added, "reason"]
    again = select_from_table(selected, resolve_objective("diverse"), (0.5,))
    assert again.column_names == [*SCORES, "selection_score_50", "selected_50", "reason"]
    assert {name: again.features[name] for name in SCORES} == dict(table.features)
    np.testing.assert_equal(again.select_columns(SCORES)[:], table[:])


def test_a_ratio_that_keeps_no_row_is_refused():
    table, _, _ = make_table(20)
    with pytest.raises(InputError, match="selection_ratio 0.01 of 20 rows keeps none"):
        select_from_table(table, resolve_objective("diverse"), (0.5, 0.01))


@pytest.mark.parametrize(
    "knobs", [{"class_balance": "none"}, {"balance_by": "group"}, {"balance_by": "group", "class_balance": "uniform"}]
)
def test_doubtful_rows_of_a_class_come_behind_safe_ones_of_others(knobs):
    labels, scores = np.repeat([0, 1], 20), random_scores(40)
    wrong = np.where(np.arange(40) < 18, 0.01, 0.9).astype(np.float32)  # of class 1 no label is safe
    noise = {"label_error_probability": wrong, "clean_label": labels * 0, "class_rank": np.arange(40) % 20}
    facts = RowFacts(group=np.repeat(["all"], 40))
    table = score_table(labels, NAMES, np.arange(40), dataclasses.replace(scores, **noise), facts)
    selected = select_from_table(table, resolve_objective("robust", knobs), (0.25, "auto", 0.5))
    assert np.flatnonzero(column_values(selected, "selected_25")).tolist() == list(range(10))
    auto, half = (set(np.flatnonzero(column_values(selected, f"selected_{size}"))) for size in ("auto", "50"))
    assert len(auto) == round(float((1 - wrong).sum()) + 1e-6) == len(half)
    assert set(range(18)) < auto and auto == half


def test_what_is_like_a_kept_row_comes_before_doubtful_rows():
    labels, scores = np.zeros(10, dtype=np.int64), random_scores(10)
    wrong = np.where(np.arange(10) < 6, 0.0, 0.9).astype(np.float32)
    noise = {"label_error_probability": wrong, "clean_label": labels + 1, "class_rank": np.arange(10)}
    table = score_table(labels, NAMES, np.arange(10), dataclasses.replace(scores, **noise))
    robust = resolve_objective("robust", {"redundancy_weight": 1.0})
    others = [[other for other in range(10) if other != row] for row in range(10)]
    copies = np.array([[row < 6 and other < 6 for other in others[row]] for row in range(10)])
    graph = class_graph(np.array(others), copies.astype(np.float32))  # the safe rows are copies of each other
    selected = select_from_table(table, robust, (0.6,), graph=graph)
    assert np.flatnonzero(column_values(selected, "selected_60")).tolist() == list(range(6))


def test_a_class_that_loses_rows_of_auto_passes_none_on(caplog):
    labels, scores = np.repeat([0, 1], 20), random_scores(40)
    scores = dataclasses.replace(
        scores,
        label_error_probability=np.zeros(40, dtype=np.float32),
        clean_label=labels,
    )
    must_drop = np.arange(40) < 15
    table = score_table(labels, NAMES, np.arange(40), scores, RowFacts(must_drop=must_drop))
    selected = select_from_table(table, resolve_objective("clean"), ("auto",))
    assert np.flatnonzero(column_values(selected, "selected_auto")).tolist() == list(range(15, 40))
    assert not caplog.records
    uniform = resolve_objective("clean", {"class_balance": "uniform"})
    select_from_table(table, uniform, ("auto",))
    assert "and the rest went to the others: cat (5 of 13)" in caplog.text

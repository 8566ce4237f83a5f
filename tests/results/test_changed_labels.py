"""Labels that a person changed: written as the source writes its labels, and refused where no run changes them."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from datasets import Value

from hf_clipselect import InputError, SelectionResult, load_pruned, select_dataset
from hf_clipselect.data.decisions import Decision
from hf_clipselect.embedded import load_digits_dataset


@pytest.fixture
def select(clip_folder, tmp_path):
    def run(dataset, decisions, **settings):
        """A new label for each row, or `None` to drop it."""
        given = {row: Decision(row, "relabel" if label else "drop", label) for row, label in decisions.items()}
        return select_dataset(
            dataset,
            model_name_or_path=clip_folder,
            adaptation="off",
            objective="released",
            selection_ratio=0.8,
            decisions=given,
            output_dir=tmp_path / "out",
            **settings,
        )

    return run


def with_labels(dataset, values, kind=None):
    changed = dataset.remove_columns("label").add_column("label", values)
    return changed if kind is None else changed.cast_column("label", kind)


NAMED = {"class_names": ["x", "y", "z"]}
# The labels of classes 0, 1 and 2; their type; settings of the run; the name of class 2 in it.
KINDS = {
    "texts": (["b", "a a", "c"], None, {}, "c"),
    "texts-with-other-names": (["a", "b", "c"], None, NAMED, "z"),
    "numbers": ([3, 5, 700], Value("int16"), {}, "700"),
    "named-numbers": ([0, 1, 2], Value("uint8"), NAMED, "z"),
    "floats": ([0.0, 4.0, 7.0], Value("float32"), {"label_column_name": "label"}, "7"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_label_is_written_as_the_source_writes_it(images_dataset, select, tmp_path, kind):
    values, feature, settings, last = KINDS[kind]
    labels = [values[label] for label in images_dataset["label"]]
    dataset = with_labels(images_dataset, labels, feature).add_column("after", [i / 8 for i in range(60)])
    result = select(dataset, {0: last, 1: last, 4: None}, **settings)
    expected = [values[2], values[2], *labels[2:]]
    for subset in (
        result.apply(dataset),
        load_pruned(tmp_path / "out", ratio=0.8),
        result.at(count=59).apply(dataset),
    ):
        rows = subset["source_index"][:]
        assert subset.column_names[:3] == dataset.column_names and subset.column_names[-1] == "given_label"
        assert subset.features["label"] == subset.features["given_label"] == dataset.features["label"]
        assert subset["label"][:] == [expected[row] for row in rows]
        assert subset["given_label"][:] == [labels[row] for row in rows] and 4 not in rows
    assert {0, 1} <= set(rows)


def test_booleans(images_dataset, select):
    labels = [label == 2 for label in images_dataset["label"]]
    dataset = with_labels(images_dataset, labels)
    subset = select(dataset, {0: "True", 2: "False"}, label_column_name="label").at(1.0).apply(dataset)
    assert subset["label"][:3] == [True, False, False] and subset["given_label"][:] == labels


def test_a_class_without_rows_gets_some(images_dataset, select, caplog):
    """Class labels name classes that no row has."""
    others = images_dataset.filter(lambda label: label < 2, input_columns="label")
    result = select(others, {0: "blue thing", 3: "blue thing"})
    assert result.scores[:4]["label"] == [2, 1, 0, 2] and result.scores[:4]["given_label"] == [0, 1, 0, 1]
    subset = result.at(1.0).apply(others)
    assert subset[:4]["label"] == [2, 1, 0, 2] and subset.features["label"] == others.features["label"]
    assert not any("no image" in message for message in caplog.messages)


def test_the_label_it_has_already_is_no_change(images_dataset, select):
    result = select(images_dataset, {0: "red thing", 1: "red thing"})
    assert result.scores[:3]["decision"] == ["keep", "relabel", ""]
    assert result.report["decisions"] == {"keep": 1, "relabel": 1, "drop": 0, "unsure": 0}


def test_a_subset_with_both_labels_is_selected_from_again(images_dataset, select, clip_folder):
    subset = select(images_dataset, {0: "blue thing"}).at(1.0).apply(images_dataset)
    settings = {"model_name_or_path": clip_folder, "adaptation": "off"}
    again = select_dataset(subset, objective="released", **settings)
    assert again.source.label_column == "label" and again.scores["label"][0] == 2
    assert again.apply(subset).column_names[-5:] == ["given_label", "source_index", "sas", "sds", "selection_score"]


def test_captions_are_kept_or_dropped_but_not_changed(images_dataset, clip_folder):
    captioned = images_dataset.remove_columns("label").add_column("text", [f"picture {i % 50}" for i in range(60)])
    settings = {"model_name_or_path": clip_folder, "adaptation": "off", "caption_column": "text"}
    decisions = {3: Decision(3, "drop", given_label="picture 3"), 5: Decision(5, "keep"), 6: Decision(6, "unsure")}
    result = select_dataset(captioned, decisions=decisions, **settings)
    assert result.report["decisions"] == {"keep": 1, "relabel": 0, "drop": 1, "unsure": 1}
    assert result.scores["reason"][3] == "dropped by a reviewer" and "given_label" not in result.scores.column_names
    assert "given_label" not in result.apply(captioned).column_names
    with pytest.raises(InputError, match="gives row 7 another label, and the rows have captions"):
        select_dataset(captioned, decisions={7: Decision(7, "relabel", "a bird")}, **settings)


def replaced(table, name, change):
    place = table.schema.get_field_index(name)
    column = change(table.column(name).combine_chunks())
    return table.set_column(place, table.schema.field(place), column)


def at(row, value):
    def change(column):
        values = column.to_pylist()
        values[row] = value
        return pa.array(values, column.type)

    return change


HOSTILE = {
    "labels changed without a decision": (
        "label",
        at(20, 0),
        "given_label differ where no decision says so",
    ),
    "a decision without a change": ("given_label", at(0, 1), "or agree where one changed them"),
    "no given label": ("given_label", at(20, None), "given_label is missing"),
    "a class that is none": ("given_label", at(20, 10), "given_label is missing, or lies outside the classes"),
    "no decision": ("decision", at(20, None), "decision is missing"),
    "a decision that is none": (
        "decision",
        at(20, "x" * 999),
        "is one of keep, relabel, drop, unsure, got 'xxx",
    ),
    "dropped and not dropped": ("must_drop", pc.invert, "a row that a decision drops is none that must be dropped"),
}


@pytest.fixture(scope="module")
def saved(clip_folder, tmp_path_factory):
    digits = load_digits_dataset("train").select(range(60))
    given = [digits.features["label"].names[label] for label in digits["label"]]
    decisions = {row: Decision(row, "relabel", "zero" if given[row] != "zero" else "one") for row in (0, 1)}
    result = select_dataset(
        digits,
        decisions={**decisions, 4: Decision(4, "drop")},
        model_name_or_path=clip_folder,
        adaptation="off",
        objective="released",
    )
    folder = tmp_path_factory.mktemp("saved")
    result.save(folder)
    return folder, digits


@pytest.fixture
def published(saved, tmp_path):
    folder = Path(shutil.copytree(saved[0], tmp_path / "published"))
    return folder, folder / "scores" / "train-00000-of-00001.parquet"


@pytest.mark.parametrize("what", HOSTILE)
def test_tables_that_no_run_writes_are_refused(published, what):
    folder, path = published
    column, change, reason = HOSTILE[what]
    SelectionResult.from_folder(folder)
    pq.write_table(replaced(pq.read_table(path), column, change), path)
    with pytest.raises(InputError) as refused:
        SelectionResult.from_folder(folder)
    assert reason in str(refused.value) and len(str(refused.value)) < 700


def test_columns_that_belong_together(published):
    folder, path = published
    table = pq.read_table(path)
    pq.write_table(table.drop_columns("decision"), path)
    with pytest.raises(InputError, match="there is a given_label, and no decision"):
        SelectionResult.from_folder(folder)
    pq.write_table(table.drop_columns("given_label"), path)
    with pytest.raises(InputError, match="or agree where one changed them"):
        SelectionResult.from_folder(folder)


def test_given_labels_that_are_not_those_of_the_dataset(published, saved):
    """The table is whole in itself, and says something else of the source than the source."""
    folder, path = published
    table = pq.read_table(path)
    shifted = {name: (np.array(table[name]) + 1) % 10 for name in ("label", "given_label")}
    for name, values in shifted.items():
        table = replaced(table, name, lambda column, values=values: pa.array(values, column.type))
    pq.write_table(table, path)
    result = SelectionResult.from_folder(folder)
    with pytest.raises(InputError, match="are others than the given labels of the scores"):
        result.apply(saved[1])


def test_counts_are_those_of_the_scores(published):
    folder, _ = published
    text = (folder / "selection.json").read_text()
    counts = {"keep": 0, "relabel": 2, "drop": 1, "unsure": 0}
    assert '"relabel": 2' in text and SelectionResult.from_folder(folder).report["decisions"] == counts
    (folder / "selection.json").write_text(text.replace('"relabel": 2', '"relabel": 40'))
    assert SelectionResult.from_folder(folder).report["decisions"] == counts
    (folder / "selection.json").write_text(text.replace('"relabel": 2', '"relabel": "<b>many</b>"'))
    with pytest.raises(InputError, match="decisions.relabel must be int"):
        SelectionResult.from_folder(folder)

"""Labels of every type that people have, with and without names for the classes."""

import datetime
import logging
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Sequence, Value
from folders import message_of
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_clipselect import select_dataset
from hf_clipselect.data import read_images
from hf_clipselect.data.columns import find_image_column, find_label_column
from hf_clipselect.data.labels import number_strings, read_captions, read_labels
from hf_clipselect.errors import InputError


def table(values: list[Any], feature: Any) -> Dataset:
    return Dataset.from_dict({"target": values}, features=Features({"target": feature}))


NAMES = ["cat", "dog", "owl"]
# Of each type the rows 2, 0, 2, and what they are called without names.
TYPES = {
    "int8": ([2, 0, 2], Value("int8"), ["0", "2"]),
    "uint64": ([2, 0, 2], Value("uint64"), ["0", "2"]),
    "large": ([2**62, 10, 2**62], Value("int64"), ["10", str(2**62)]),
    "float16": ([2.0, 0.0, 2.0], Value("float16"), ["0", "2"]),
    "float32": ([2.0, -0.0, 2.0], Value("float32"), ["0", "2"]),
    "float64": ([2.0, 0.0, 2.0], Value("float64"), ["0", "2"]),
    "bool": ([True, False, True], Value("bool"), ["False", "True"]),
    "string": (["b", "a", "b"], Value("string"), ["a", "b"]),
    "large_string": (["b", "a", "b"], Value("large_string"), ["a", "b"]),
    "string_view": (["b", "a", "b"], Value("string_view"), ["a", "b"]),
}


@pytest.mark.parametrize("kind", TYPES)
def test_labels_of_every_type_become_numbers_of_classes(kind: str) -> None:
    values, feature, expected = TYPES[kind]
    dataset = table(values, feature)
    labels, names = read_labels(dataset, "target", None)
    assert (labels.tolist(), names) == ([1, 0, 1], expected)
    assert labels.dtype == np.int64 and {type(name) for name in names} == {str}
    assert find_label_column(dataset, None, "image") == find_label_column(dataset, "target", "image") == "target"
    # With rows picked out and in another order.
    assert read_labels(dataset.select([1, 0]), "target", None)[0].tolist() == [0, 1]


@pytest.mark.parametrize("kind", ["int8", "uint64", "float16", "float32", "float64"])
@pytest.mark.parametrize(
    "form", [list, tuple, np.array, pd.Index, pd.Series, lambda names: [np.str_(n) for n in names]]
)
def test_numbers_are_positions_among_names_in_any_form(kind: str, form: Any) -> None:
    values, feature, _ = TYPES[kind]
    labels, names = read_labels(table(values, feature), "target", form(NAMES))
    assert (labels.tolist(), names) == ([2, 0, 2], NAMES)
    assert {type(name) for name in names} == {str}


@pytest.mark.parametrize("kind", ["bool", "string", "large_string", "string_view"])
def test_names_follow_the_order_of_the_classes(kind: str) -> None:
    values, feature, _ = TYPES[kind]
    assert read_labels(table(values, feature), "target", ("off", "on"))[1] == ["off", "on"]
    assert message_of(read_labels, table(values, feature), "target", NAMES).startswith("Got 3 class names, but")


@pytest.mark.parametrize("class_names", ["cat", b"cat", {"cat": 0, "dog": 1}, [1, 2], [None, "a"], [], 3, np.array(5)])
def test_what_is_no_list_of_names(class_names: Any) -> None:
    for dataset in (table([0, 1], Value("int64")), table(["a", "b"], Value("string"))):
        message = message_of(read_labels, dataset, "target", class_names)
        assert message.startswith("class_names must be a list of strings")


def test_names_of_a_class_label_may_be_numpy_strings() -> None:
    dataset = table([0, 1], ClassLabel(names=list(np.array(["a", "b"]))))
    assert {type(name) for name in read_labels(dataset, "target", None)[1]} == {str}


def test_categories_are_strings() -> None:
    encoded = Dataset(pa.table({"target": pa.array(["b", "a", "b"]).dictionary_encode()}))
    frame = Dataset.from_pandas(pd.DataFrame({"target": pd.Categorical(["b", "a", "b"], categories=["b", "a", "c"])}))
    for dataset in (encoded, frame):
        assert read_labels(dataset, "target", None)[1] == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            [0.0, 1.5, 2.5],
            "2 rows of column 'target' hold a label that is no whole number (first: 1.5 at source_index 1)",
        ),
        ([0.0, float("inf"), 1.0], "no whole number (first: inf at source_index 1)"),
        ([0.0, 1e30, 1.0], "no whole number (first: 1e+30 at source_index 1)"),
        ([0.0, float("nan"), 1.0], "1 rows have no label in column 'target' (first: source_index 1)"),
        ([0.0, None, 1.0], "1 rows have no label in column 'target' (first: source_index 1)"),
        ([0.0, -1.0, 1.0], "1 rows of column 'target' hold the label -1 (first: source_index 1)"),
        ([-1.0, -1.0, -1.0], "All 3 rows of column 'target' hold the label -1, which stands for no label"),
        ([None, float("nan"), None], "No row has a label in column 'target'"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_that_are_no_labels(values: list[Any], told: str, dtype: str) -> None:
    assert told in message_of(read_labels, table(values, Value(dtype)), "target", None)


@pytest.mark.parametrize(
    "feature", [ClassLabel(names=["a", "b"]), Value("int64"), Value("string"), Value("bool"), Value("null")]
)
def test_no_row_has_a_label(feature: Any) -> None:
    dataset = table([None, None], feature)
    assert find_label_column(dataset, None, "image") == "target"
    message = message_of(read_labels, dataset, "target", None)
    assert message.startswith("No row has a label in column 'target'") and "--caption_column" in message


@pytest.mark.parametrize("feature", [ClassLabel(names=["a", "b"]), Value("int32"), Value("float64")])
@pytest.mark.parametrize("class_names", [None, ["x", "y"]])
def test_every_label_is_minus_one(feature: Any, class_names: Any) -> None:
    message = message_of(read_labels, table([-1, -1], feature), "target", class_names)
    assert "--train_split_name" in message and "stands for no label" in message


@pytest.mark.parametrize(
    ("values", "feature"),
    [
        ([[0, 1], [1]], List(Value("int64"))),
        ([["a"], ["b"]], List(Value("string"))),
        ([[0], [1]], Sequence(ClassLabel(names=["a", "b"]))),
        ([[1.0, 0.0], [0.0, 1.0]], List(Value("float32"), length=2)),
    ],
)
def test_lists_of_labels_are_refused(values: list[Any], feature: Any) -> None:
    dataset = table(values, feature)
    for name in (None, "target"):
        assert "multi-label is not supported" in message_of(find_label_column, dataset, name, "image")


@pytest.mark.parametrize(
    ("values", "feature", "told"),
    [
        ([datetime.datetime(2020, 1, 1)], Value("timestamp[s]"), "timestamp[s]"),
        ([datetime.date(2020, 1, 1)], Value("date32"), "date32"),
        ([Decimal("1.00")], Value("decimal128(5, 2)"), "decimal128(5, 2)"),
        ([b"a"], Value("binary"), "binary"),
        ([{"a": 1}], {"a": Value("int64")}, "dict"),
        ([None], Image(), "Image"),
    ],
)
def test_other_types_are_refused(values: list[Any], feature: Any, told: str) -> None:
    message = message_of(find_label_column, table(values, feature), "target", "image")
    assert f"is a column of {told}, and labels are class labels, strings, whole numbers or booleans." in message


def test_strings_that_differ_little_are_classes_of_their_own(caplog: pytest.LogCaptureFixture) -> None:
    alike = ["cat", "cat ", "cat\0", "cat\0\0", "ca\u200bt", "caf\u00e9", "cafe\u0301", "dog"]
    with caplog.at_level(logging.WARNING, "hf_clipselect"):
        labels, names = read_labels(table(alike, Value("string")), "target", None)
    assert [names[label] for label in labels] == alike and len(set(labels.tolist())) == len(alike)
    [record] = caplog.records
    assert "count as different classes" in record.getMessage()
    caplog.clear()
    with caplog.at_level(logging.WARNING, "hf_clipselect"):
        read_labels(table(["Cat", "cat", "c at"], Value("string")), "target", None)
    assert not caplog.records


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_strings_are_numbered_as_python_sorts_them(strings: list[str]) -> None:
    numbers, names = number_strings(pa.array(strings, pa.string()))
    assert names == sorted(set(strings))
    assert [names[number] for number in numbers] == strings


@given(
    st.lists(
        st.one_of(st.none(), st.integers(-3, 9), st.floats(allow_nan=True), st.sampled_from([2.0**60, -0.0])),
        max_size=8,
    ),
    st.sampled_from(["int64", "uint8", "float32", "float64"]),
    st.sampled_from([None, ["a", "b", "c"]]),
)
@settings(max_examples=150, deadline=None)
def test_numbers_end_in_labels_or_in_a_sentence(values: list[Any], dtype: str, class_names: Any) -> None:
    try:
        array = pa.array(values, pa.float64()).cast(pa.type_for_alias(dtype))
    except pa.ArrowInvalid:
        return
    dataset = Dataset(pa.table({"target": array}))
    if len(dataset) == 0:
        return
    try:
        labels, names = read_labels(dataset, "target", class_names)
    except InputError as error:
        assert "column 'target'" in str(error)
        return
    given_values = array.to_pylist()
    wanted = given_values if class_names else [names[label] for label in labels]
    assert labels.tolist() == given_values if class_names else [str(int(v)) for v in given_values] == wanted


@pytest.mark.parametrize("column", ["__key__", "__url__", "__index_level_0__", "Unnamed: 0"])
def test_bookkeeping_of_shards_and_pandas_is_no_label(column: str) -> None:
    dataset = Dataset.from_dict({column: ["a", "b"], "kind": ["x", "y"]})
    assert find_label_column(dataset, None, "image") == "kind"
    assert find_label_column(dataset, column, "image") == column
    message = message_of(find_label_column, dataset.select_columns([column]), None, "image")
    assert "a label column, found none" in message


def test_floats_and_booleans_come_after_strings_and_integers() -> None:
    dataset = Dataset.from_dict({"score": [1.0, 2.0], "seen": [True, False], "kind": ["x", "y"], "share": [0.5, 1.0]})
    assert find_label_column(dataset, None, "image") == "kind"
    message = message_of(find_label_column, dataset.remove_columns("kind"), None, "image")
    assert "found 2: score, seen." in message
    assert find_label_column(dataset.select_columns(["score", "share"]), None, "image") == "score"
    assert "found none" in message_of(find_label_column, dataset.select_columns(["share"]), None, "image")


def test_paths_of_images_are_no_labels_and_no_captions(images_dataset: Dataset) -> None:
    dataset = Dataset.from_dict({"file": ["a.png", "b.png"], "label": [0, 1]})
    assert read_images(dataset, image_column_name="file").label_column == "label"
    for flag in ("label_column_name", "caption_column"):
        message = message_of(read_images, dataset, image_column_name="file", **{flag: "file"})
        assert message.startswith(f"--{flag} file ")


def test_captions_are_told_apart_to_the_last_sign() -> None:
    numbers, captions = read_captions(table(["a cat", "a cat\0", "a cat"], Value("large_string")), "target")
    assert (numbers.tolist(), captions) == ([0, 1, 0], ["a cat", "a cat\0"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["float64", "bool", "string_view"])
def test_a_subset_keeps_the_labels_of_the_source(kind: str, images_dataset: Dataset) -> None:
    values, feature, names = TYPES[kind]
    rows = [values[row % 2] for row in range(60)]
    dataset = images_dataset.remove_columns("label").add_column("target", rows, feature=feature)
    result = select_dataset(
        dataset,
        model_name_or_path="embedded/tiny-clip",
        adaptation="off",
        dataloader_num_workers=0,
        selection_count=20,
        use_cpu=True,
    )
    assert [entry["name"] for entry in result.report["classes"]] == names
    subset = result.apply(dataset)
    assert subset.features["target"] == feature
    assert subset[:]["target"] == [rows[row] for row in result.selected]


def test_where_the_labels_of_structures_tar_files_and_other_separators_are() -> None:
    rows = Dataset.from_dict({"json": [{"label": "a"}], "__key__": ["1"], "__url__": ["x.tar"]})
    message = message_of(find_label_column, rows, None, "png")
    assert "inside of a structure (json)" in message and "1.cls or 1.txt" in message
    for separator, remedy in {";": "save it with commas", "\t": "call it .tsv"}.items():
        rows = Dataset.from_dict({f"path{separator}label": [f"a.png{separator}x"]})
        for name in (None, "path"):
            message = message_of(find_image_column, rows, name)
            assert f"separated by {separator!r}" in message and remedy in message

"""Labels of shards become the classes that they are in the sample, whatever their type and their names."""

from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value

from hf_clipselect.data.labelled_images import read_images
from hf_clipselect.scale.shard_labels import class_of_label, classes_of_labels


NAMES = ["one", "two", "three"]


def sample(labels: list, feature: Any, names: list[str] | None) -> tuple[dict[str, int], bool]:
    """What the sample tells of labels."""
    image = np.zeros((2, 2, 3), np.uint8)
    features = Features({"image": Image(), "label": feature})
    dataset = Dataset.from_dict({"image": [image] * len(labels), "label": labels}, features=features)
    images = read_images(dataset, class_names=names, label_column_name="label")
    return classes_of_labels(images, are_named=names is not None)


@pytest.mark.parametrize(
    ("labels", "feature", "names", "expected"),
    [
        # Texts that look like numbers are texts.
        (["1", "2", "3", "1"], Value("string"), NAMES, {"1": 0, "3": 2, 2: 1, "0": None, "one": None, "1.0": None}),
        (["1", "2", "3", "1"], Value("string"), None, {"1": 0, " 3\n": 2, "0": None}),
        (["b", "a", "c"], Value("large_string"), NAMES, {"a": 0, "b": 1, "0": None}),
        # Numbers that occur are classes, and places only where the user named them.
        ([7, 3, 9], Value("int64"), None, {"3": 0, 7: 1, "09": 2, 9.0: 2, "9.0\n": 2, "0": None, 3.5: None}),
        (
            [7, 3, 9],
            Value("int64"),
            None,
            {"9" * 400: None, 10**400: None, "9" * 5000: None, "1e999": None, "-0": None},
        ),
        ([7.0, 3.0, 9.0], Value("float32"), None, {"3": 0, 7.0: 1, "7.0": 1, "nan": None}),
        ([0, 2, 1], Value("int32"), NAMES, {"0": 0, 2: 2, "3": None, "one": None}),
        ([0, 2, 1], ClassLabel(names=NAMES), None, {"0": 0, 1: 1, "three": 2, " two\n": 1, "3": None}),
        # Of class labels whose names are numbers, a number is a place.
        ([0, 2, 1], ClassLabel(names=["2", "1", "0"]), None, {"0": 0, 2: 2}),
        ([True, False], Value("bool"), ["no", "yes"], {True: 1, "False": 0, "1": 1, 0.0: 0, "2": None}),
    ],
)
def test_a_label_is_what_it_is_in_the_sample(
    labels: list, feature: Any, names: list[str] | None, expected: dict[Any, int | None]
) -> None:
    classes, are_numbers = sample(labels, feature, names)
    assert {label: class_of_label(label, classes, are_numbers=are_numbers) for label in expected} == expected

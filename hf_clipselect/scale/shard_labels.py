"""Which class a label of a shard stands for: what the label column of the sample shows of it."""

from typing import Any

from datasets import ClassLabel, Value

from ..data.columns import column_array, is_text
from ..data.labelled_images import LabelledImages


def classes_of_labels(images: LabelledImages, *, are_named: bool) -> tuple[dict[str, int], bool]:
    """The number of the class of every label, as its text, that the column of a sample may hold; and whether the
    column holds numbers, which may be written in several ways.

    A number is the place of a class only where it is one in the sample: in class labels, in booleans, and where
    numbers have names of the user. `are_named` tells that the user named the classes.
    """
    feature, names = images.dataset.features[images.label_column], images.class_names
    numbers = {str(number): number for number in range(len(names))}
    if isinstance(feature, ClassLabel) and feature.names:
        return {str(name): number for number, name in enumerate(feature.names)} | numbers, True
    if feature == Value("bool"):
        return {"False": 0, "True": 1} | numbers, True
    if not is_text(feature):
        return numbers if are_named else {name: number for number, name in enumerate(names)}, True
    if not are_named:
        return {name: number for number, name in enumerate(names)}, False
    given = images.labels if images.decided is None else images.decided.given_labels
    written = column_array(images.dataset, images.label_column).to_pylist()
    return dict(zip(written, given.tolist(), strict=True)), False


def class_of_label(label: Any, classes: dict[str, int], *, are_numbers: bool) -> int | None:
    """The number of the class of a label of a shard, by [`classes_of_labels`]; None where it is none of them."""
    text = str(label)
    if isinstance(label, float) and label.is_integer():
        text = str(int(label))
    found = classes.get(text, classes.get(text.strip()))
    return classes.get(_plain_number(text)) if found is None and are_numbers else found


def _plain_number(text: str) -> str:
    """The text of a whole number in its shortest form, such as 7 for 07 and 7.0; other texts as they are."""
    try:
        return str(int(text))
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else text

"""Finding the columns of images, labels and captions of a dataset, by name or because there is one candidate."""

import re
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, Image, LargeList, List, Value

from ..errors import InputError
from .image_values import can_become_images, is_image


# Columns that a subset carries after the source's own.
SUBSET_COLUMNS = ("source_index", "sas", "sds", "selection_score")
# The label in the source, where a person decided about labels: it comes behind these.
GIVEN_LABEL = "given_label"
# Columns that tar shards and pandas add: they number the rows.
_BOOKKEEPING = re.compile(r"__\w+__|Unnamed: \d+")


def find_image_column(dataset: Dataset, name: str | None) -> str:
    """The image column: the one of that name, which may also hold bytes or paths; without a name the only one.

    Raises `InputError` unless there is exactly one such column that can hold images.
    """
    images = [column for column, feature in dataset.features.items() if isinstance(feature, Image)]
    # Parquet that `datasets` did not write has images, and sounds, as structures.
    images = images or [column for column, feature in dataset.features.items() if is_image(feature)]
    if name is None:
        castable = [column for column, feature in dataset.features.items() if can_become_images(feature)]
        named = f" Bytes or paths of images ({', '.join(castable)}?) have to be named."
        hint = ("" if images or not castable else named) + _separator_hint(dataset)
        return _the_only(images, dataset, flag="--image_column_name", what="an image column", hint=hint)
    if name not in dataset.features or not can_become_images(dataset.features[name]):
        raise InputError(
            f"--image_column_name {name} is not an image column of the dataset. Image columns: "
            f"{', '.join(images) or 'none'}; all columns: {', '.join(dataset.column_names)}. Columns of bytes or of "
            f"paths of image files may be named too.{_separator_hint(dataset)}"
        )
    return name


def find_label_column(dataset: Dataset, name: str | None, image_column: str) -> str:
    """The label column: the one of that name, or the only candidate; never the image column, which may hold strings.

    Class labels are looked for first, then strings and whole numbers, then booleans and floats that are whole numbers,
    then columns without a value. Columns that tar shards and pandas add (`__key__`, `__index_level_0__`) count only
    when named, and those that a subset of ours has beside the source's only where there is no other. Raises
    `InputError` where there is no such column, it holds no labels, or there is not exactly one candidate.
    """
    features = {column: feature for column, feature in dataset.features.items() if column != image_column}
    kinds = [
        [column for column, feature in features.items() if isinstance(feature, ClassLabel)],
        [column for column, feature in features.items() if _is_integer(feature) or is_text(feature)],
        [column for column in features if features[column] == Value("bool") or _holds_whole_numbers(dataset, column)],
        [column for column, feature in features.items() if feature == Value("null")],
    ]
    kinds = [[column for column in kind if not _BOOKKEEPING.fullmatch(column)] for kind in kinds]
    if name is None:
        lists = [column for column, feature in features.items() if _is_list_of_labels(feature)]
        hint = f" A list of labels ({', '.join(lists)}) is none: multi-label is not supported." if lists else ""
        if structures := [column for column, feature in features.items() if isinstance(feature, dict)]:
            hint += f" A label inside of a structure ({', '.join(structures)}) needs a column of its own."
        if "__key__" in features:
            hint += (
                " In a tar file labels stand beside their images, in files such as 1.cls or 1.txt for 1.png. If this "
                "one holds class folders, unpack it, and give the folder."
            )
        candidates = next(filter(None, kinds), [])
        ours = {*SUBSET_COLUMNS, GIVEN_LABEL} if set(SUBSET_COLUMNS) <= features.keys() else set()
        candidates = [column for column in candidates if column not in ours] or candidates
        return _the_only(candidates, dataset, flag="--label_column_name", what="a label column", hint=hint)
    feature = features.get(name)
    if _is_label(feature) or _is_float(feature) or feature == Value("null"):
        return name
    found = ", ".join(column for kind in kinds for column in kind) or "none"
    places = f"Candidates: {found}; all columns: {', '.join(dataset.column_names)}."
    if feature is None:
        problem = "holds the images" if name == image_column else "is no column of the dataset"
        raise InputError(f"--label_column_name {name} {problem}. {places}")
    if isinstance(feature, (List, LargeList, list)):
        raise InputError(
            f"--label_column_name {name} holds lists of labels, and multi-label is not supported: every row needs one "
            f"label. Make a column of single labels, such as the first of each list, with dataset.map. {places}"
        )
    raise InputError(
        f"--label_column_name {name} is a column of {feature_name(feature)}, and labels are class labels, strings, "
        f"whole numbers or booleans. {places}"
    )


def find_caption_column(dataset: Dataset, name: str, image_column: str) -> str:
    """Check that a column holds texts, and is not the image column; raise `InputError` otherwise."""
    texts = [column for column, feature in dataset.features.items() if is_text(feature) and column != image_column]
    candidates = [column for column in texts if not _BOOKKEEPING.fullmatch(column)]
    if name not in texts:
        raise InputError(
            f"--caption_column {name} is not a text column of the dataset. Text columns: "
            f"{', '.join(candidates) or 'none'}; all columns: {', '.join(dataset.column_names)}."
        )
    return name


def is_text(feature: Any) -> bool:
    """Whether a column holds strings."""
    return isinstance(feature, Value) and bool(re.fullmatch(r"(large_)?string(_view)?", feature.dtype))


def feature_name(feature: Any) -> str:
    """The type of a column in a word, for errors."""
    return feature.dtype if isinstance(feature, Value) else type(feature).__name__


def column_array(dataset: Dataset, column: str) -> pa.Array:
    """A column in one array, in the order of the rows."""
    values = dataset.with_format("arrow").select_columns([column])[:].column(column).combine_chunks()
    return pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values


def _separator_hint(dataset: Dataset) -> str:
    """What to do about a CSV file that was read as one column because it has no commas."""
    found = re.search(r"[;\t|]", dataset.column_names[0]) if len(dataset.column_names) == 1 else None
    if found is None:
        return ""
    rename = "call it .tsv" if found[0] == "\t" else "save it with commas"
    return f" The one column looks like several, separated by {found[0]!r}: a .csv file needs commas, so {rename}."


def _the_only(candidates: list[str], dataset: Dataset, *, flag: str, what: str, hint: str) -> str:
    if len(candidates) == 1:
        return candidates[0]
    columns = ", ".join(f"{column} ({feature_name(feature)})" for column, feature in dataset.features.items())
    found = f"found {len(candidates)}: {', '.join(candidates)}" if candidates else "found none"
    raise InputError(
        f"Expected exactly one candidate for {what}, {found}. Columns: {columns}.{hint} Choose with {flag}."
    )


def _is_integer(feature: Any) -> bool:
    return isinstance(feature, Value) and bool(re.fullmatch(r"u?int\d+", feature.dtype))


def _is_float(feature: Any) -> bool:
    return isinstance(feature, Value) and feature.dtype.startswith("float")


def _is_label(feature: Any) -> bool:
    return isinstance(feature, ClassLabel) or _is_integer(feature) or is_text(feature) or feature == Value("bool")


def _is_list_of_labels(feature: Any) -> bool:
    inner = feature.feature if isinstance(feature, (List, LargeList)) else None
    return _is_label(inner) or _is_float(inner)


def _holds_whole_numbers(dataset: Dataset, column: str) -> bool:
    """Whether the values of a float column, at least one, may be the numbers of classes."""
    if not _is_float(dataset.features[column]):
        return False
    values = column_array(dataset, column).cast(pa.float64()).to_numpy(zero_copy_only=False)
    values = values[~np.isnan(values)]  # null becomes NaN too
    return len(values) > 0 and bool((np.isfinite(values) & (values == np.floor(values)) & (values >= -1)).all())

"""The values of a label or caption column, turned into numbers of classes and the names of these."""

import logging
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Value

from ..errors import InputError
from ..runtime.words import listed
from .columns import column_array, is_text


logger = logging.getLogger(__name__)

# Above it some whole numbers have no float64.
_MOST_EXACT = 2**53


def read_labels(dataset: Dataset, column: str, class_names: Sequence[str] | None) -> tuple[np.ndarray, list[str]]:
    """Labels `(N,)` of a column, int64, numbers of classes, and one name per class.

    Class labels keep their numbers. The strings or whole numbers that occur become the classes, in sorted order;
    strings that differ by a space are different. Floats count as whole numbers, booleans as classes False and True.
    With class names of the user, in label order, whole numbers and floats are positions among these, 0 stands for
    False and 1 for True.

    Raises `InputError` where a row has no label, or one that is negative, no whole number or outside the names, or
    where the names don't fit.
    """
    feature = dataset.features[column]
    names_of_user = None if class_names is None else _checked_class_names(class_names)
    values = column_array(dataset, column)
    _check_for_missing(values, column)
    if is_text(feature):
        labels, names = number_strings(values)
        _warn_about_lookalikes(names, column)
    elif feature == Value("bool"):
        labels, names = values.to_numpy(zero_copy_only=False).astype(np.int64), ["False", "True"]
    else:
        labels = _whole_numbers(values, column)
        if isinstance(feature, ClassLabel) and feature.names:
            names = list(map(str, feature.names))  # YAML and JSON take no strings of numpy
        elif names_of_user is not None:
            names = names_of_user
        else:
            labels, names = _numbered(labels, column)
    if names_of_user is not None:
        _check_count(names_of_user, names, column)
    outside = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(outside):
        raise InputError(
            f"{len(outside)} rows of column {column!r} hold a label outside the {len(names)} class names (first: "
            f"label {labels[outside[0]]} at source_index {outside[0]}). Labels must lie in [0, {len(names)}); remove "
            "these rows, or name all classes with --class_names_file."
        )
    return labels.astype(np.int64), names_of_user or names


def known_class_names(feature: Any, column: str, class_names: Sequence[str] | None) -> list[str] | None:
    """The names that the classes of a label column will have, as far as its feature tells; None where rows tell.

    Raises `InputError` where the names of a user, in label order, don't fit.
    """
    names = list(map(str, feature.names)) if isinstance(feature, ClassLabel) and feature.names else None
    if class_names is None:
        return names
    names_of_user = _checked_class_names(class_names)
    if names is not None:
        _check_count(names_of_user, names, column)
    return names_of_user


def read_captions(dataset: Dataset, column: str) -> tuple[np.ndarray, list[str]]:
    """Number the captions of N rows: numbers `(N,)`, int64, and the captions that differ, sorted.

    Raises `InputError` where a row has no caption, or a blank one.
    """
    values = column_array(dataset, column).cast(pa.large_string())
    blank = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(values), ""), True)
    if rows := pc.sum(blank).as_py():
        first = pc.index(blank, True).as_py()
        raise InputError(
            f"{rows} rows of column {column!r} have no caption (first: source_index {first}). Remove or caption them, "
            f"for example with dataset.filter(lambda row: bool((row[{column!r}] or '').strip()))."
        )
    return number_strings(values)


def written_labels(
    values: pa.Array, feature: Any, given: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> pa.Array:
    """New labels of N rows, numbers of classes, as a label column writes them: `(N,)`, of the type of `values`.

    `values` `(N,)` is the column with its feature, `given` `(N,)`, int64, what [`read_labels`] made of it. A class is
    written as the rows write it that have it as given label; class labels by their numbers.

    Raises `InputError` where the column holds other labels than `given`, or no row shows how a new label is written.
    """
    by_class = _values_of_classes(values, given, class_names, is_class_label=isinstance(feature, ClassLabel))
    if not by_class.take(pa.array(given)).equals(values):
        raise InputError(
            "The labels of the dataset are others than the given labels of the scores; pass the dataset that the "
            "selection was made from."
        )
    changed = by_class.take(pa.array(labels))
    if changed.null_count:
        name = class_names[labels[changed.is_null().to_numpy(zero_copy_only=False)][0]]
        raise InputError(
            f"A row has the new label {name!r}, and no row considered has this one in the dataset, which would tell "
            "how its column writes it; change the label of such a row in the dataset itself."
        )
    return changed


def _values_of_classes(
    values: pa.Array, labels: np.ndarray, class_names: Sequence[str], *, is_class_label: bool
) -> pa.Array:
    """What the column writes for each of C classes, `(C,)`; null where no row shows it.

    Texts and numbers are the names of their classes, or, where a user gave names to numbers, the numbers of these;
    where a user gave other names to texts, only rows tell.
    """
    candidates = [pa.array(range(len(class_names)))]
    if not is_class_label:
        candidates.insert(0, pa.array(class_names, pa.string()))
    for candidate in candidates:
        try:
            candidate = candidate.cast(values.type)
        except pa.ArrowException:  # names that are no numbers
            continue
        if is_class_label or candidate.take(pa.array(labels)).equals(values):
            return candidate
    classes, first_rows = np.unique(labels, return_index=True)
    places = np.full(len(class_names), -1)
    places[classes] = first_rows
    return values.take(pa.array(places, mask=places < 0))


def number_strings(values: pa.Array) -> tuple[np.ndarray, list[str]]:
    """The number of each string, int64, among the strings that differ, and these, sorted by code point.

    `np.unique` would sort as many strings as there are rows, pad all to the longest, and drop NULs at their ends.
    """
    encoded = values.cast(pa.large_string()).dictionary_encode()
    strings, numbers = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    order = sorted(range(len(strings)), key=strings.__getitem__)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[numbers], [strings[number] for number in order]


def _check_for_missing(values: pa.Array, column: str) -> None:
    missing = values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    if missing.all():
        raise InputError(
            f"No row has a label in column {column!r}. Name another column with --label_column_name, or one of texts "
            "with --caption_column."
        )
    if missing.any():
        raise InputError(
            f"{missing.sum()} rows have no label in column {column!r} (first: source_index "
            f"{np.flatnonzero(missing)[0]}). Remove or label them."
        )


def _whole_numbers(values: pa.Array, column: str) -> np.ndarray:
    numbers = values.to_numpy(zero_copy_only=False)
    if numbers.dtype.kind == "f":
        numbers = numbers.astype(np.float64)
        fractions = np.flatnonzero((np.floor(numbers) != numbers) | (np.abs(numbers) > _MOST_EXACT))
        if len(fractions):
            raise InputError(
                f"{len(fractions)} rows of column {column!r} hold a label that is no whole number (first: "
                f"{numbers[fractions[0]]:g} at source_index {fractions[0]}). Floats are labels where all are whole "
                "numbers; make classes of measurements first."
            )
        numbers = numbers.astype(np.int64)
    if (numbers == -1).all():
        raise InputError(
            f"All {len(numbers)} rows of column {column!r} hold the label -1, which stands for no label, as in test "
            "splits whose labels are kept secret. Choose another split with --train_split_name, or another column "
            "with --label_column_name."
        )
    return numbers


def _numbered(numbers: np.ndarray, column: str) -> tuple[np.ndarray, list[str]]:
    unique, labels = np.unique(numbers, return_inverse=True)
    if unique[0] < 0:
        negative = np.flatnonzero(labels == 0)
        raise InputError(
            f"{len(negative)} rows of column {column!r} hold the label {unique[0]} (first: source_index "
            f"{negative[0]}). Labels must be 0 or more; remove these rows or label them."
        )
    return labels, [str(value) for value in unique.tolist()]


def _check_count(names_of_user: Sequence[str], names: Sequence[str], column: str) -> None:
    if len(names_of_user) != len(names):
        raise InputError(
            f"Got {len(names_of_user)} class names, but column {column!r} has {len(names)} classes; give one name per "
            "class, in label order (--class_names_file)."
        )


def _checked_class_names(class_names: Any) -> list[str]:
    is_array = getattr(class_names, "ndim", 0) == 1
    is_list = is_array or (isinstance(class_names, Sequence) and not isinstance(class_names, (str, bytes)))
    names = list(class_names) if is_list else []
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"class_names must be a list of strings, one per class in label order, got {class_names!r}.")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(
            f"The class names hold {listed(twice, limit=10)} more than once; give every class a name of its own."
        )
    return list(map(str, names))


def _warn_about_lookalikes(names: Sequence[str], column: str) -> None:
    """Warn about classes whose names look the same: they are most likely one."""
    alike: dict[str, list[str]] = {}
    for name in names:
        words = unicodedata.normalize("NFKC", name).split()
        seen = " ".join("".join(letter for letter in word if unicodedata.category(letter)[0] != "C") for word in words)
        alike.setdefault(seen, []).append(name)
    groups = [group for group in alike.values() if len(group) > 1]
    if groups:
        logger.warning(
            "Labels of column %r differ only by spaces, invisible signs or the way that letters are encoded, such "
            "as %s: they count as different classes. If they are one, clean the column first.",
            column,
            " and ".join(map(repr, groups[0])),
        )

"""A labelled or captioned image dataset: finding its columns, checking its labels, naming its rows.

A row is known everywhere by its `source_index`, its row number in the source split.
"""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Image, Value

from ..errors import InputError
from ..prompts import read_class_names
from ..selection import class_quotas
from .source import DatasetSource, content_id, describe_source, fingerprint_with_files


logger = logging.getLogger(__name__)

# Columns that a subset carries after the source's own.
SUBSET_COLUMNS = ("source_index", "sas", "sds", "selection_score")
_BYTES = (Value("binary"), Value("large_binary"))


@dataclass(frozen=True)
class LabelledImages:
    """A dataset whose images and labels have been found and checked; the label of an image-text pair is its caption.

    Args:
        dataset (`Dataset`): The rows considered, with all columns of the source as they were.
        image_column (`str`), label_column (`str`): Names of the two columns.
        class_names (`list[str]`): One name per class, in label order; or the captions that differ, sorted.
        labels (`np.ndarray` of shape `(num_rows,)`, int64): Given labels, in `[0, len(class_names))`.
        source_index (`np.ndarray` of shape `(num_rows,)`, int64): Row numbers in the source split, increasing.
        source (`DatasetSource`): Where the dataset came from.
        has_captions (`bool`): The labels are captions.
    """

    dataset: Dataset
    image_column: str
    label_column: str
    class_names: list[str]
    labels: np.ndarray
    source_index: np.ndarray
    source: DatasetSource
    has_captions: bool = False


def prepare_dataset(
    dataset: Dataset,
    source: DatasetSource | None = None,
    *,
    image_column_name: str | None = None,
    label_column_name: str | None = None,
    caption_column: str | None = None,
    class_names: Sequence[str] | None = None,
    class_names_file: str | None = None,
    max_samples: int | None = None,
    paths_relative_to: str | None = None,
) -> LabelledImages:
    """Find the image and label columns, check every label, and turn labels into class numbers.

    Args:
        dataset (`Dataset`): A split with an image column and a label column.
        source (`DatasetSource`, *optional*): Where it came from.
        image_column_name, label_column_name (`str`, *optional*):
            The columns; found from the features when there is exactly one candidate each.
        caption_column (`str`, *optional*): Text column of image-text pairs, which have no label column.
        class_names (`Sequence[str]`, *optional*): One name per class, in label order, instead of the dataset's own.
        class_names_file (`str`, *optional*): Text file with one name per line, to the same end.
        max_samples (`int`, *optional*): Consider only this many rows, of every class its share, spread evenly.

    Returns:
        `LabelledImages`

    Raises:
        InputError: Empty dataset, no or several candidate columns, a label that is missing, -1 or outside the names, a caption
            that is missing or blank, or fewer than two classes or captions.
    """
    source = source or describe_source(dataset)
    if len(dataset) == 0:
        raise InputError(f"The dataset {source.name or 'passed'} has no rows; nothing can be selected from it.")
    dataset = _recognise_images(dataset)
    image_column = _find_image_column(dataset, image_column_name)
    if caption_column is None:
        label_column = _find_label_column(dataset, label_column_name, image_column)
    else:
        label_column = _checked_caption_column(dataset, caption_column)
    source = replace(
        source,
        image_column=image_column,
        label_column=label_column,
        content_id=content_id(dataset, image_column, label_column),
        fingerprint=fingerprint_with_files(dataset, image_column, source.fingerprint),
    )
    if reserved := {image_column, label_column} & set(SUBSET_COLUMNS):
        raise InputError(
            f"The column {', '.join(sorted(reserved))} bears the name of a column that a subset gets ({', '.join(SUBSET_COLUMNS)}); "
            "rename it with dataset.rename_column."
        )
    if class_names_file is not None:
        class_names = read_class_names(class_names_file)
    # Of the whole split, so that the classes and their numbers do not depend on `max_samples`.
    if caption_column is None:
        labels, names = _read_labels(dataset, label_column, class_names)
    else:
        labels, names = _read_captions(dataset, caption_column)
    rows = np.arange(len(dataset), dtype=np.int64)
    if max_samples is not None and max_samples < len(dataset):
        rows = _spread_rows(labels if caption_column is None else np.zeros_like(labels), max_samples)
        dataset, labels = dataset.select(rows), labels[rows]
    if caption_column is not None:
        return _with_captions_in_use(
            LabelledImages(dataset, image_column, label_column, names, labels, rows, source, has_captions=True)
        )
    if _is_text(dataset.features[label_column]) and 2 * len(names) > len(labels):
        logger.warning(
            "Column %r has %d different labels in %d rows. If these are captions, name it with --caption_column.",
            label_column, len(names), len(labels),
        )  # fmt: skip
    present = np.bincount(labels, minlength=len(names)) > 0
    if present.sum() < 2:
        raise InputError(
            f"Column {label_column!r} has images of {present.sum()} class only ({names[int(labels[0])]!r}); selection needs "
            "at least two. Pass another --label_column_name."
        )
    if not present.all():
        empty = [name for name, has_images in zip(names, present, strict=True) if not has_images]
        logger.warning("%d classes have no image and take no part: %s", len(empty), _shorten(empty))
    return LabelledImages(dataset, image_column, label_column, names, labels, rows, source)


def _spread_rows(labels: np.ndarray, count: int) -> np.ndarray:
    """Every class's share of `count` rows: the first rows of a dataset that is sorted by class would hold one class."""
    quotas = class_quotas(labels, count, balance="proportional", num_classes=int(labels.max()) + 1)
    rows = [
        np.flatnonzero(labels == label)[np.arange(quota) * size // max(quota, 1)]
        for label, (quota, size) in enumerate(zip(quotas, np.bincount(labels), strict=True))
    ]
    return np.sort(np.concatenate(rows))


def with_image_column_undecoded(images: LabelledImages) -> Dataset:
    """The image column alone, as `{"bytes", "path"}` values: decoding is left to whoever reads it."""
    column = images.image_column
    return images.dataset.with_format(None).select_columns([column]).cast_column(column, Image(decode=False))


def _recognise_images(dataset: Dataset) -> Dataset:
    """Parquet that `datasets` did not write holds images as plain `{"bytes", "path"}` structures."""
    for column, feature in dataset.features.items():
        if isinstance(feature, dict) and set(feature) == {"bytes", "path"} and feature["bytes"] in _BYTES:
            dataset = dataset.cast_column(column, Image())
    return dataset


def _find_image_column(dataset: Dataset, name: str | None) -> str:
    candidates = [column for column, feature in dataset.features.items() if isinstance(feature, Image)]
    if name is None:
        return _the_only(candidates, dataset, flag="--image_column_name", what="an image column")
    if name not in candidates:
        raise InputError(
            f"--image_column_name {name} is not an image column of the dataset. Image columns: "
            f"{', '.join(candidates) or 'none'}; all columns: {', '.join(dataset.column_names)}."
        )
    return name


def _find_label_column(dataset: Dataset, name: str | None, image_column: str) -> str:
    plain = [column for column, feature in dataset.features.items() if _is_plain_label(feature)]
    class_labels = [column for column, feature in dataset.features.items() if isinstance(feature, ClassLabel)]
    if name is None:
        return _the_only(class_labels or plain, dataset, flag="--label_column_name", what="a label column")
    if name not in class_labels + plain:
        raise InputError(
            f"--label_column_name {name} is not a column of class labels, strings or integers. Candidates: "
            f"{', '.join(class_labels + plain) or 'none'}; all columns: {', '.join(dataset.column_names)}."
        )
    return name


def _checked_caption_column(dataset: Dataset, name: str) -> str:
    candidates = [column for column, feature in dataset.features.items() if _is_text(feature)]
    if name not in candidates:
        raise InputError(
            f"--caption_column {name} is not a text column of the dataset. Text columns: {', '.join(candidates) or 'none'}; all "
            f"columns: {', '.join(dataset.column_names)}."
        )
    return name


def _the_only(candidates: list[str], dataset: Dataset, *, flag: str, what: str) -> str:
    if len(candidates) == 1:
        return candidates[0]
    columns = ", ".join(f"{column} ({_feature_name(feature)})" for column, feature in dataset.features.items())
    found = f"found {len(candidates)}: {', '.join(candidates)}" if candidates else "found none"
    raise InputError(f"Expected exactly one candidate for {what}, {found}. Columns: {columns}. Choose with {flag}.")


def _is_plain_label(feature: Any) -> bool:
    return isinstance(feature, Value) and bool(re.fullmatch(r"u?int\d+", feature.dtype)) or _is_text(feature)


def _is_text(feature: Any) -> bool:
    return isinstance(feature, Value) and bool(re.fullmatch(r"(large_)?string(_view)?", feature.dtype))


def _feature_name(feature: Any) -> str:
    return feature.dtype if isinstance(feature, Value) else type(feature).__name__


def _read_labels(dataset: Dataset, column: str, class_names: Sequence[str] | None) -> tuple[np.ndarray, list[str]]:
    feature = dataset.features[column]
    values = dataset.with_format("arrow").select_columns([column])[:].column(column).combine_chunks()
    if values.null_count:
        first = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        raise InputError(
            f"{values.null_count} rows have no label in column {column!r} (first: source_index {first}). Remove or label them."
        )
    if isinstance(feature, ClassLabel):
        labels, names = values.to_numpy(), list(feature.names)
    elif pa.types.is_integer(values.type) and class_names is not None:
        labels, names = values.to_numpy(), list(class_names)
    else:
        unique, labels = np.unique(np.asarray(values.to_pylist()), return_inverse=True)
        names = [str(value) for value in unique]
        if pa.types.is_integer(values.type) and unique[0] < 0:
            negative = np.flatnonzero(labels == 0)
            raise InputError(
                f"{len(negative)} rows of column {column!r} hold the label {unique[0]} (first: source_index {negative[0]}). "
                "Labels must be 0 or more; remove these rows or label them."
            )
    if class_names is not None:
        names = _checked_class_names(class_names, column, len(names))
    outside = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(outside):
        raise InputError(
            f"{len(outside)} rows of column {column!r} hold a label outside the {len(names)} class names (first: label "
            f"{labels[outside[0]]} at source_index {outside[0]}). Labels must lie in [0, {len(names)}); remove these "
            "rows, or name all classes with --class_names_file."
        )
    return labels.astype(np.int64), names


def _read_captions(dataset: Dataset, column: str) -> tuple[np.ndarray, list[str]]:
    """The number of each row's caption among those that differ, and these, sorted."""
    values = dataset.with_format("arrow").select_columns([column])[:].column(column).combine_chunks()
    values = values.cast(pa.large_string())
    blank = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(values), ""), True)
    if rows := pc.sum(blank).as_py():
        first = pc.index(blank, True).as_py()
        raise InputError(
            f"{rows} rows of column {column!r} have no caption (first: source_index {first}). Remove or caption them, for example "
            f"with dataset.filter(lambda row: bool((row[{column!r}] or '').strip()))."
        )
    # numpy would sort as many strings as there are rows, all as long as the longest.
    encoded = values.dictionary_encode()
    captions, numbers = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    order = sorted(range(len(captions)), key=captions.__getitem__)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[numbers], [captions[number] for number in order]


def _with_captions_in_use(images: LabelledImages) -> LabelledImages:
    """Without the captions that no row has any more: each costs a pass through the text tower."""
    used, labels = np.unique(images.labels, return_inverse=True)
    captions = [images.class_names[number] for number in used]
    if len(captions) < 2:
        raise InputError(
            f"All {len(labels)} rows of column {images.label_column!r} have the caption {captions[0][:80]!r}; selection compares "
            "captions, and needs at least two that differ."
        )
    return replace(images, class_names=captions, labels=labels.astype(np.int64))


def _checked_class_names(class_names: Sequence[str], column: str, num_classes: int) -> list[str]:
    names = list(class_names)
    if isinstance(class_names, str) or not all(isinstance(name, str) for name in names):
        raise InputError(f"class_names must be a list of strings, one per class in label order, got {class_names!r}.")
    if len(names) != num_classes:
        raise InputError(
            f"Got {len(names)} class names, but column {column!r} has {num_classes} classes; give one name per class, in "
            "label order (--class_names_file)."
        )
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"The class names hold {_shorten(twice)} more than once; give every class a name of its own.")
    return names


def _shorten(names: Sequence[str], limit: int = 10) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")

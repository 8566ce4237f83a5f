"""A labelled or captioned image dataset: its columns found, its images and labels checked, its rows named.

A row is known everywhere by its `source_index`, its row number in the source split.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Image, IterableDataset, IterableDatasetDict

from ..errors import InputError
from ..runtime.parquet import without_hollow_columns
from ..runtime.words import counted, listed
from ..selection import class_quotas
from .columns import (
    GIVEN_LABEL,
    SUBSET_COLUMNS,
    column_array,
    find_caption_column,
    find_image_column,
    find_label_column,
    is_text,
)
from .decisions import UNDECIDED, DecidedRows, Decision, apply_decisions
from .labels import read_captions, read_labels, written_labels
from .outside_files import with_own_images
from .prompts import read_class_names
from .source import DatasetSource, content_id, describe_source, fingerprint_with_files


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceImages:
    """A dataset whose images have been found, whatever else is known of it."""

    dataset: Dataset  # the rows considered, with all columns of the source as they were
    image_column: str
    source_index: np.ndarray  # (num_rows,), int64, increasing: row numbers in the source split
    source: DatasetSource


@dataclass(frozen=True)
class LabelledImages(SourceImages):
    """A dataset whose images and labels have been found and checked; captions count as labels."""

    label_column: str
    class_names: list[str]  # one per class, in label order; or the captions that differ, sorted
    labels: np.ndarray  # (num_rows,), int64, in [0, len(class_names)); where they were decided about, after that
    has_captions: bool = False  # the labels are captions
    decided: DecidedRows | None = None  # what a person decided about the rows; the columns of `dataset` are as before


def read_images(
    dataset: Dataset | DatasetDict,
    source: DatasetSource | None = None,
    *,
    image_column_name: str | None = None,
    label_column_name: str | None = None,
    caption_column: str | None = None,
    id_column: str | None = None,
    class_names: Sequence[str] | None = None,
    class_names_file: str | None = None,
    max_samples: int | None = None,
    decisions: Mapping[int, Decision] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    allow_outside_files: bool = False,
) -> LabelledImages:
    """Find the image and label columns of a split, check every label, and turn labels into class numbers.

    A column of bytes, of paths or of structures of both that is named as the image column becomes one of `Image()`,
    and a subset has it as that; without names the columns are found from the features when there is exactly one
    candidate each. A caption column, of image-text pairs, takes the place of the label column. `id_column` is noted in
    the source; its values are read by `read_facts`. How labels of each type are read is told at [`read_labels`].

    Class names, one per class in label order, or a text file with one name per line, take the place of the dataset's
    own. `max_samples` considers only so many rows, of every class its share, spread evenly. `decisions` of a person,
    by row, give rows other labels, as [`apply_decisions`] tells. fsspec needs `storage_options` to read images from
    the URL of the source. With `allow_outside_files` rows of a dataset that was loaded by its name may name files
    outside of its own folder.

    Raises `InputError` for an empty dataset, no or several candidate columns, an image that is a URL or lies outside
    of the dataset's folder, a label that is missing, -1, no whole number or outside the names, a caption that is
    missing or blank, fewer than two classes or captions, or decisions that are none about these rows.
    """
    dataset = without_hollow_columns(one_split(dataset))
    source = source or describe_source(dataset)
    if len(dataset) == 0:
        raise InputError(f"The dataset {source.name or 'passed'} has no rows; nothing can be selected from it.")
    image_column = find_image_column(dataset, image_column_name)
    if caption_column is None:
        label_column = find_label_column(dataset, label_column_name, image_column)
    else:
        label_column = find_caption_column(dataset, caption_column, image_column)
    dataset = with_own_images(
        dataset, image_column, source, storage_options=storage_options, allow_outside_files=allow_outside_files
    )
    source = replace(
        source,
        image_column=image_column,
        label_column=label_column,
        id_column=id_column,
        content_id=content_id(dataset, image_column, label_column),
        fingerprint=fingerprint_with_files(dataset, image_column, source.fingerprint),
    )
    check_column_names({image_column, label_column}, () if decisions is None else (GIVEN_LABEL,))
    return label_images(
        dataset,
        source,
        has_captions=caption_column is not None,
        class_names=class_names,
        class_names_file=class_names_file,
        max_samples=max_samples,
        decisions=decisions,
    )


def label_images(
    dataset: Dataset,
    source: DatasetSource,
    *,
    has_captions: bool,
    class_names: Sequence[str] | None = None,
    class_names_file: str | None = None,
    max_samples: int | None = None,
    decisions: Mapping[int, Decision] | None = None,
) -> LabelledImages:
    """The second half of [`read_images`]: turn the labels or captions of rows into numbers, and apply decisions.

    The columns are those that `source` names; that of the images is not looked at. Raises `InputError` as
    [`read_images`] for labels, captions, class names and decisions.
    """
    label_column = source.label_column
    # Labels of the whole split, so that the classes and their numbers do not depend on `max_samples`.
    if has_captions:
        labels, names = read_captions(dataset, label_column)
    else:
        names_of_user = class_names if class_names_file is None else read_class_names(class_names_file)
        labels, names = read_labels(dataset, label_column, names_of_user)
    decided = None
    if decisions is not None:
        decided = apply_decisions(decisions, labels, names, has_captions=has_captions)
    rows = np.arange(len(dataset), dtype=np.int64)
    if max_samples is not None and max_samples < len(dataset):
        rows = _spread_rows(np.zeros_like(labels) if has_captions else labels, max_samples)
        dataset, labels = dataset.select(rows), labels[rows]
        decided = None if decided is None else _of_considered(decided, rows)
    if decided is not None:
        labels = decided.labels
        if not has_captions:
            _check_new_labels(dataset, label_column, decided, names)
    if has_captions:
        labels, names = _captions_in_use(labels, names, label_column)
    else:
        _check_classes(labels, names, label_column, are_texts=is_text(dataset.features[label_column]))
    return LabelledImages(
        dataset,
        source.image_column,
        rows,
        source,
        label_column,
        names,
        labels,
        has_captions=has_captions,
        decided=decided,
    )


def one_split(dataset: Any) -> Dataset:
    """The one split that a caller passed: a `Dataset`, or a `DatasetDict` of one; else raises `InputError`."""
    if isinstance(dataset, DatasetDict) and len(dataset) == 1:
        [dataset] = dataset.values()
    if isinstance(dataset, Dataset):
        return dataset
    got = f"got {type(dataset).__name__}"
    if isinstance(dataset, (IterableDataset, IterableDatasetDict)):
        raise InputError(
            f"Expected a datasets.Dataset, whose rows have numbers, {got}. Load it with streaming=False, or collect "
            "the rows of a split with Dataset.from_list(list(split), features=split.features)."
        )
    if isinstance(dataset, DatasetDict):
        names = list(map(str, dataset))
        if not names:
            raise InputError("Expected a datasets.Dataset, got DatasetDict without a split.")
        raise InputError(
            f"Expected one split of a dataset, {got} of {', '.join(names)}. Pass one of them, such as "
            f"dataset[{names[0]!r}], or load it alone with load_dataset(..., split={names[0]!r})."
        )
    raise InputError(f"Expected a datasets.Dataset with an image and a label or caption column, {got}.")


def with_image_column_undecoded(images: SourceImages) -> Dataset:
    """The image column alone, as `{"bytes", "path"}` values: decoding is left to whoever reads it."""
    column = images.image_column
    return images.dataset.with_format(None).select_columns([column]).cast_column(column, Image(decode=False))


def _check_new_labels(dataset: Dataset, column: str, decided: DecidedRows, names: Sequence[str]) -> None:
    """Refuse new labels that the column can't hold: now, and not when the subset is written."""
    values, feature = column_array(dataset, column), dataset.features[column]
    written_labels(values, feature, decided.given_labels, decided.labels, names)


def check_column_names(columns: set[str], further: Sequence[str]) -> None:
    """Raise `InputError` for columns that bear the name of one that a subset gets, or of one of the further ones."""
    ours = (*SUBSET_COLUMNS, *further)
    if reserved := columns & set(ours):
        raise InputError(
            f"The column {', '.join(sorted(reserved))} bears the name of a column that a subset gets "
            f"({', '.join(ours)}); rename it with dataset.rename_column."
        )


def _of_considered(decided: DecidedRows, rows: np.ndarray) -> DecidedRows:
    """The decisions about the rows considered; those about others are told and have no effect."""
    considered = decided.of_rows(rows)
    before, left = (int(np.count_nonzero(some.decision != UNDECIDED)) for some in (decided, considered))
    if before > left:
        logger.warning(
            "%d of %s are about rows that --max_train_samples leaves out, and have no effect.",
            before - left,
            counted(before, "decision"),
        )
    return considered


def _check_classes(labels: np.ndarray, names: Sequence[str], column: str, *, are_texts: bool) -> None:
    """Refuse rows of one class alone; warn about classes without rows, and about texts that may be captions."""
    if are_texts and 2 * len(names) > len(labels):
        logger.warning(
            "Column %r has %d different labels in %d rows. If these are captions, name it with --caption_column.",
            column,
            len(names),
            len(labels),
        )
    present = np.bincount(labels, minlength=len(names)) > 0
    if present.sum() < 2:
        raise InputError(
            f"Column {column!r} has images of {present.sum()} class only ({names[int(labels[0])]!r}); selection needs "
            "at least two. Pass another --label_column_name, or for images with texts instead of classes "
            "--caption_column."
        )
    if not present.all():
        empty = [name for name, has_images in zip(names, present, strict=True) if not has_images]
        told = "class has no image and takes no part" if len(empty) == 1 else "classes have no image and take no part"
        logger.warning("%d %s: %s", len(empty), told, listed(empty, limit=10))


def _spread_rows(labels: np.ndarray, count: int) -> np.ndarray:
    """Numbers of `count` rows, sorted, of every class its share: the first rows of a sorted dataset hold one class."""
    quotas = class_quotas(labels, count, balance="proportional", num_classes=int(labels.max()) + 1)
    rows = [
        np.flatnonzero(labels == label)[np.arange(quota) * size // max(quota, 1)]
        for label, (quota, size) in enumerate(zip(quotas, np.bincount(labels), strict=True))
    ]
    return np.sort(np.concatenate(rows))


def _captions_in_use(labels: np.ndarray, captions: Sequence[str], column: str) -> tuple[np.ndarray, list[str]]:
    """Without the captions that no row has any more: each costs a pass through the text tower."""
    used, labels = np.unique(labels, return_inverse=True)
    if len(used) < 2:
        raise InputError(
            f"All {len(labels)} rows of column {column!r} have the caption {captions[used[0]][:80]!r}; selection "
            "compares captions, and needs at least two that differ."
        )
    return labels.astype(np.int64), [captions[number] for number in used]

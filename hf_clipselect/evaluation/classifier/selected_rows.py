"""What a selection kept and what it could choose from: both as rows of the dataset that it was made from.

Shapes: N rows of the source split.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from datasets import Dataset

from ...data import GIVEN_LABEL, LabelledImages, read_images
from ...data.source import DatasetSource, describe_source, has_content_of, load_source
from ...errors import InputError
from ...results.run_folder import RunFolder
from ...results.scores_table import column_values
from ...results.selection_result import SelectionResult
from ...runtime.hub_ids import EMBEDDED_PREFIX, is_hub_id, lasting_name
from ...selection import config_name, is_count
from .set_names import SET_FLAGS, set_name_parts
from .training_arguments import ClassifierArguments


@dataclass(frozen=True)
class SourcePlace:
    """Where a dataset is found again.

    Args:
        name (`str`), config_name (`str`, *optional*), split (`str`), revision (`str`, *optional*), data_dir (`str`,
            *optional*), data_files (`list[str]`, *optional*), allow_unread_files (`bool`): As [`load_source`] takes
            them.
        allow_outside_files (`bool`): Rows may name files outside of the dataset's own folder.
    """

    name: str
    config_name: str | None
    split: str
    revision: str | None = None
    data_dir: str | None = None
    data_files: list[str] | None = None
    allow_unread_files: bool = False
    allow_outside_files: bool = False

    def load(self, split: str) -> tuple[Dataset, DatasetSource]:
        """One of its splits, as [`load_source`] gives it."""
        return load_source(
            self.name,
            self.config_name,
            split,
            revision=self.revision,
            data_dir=self.data_dir,
            data_files=self.data_files,
            allow_unread_files=self.allow_unread_files,
            flags=SET_FLAGS,
        )


@dataclass(frozen=True)
class SelectedRows:
    """Rows of the source of a selection.

    Args:
        selected ([`LabelledImages`]): What the selection kept.
        candidates ([`LabelledImages`]): What it could choose from: rows that it considered, whose image could be read
            and that its user did not drop by `must_drop`. Classes are numbered as in `selected`.
        place ([`SourcePlace`]): Where they came from.
        fingerprint (`str`): Of the split as `datasets` loads it.
    """

    selected: LabelledImages
    candidates: LabelledImages
    place: SourcePlace
    fingerprint: str


def load_selected_rows(arguments: ClassifierArguments) -> SelectedRows:
    """The rows of the selection that `dataset_name` names, taken from the dataset that it was made from.

    The source is what `source_dataset` names. Without it, it is loaded as selection.json tells, at the same commit,
    where it came from the Hub or the package, and for the output folder of a run as its config.yaml tells. That it is
    the same is known by the number of rows, all labels and some images. Where a person decided about labels, all rows
    have the labels after that.

    Args:
        arguments ([`ClassifierArguments`]): The selection, its size and its source.

    Returns:
        [`SelectedRows`]

    Raises:
        InputError: There is no such selection, it has no such size, it was made by captions, or its source can't be
            loaded or is another dataset.
    """
    name = arguments.dataset_name
    result = SelectionResult.from_folder(name) if Path(name).is_dir() else SelectionResult.from_hub(name)
    if result.report.get("captions"):
        raise InputError(
            f"The selection {name} is of image-text pairs, which have no classes; --compare_with needs a selection by "
            "labels."
        )
    result = _of_size(result, arguments)
    place, known = _find_source(result.source, arguments), result.source
    try:
        dataset, source = place.load(place.split)
    except InputError as error:
        raise InputError(
            f"The dataset that {name} was selected from can't be loaded: {error} Name it with --source_dataset."
        ) from None
    images = read_images(
        known.cut(dataset),
        source,
        image_column_name=known.image_column or arguments.image_column_name,
        label_column_name=known.label_column or arguments.label_column_name,
        allow_outside_files=arguments.allow_outside_files or place.allow_outside_files,
    )
    _check_same(images, known, arguments)
    images = _with_decided_labels(images, result.scores)
    rows = column_values(result.scores, "source_index")
    selected = pick_rows(images, result.selected)
    told = describe_source(selected.dataset, name=lasting_name(name), config_name=arguments.dataset_config_name)
    candidates = pick_rows(images, rows[_could_be_kept(result.scores)])
    return SelectedRows(replace(selected, source=told), candidates, place, source.fingerprint)


def pick_rows(images: LabelledImages, rows: np.ndarray) -> LabelledImages:
    """Some rows of a dataset; all classes keep their numbers.

    Args:
        images ([`LabelledImages`]): The dataset.
        rows (`np.ndarray` of shape `(number of rows,)`, int64): Positions in `images`, increasing.

    Returns:
        [`LabelledImages`]
    """
    return replace(
        images,
        dataset=images.dataset.select(rows),
        labels=images.labels[rows],
        source_index=images.source_index[rows],
    )


def _with_decided_labels(images: LabelledImages, scores: Dataset) -> LabelledImages:
    """The rows with the labels that a person gave them, where the selection was made with such decisions."""
    if GIVEN_LABEL not in scores.column_names:
        return images
    rows, given, now = (column_values(scores, name) for name in ("source_index", GIVEN_LABEL, "label"))
    numbers = np.arange(len(scores.features["label"].names))  # a class without rows may have no number here
    numbers[given] = images.labels[rows]
    labels = images.labels.copy()
    labels[rows] = numbers[now]
    return replace(images, labels=labels)


def _could_be_kept(scores: Dataset) -> np.ndarray:
    """Which rows of a scores table some selection from it might keep, bool: dropped rows have scores like others."""
    readable = ~np.isnan(column_values(scores, "sas"))
    return readable & ~column_values(scores, "must_drop") if "must_drop" in scores.column_names else readable


def _of_size(result: SelectionResult, arguments: ClassifierArguments) -> SelectionResult:
    if arguments.selection_ratio is not None:
        return result.at(arguments.selection_ratio)
    sizes = {config_name(size): size for size in result.ratios}
    name = arguments.dataset_config_name or next(iter(sizes))
    if name not in sizes:
        raise InputError(
            f"--dataset_config_name {name} is no subset of {arguments.dataset_name}, which has {', '.join(sizes)}; "
            "any other share is found by --selection_ratio."
        )
    size = sizes[name]
    return result.at(count=size) if is_count(size) else result.at(size)


def _find_source(source: DatasetSource, arguments: ClassifierArguments) -> SourcePlace:
    split = source.split or arguments.train_split_name
    if arguments.source_dataset is not None:
        return SourcePlace(*set_name_parts("--source_dataset", arguments.source_dataset, split))
    if source.name.startswith(EMBEDDED_PREFIX) or is_hub_id(source.name, revision=source.revision):
        return SourcePlace(source.name, source.config_name, split, source.revision, source.data_dir, source.data_files)
    folder = Path(arguments.dataset_name)
    for beside in (folder, folder.resolve().parent):
        given = RunFolder(beside).read_config().get("arguments")
        if isinstance(given, dict) and (given.get("dataset_name") or given.get("data_files")):
            return SourcePlace(
                given.get("dataset_name") or "",
                given.get("dataset_config_name"),
                given.get("train_split_name") or split,
                data_dir=given.get("data_dir"),
                data_files=given.get("data_files"),
                allow_unread_files=bool(given.get("allow_unread_files")),
                allow_outside_files=bool(given.get("allow_outside_files")),
            )
    what = f"{source.name}, which is not on the Hub" if source.name else "a dataset in memory"
    raise InputError(
        f"The selection {arguments.dataset_name} was made from {what}, and no config.yaml of the run lies beside it; "
        "name the dataset with --source_dataset, a folder or Hub id, also as NAME:SPLIT or NAME:CONFIG:SPLIT."
    )


def _check_same(found: LabelledImages, known: DatasetSource, arguments: ClassifierArguments) -> None:
    """Refuse another dataset than the selection was made from: its row numbers would name other rows."""
    columns = replace(known, image_column=found.image_column, label_column=found.label_column)
    if len(found.labels) != known.num_rows:
        differs = f"it has {len(found.labels):,} rows, and the selection was made from {known.num_rows:,}"
    elif known.content_id and not has_content_of(found.dataset, columns):
        differs = "labels or images differ"
    else:
        return
    raise InputError(
        f"{found.source.describe()} is not the dataset that {arguments.dataset_name} was selected from: {differs}. "
        "Name that one, with its rows in their order, with --source_dataset, or select anew from this one."
    )

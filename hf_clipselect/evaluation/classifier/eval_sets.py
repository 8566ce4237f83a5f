"""The rows that a classifier learns and those that it is tested on, with labels that mean the same.

Shapes: N rows, C classes that the model knows, L right classes of a row.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, List, Value

from ...data import LabelledImages, read_images
from ...data.image_values import can_become_images, is_image
from ...data.outside_files import with_own_images
from ...data.places import SourceFlags
from ...data.source import DatasetSource, describe_source, load_source
from ...errors import InputError
from ...results.pruned import load_pruned
from ...runtime.hub_ids import hide_paths, lasting_name
from .selected_rows import SourcePlace
from .set_names import SET_FLAGS, set_name_parts
from .training_arguments import ClassifierArguments


logger = logging.getLogger(__name__)


_TRAIN_FLAGS = SourceFlags(accept=None)


@dataclass(frozen=True)
class EvalSet:
    """Rows to test on.

    Args:
        name (`str`): As it was asked for.
        source (`DatasetSource`): Where they came from.
        dataset (`Dataset`): The rows.
        image_column (`str`): Column of the images.
        targets (`np.ndarray` of shape `(N, L)`, int64): Right classes of each row, as the model numbers them; -1 where
            a place is not used.
        classes (`np.ndarray` of shape `(number of classes,)`, int64): Classes of the set, among which the model
            chooses.
    """

    name: str
    source: DatasetSource
    dataset: Dataset
    image_column: str
    targets: np.ndarray
    classes: np.ndarray


def load_train_rows(arguments: ClassifierArguments) -> LabelledImages:
    """The rows to learn.

    Args:
        arguments ([`ClassifierArguments`]): Their name.

    Returns:
        `LabelledImages`: Classes without a row keep their number.

    Raises:
        InputError: They can't be loaded, or their columns or labels do not fit.
    """
    if arguments.selection_ratio is None:
        name = Path(arguments.dataset_name)
        if (name / "subset" / "selection.json").is_file():
            raise InputError(
                f"--dataset_name {name} is the folder of a selection; train on what it kept with --dataset_name "
                f"{name / 'subset'} --dataset_config_name ratio_30, or with --selection_ratio."
            )
        dataset, source = load_source(
            arguments.dataset_name, arguments.dataset_config_name, arguments.train_split_name, flags=_TRAIN_FLAGS
        )
    else:
        # The rows of a ratio that was not written as images are found by its scores.
        dataset = load_pruned(arguments.dataset_name, ratio=arguments.selection_ratio)
        source = describe_source(dataset, name=lasting_name(arguments.dataset_name))
    return read_images(
        dataset,
        source,
        image_column_name=arguments.image_column_name,
        label_column_name=arguments.label_column_name,
        max_samples=arguments.max_train_samples,
        allow_outside_files=arguments.allow_outside_files,
    )


def load_eval_sets(
    arguments: ClassifierArguments, train: LabelledImages, place: SourcePlace | None = None
) -> list[EvalSet]:
    """The sets to test on, before anything is trained.

    Labels are matched by the names of their classes. A set that has some of the classes only, as ImageNet-A and
    ImageNet-R have 200 of 1,000, is tested among these: the model may not answer with another. Labels without names
    count as the model's own numbers. A row may have several right classes, as in ImageNet-Hard: a list of integers.

    Args:
        arguments ([`ClassifierArguments`]): Their names.
        train (`LabelledImages`): What the model learns.
        place ([`SourcePlace`], *optional*): The dataset that is tested on where the arguments name none; default
            the one that is trained on.

    Returns:
        `list[EvalSet]`

    Raises:
        InputError: One can't be loaded, has a class that the model does not learn, or would be called like another in
            the results.
    """
    if not arguments.eval_dataset:
        split = arguments.eval_split_name
        try:
            if place is not None:
                name, loaded = f"{place.name}:{split}", place.load(split)
            else:
                flags = replace(_TRAIN_FLAGS, split="--eval_split_name")
                name = f"{arguments.dataset_name}:{split}"
                loaded = load_source(arguments.dataset_name, arguments.dataset_config_name, split, flags=flags)
        except InputError as error:
            raise InputError(
                f"There is nothing to test on: {error} A subset has its train split alone: name sets with "
                "--eval_dataset, each NAME:SPLIT, such as that it was selected from."
            ) from None
        return [_matched(name, *loaded, arguments, train)]
    told = [hide_paths(name) for name in arguments.eval_dataset]
    for number, name in enumerate(told):
        if name in told[:number]:
            raise InputError(
                f"--eval_dataset names two sets whose results would both be called {name}: "
                f"{', '.join(arguments.eval_dataset)}. Name each set once, and rename folders whose last part is the "
                "same."
            )
    return [_load_set(name, arguments, train) for name in arguments.eval_dataset]


def _load_set(name: str, arguments: ClassifierArguments, train: LabelledImages) -> EvalSet:
    parts = set_name_parts("--eval_dataset", name, arguments.eval_split_name)
    try:
        loaded = load_source(*parts, flags=SET_FLAGS)
    except InputError as error:
        raise InputError(f"--eval_dataset {name} can't be loaded: {error}") from None
    return _matched(name, *loaded, arguments, train)


def _matched(
    name: str, dataset: Dataset, source: DatasetSource, arguments: ClassifierArguments, train: LabelledImages
) -> EvalSet:
    if arguments.max_eval_samples is not None and arguments.max_eval_samples < len(dataset):
        count = arguments.max_eval_samples
        dataset = dataset.select(np.arange(count) * len(dataset) // count)
    lists = [column for column, feature in dataset.features.items() if _is_class_list(feature)]
    chosen = arguments.label_column_name if arguments.label_column_name in dataset.column_names else None
    if chosen in lists or (chosen is None and len(lists) == 1 and not _has_class_label(dataset)):
        image_column, label_column = _only_image_column(name, dataset, arguments), chosen or lists[0]
        dataset = with_own_images(dataset, image_column, source, allow_outside_files=arguments.allow_outside_files)
        values, feature = dataset.with_format(None)[label_column][:], dataset.features[label_column].feature
    else:
        image_column_name = arguments.image_column_name
        try:
            images = read_images(
                dataset,
                source,
                image_column_name=image_column_name if image_column_name in dataset.column_names else None,
                label_column_name=chosen,
                allow_outside_files=arguments.allow_outside_files,
            )
        except InputError as error:
            raise InputError(f"--eval_dataset {name} can't be tested on: {error}") from None
        image_column, label_column, dataset = images.image_column, images.label_column, images.dataset
        values, feature = images.labels[:, None].tolist(), dataset.features[label_column]
        if not isinstance(feature, ClassLabel):
            # Integers keep their values, where read_images numbers those that occur.
            feature = _named(feature, images)
            if not isinstance(feature, ClassLabel):
                values = [[int(value)] for value in dataset.with_format(None)[label_column]]
    number = _numbers(name, feature, train)
    known = [[number.get(value, -1) for value in row] for row in values]
    unknown = [row for row, numbers in enumerate(known) if not numbers or -1 in numbers]
    if unknown:
        raise InputError(
            f"Row {unknown[0]} of --eval_dataset {name} has the label {values[unknown[0]]}, which is none of the "
            f"{len(train.class_names)} classes that the model learns."
        )
    targets = np.full((len(known), max(map(len, known))), -1, dtype=np.int64)
    for row, numbers in enumerate(known):
        targets[row, : len(numbers)] = numbers
    classes = np.array(sorted(set(number.values())), dtype=np.int64)
    if len(classes) < len(train.class_names):
        logger.info("%s has %d of %d classes, and is tested among these", name, len(classes), len(train.class_names))
    return EvalSet(name, source, dataset, image_column, targets, classes)


def _numbers(name: str, feature: ClassLabel | Value, train: LabelledImages) -> dict[int, int]:
    """What the model calls each label of the set."""
    if not isinstance(feature, ClassLabel):
        # Where the model was trained on integers too, they are the names of its classes.
        integers = all(class_name.isdecimal() for class_name in train.class_names)
        return {int(name) if integers else number: number for number, name in enumerate(train.class_names)}
    of_model = {class_name: number for number, class_name in enumerate(train.class_names)}
    unknown = [class_name for class_name in feature.names if class_name not in of_model]
    if unknown:
        raise InputError(
            f"--eval_dataset {name} has {len(unknown)} classes that the model does not learn, such as {unknown[0]!r}; "
            f"it learns {train.class_names[0]!r}, {train.class_names[1]!r}, ... ({len(of_model)} classes). Classes "
            "are matched by name; use dataset.cast_column to rename them."
        )
    return {label: of_model[class_name] for label, class_name in enumerate(feature.names)}


def _named(feature: Value, images: LabelledImages) -> ClassLabel | Value:
    """Strings are names of classes."""
    return ClassLabel(names=images.class_names) if "string" in feature.dtype else feature


def _is_class_list(feature: object) -> bool:
    inner = feature.feature if isinstance(feature, List) else None
    return isinstance(inner, ClassLabel) or (isinstance(inner, Value) and "int" in inner.dtype)


def _has_class_label(dataset: Dataset) -> bool:
    return any(isinstance(feature, ClassLabel) for feature in dataset.features.values())


def _only_image_column(name: str, dataset: Dataset, arguments: ClassifierArguments) -> str:
    columns = [column for column, feature in dataset.features.items() if is_image(feature)]
    chosen = arguments.image_column_name
    if chosen is not None and can_become_images(dataset.features.get(chosen)):
        return chosen
    if len(columns) != 1:
        raise InputError(
            f"--eval_dataset {name} has {len(columns)} image columns ({', '.join(columns) or 'none'}); choose with "
            "--image_column_name."
        )
    return columns[0]

"""A reference: images that rows should not be copies of, such as the test split of the same dataset."""

from dataclasses import replace

import numpy as np
from datasets import Dataset, DatasetDict

from ..config.arguments import DataArguments
from ..errors import InputError
from .columns import find_image_column
from .labelled_images import LabelledImages, SourceImages, one_split
from .outside_files import with_own_images
from .places import SourceFlags, read_storage_options
from .source import DatasetSource, describe_source, fingerprint_with_files, load_source


_FLAGS = SourceFlags(name="--reference_dataset_name", split="--reference_split")


def read_reference(
    data: DataArguments, images: LabelledImages, passed: Dataset | DatasetDict | None = None
) -> SourceImages | None:
    """The images to compare those of a dataset with: those passed, or of the split that the arguments name; or none.

    A split of the same dataset is loaded as the dataset was. The image column is the one of the same name, or else the
    only one. Raises `InputError` where there is no such dataset or split, it has no rows or not one image column, or
    it is the split itself.
    """
    if passed is None and data.reference_split is None:
        return None
    source: DatasetSource | None = None
    if passed is None:
        passed, source = _load(data, str(data.reference_split))
    dataset = one_split(passed)
    source = source or describe_source(dataset)
    if len(dataset) == 0:
        raise InputError(f"The reference, {reference_words(source)}, has no rows; name another --reference_split.")
    column = images.image_column
    column = find_image_column(dataset, column if column in dataset.column_names else None)
    is_same = data.reference_dataset_name is None
    dataset = with_own_images(
        dataset,
        column,
        source,
        storage_options=read_storage_options(data.storage_options) if is_same else {},
        allow_outside_files=data.allow_outside_files,
    )
    source = replace(
        source, image_column=column, fingerprint=fingerprint_with_files(dataset, column, source.fingerprint)
    )
    if source.fingerprint == images.source.fingerprint:
        raise InputError(
            "The reference is the split that is selected from, whose rows are all copies of themselves; give another "
            "one, such as the test split, as --reference_split."
        )
    return SourceImages(dataset, column, np.arange(len(dataset)), source)


def reference_words(source: DatasetSource) -> str:
    """A reference in words, to stand in a sentence: "me/digits (split test)"."""
    return replace(source, name=source.name or "a dataset that was passed").describe()


def _load(data: DataArguments, split: str) -> tuple[Dataset, DatasetSource]:
    if data.reference_dataset_name is not None:
        return load_source(
            data.reference_dataset_name, split=split, allow_unread_files=data.allow_unread_files, flags=_FLAGS
        )
    return load_source(
        data.dataset_name,
        data.dataset_config_name,
        split,
        revision=data.dataset_revision,
        data_files=data.data_files,
        data_dir=data.data_dir,
        storage_options=data.storage_options,
        allow_unread_files=data.allow_unread_files,
        flags=SourceFlags(split="--reference_split"),
    )

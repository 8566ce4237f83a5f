"""The images behind a saved selection: the dataset that it was made from, found by its recorded name or by another."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..data.columns import find_image_column
from ..data.outside_files import with_own_images
from ..data.source import DatasetSource, has_content_of, load_source
from ..errors import InputError
from ..runtime.hub_ids import EMBEDDED_PREFIX, is_hub_id
from .pruned import load_source_of
from .run_folder import RunFolder
from .selection_result import SelectionResult


def source_dataset(
    result: SelectionResult,
    place: str,
    *,
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    train_split_name: str | None = None,
    allow_outside_files: bool = False,
    token: str | None = None,
) -> Dataset:
    """The dataset that the rows of a selection count in, with its image column as `datasets.Image`.

    `place` is the folder or repository of the selection. The other arguments are the flags of the same names, None for
    what is recorded there, and a token of the Hub.

    Raises `InputError` where the selection has no images, the dataset can't be loaded by the name, or is another one.
    """
    source = result.source
    if not source.image_column:
        raise InputError(f"The selection in {place} was made from embeddings.")
    config_name, split = dataset_config_name or source.config_name, train_split_name or source.split or "train"
    if dataset_name:
        dataset, loaded = load_source(dataset_name, config_name, split, token=token)
    else:
        dataset, loaded = _load_again(replace(source, config_name=config_name, split=split), place, token)
    dataset = with_own_images(
        source.cut(dataset), source.image_column, loaded, allow_outside_files=allow_outside_files
    )
    _check_same(dataset, source)
    return dataset


def reference_dataset(result: SelectionResult, place: str, token: str | None = None) -> Dataset:
    """The images that a run looked for copies of, such as the test split, in the image column of the selection.

    Raises `InputError` where the run had no reference, or it can't be loaded by the recorded names.
    """
    of_run = _arguments_of_run(place)
    arguments = of_run or result.report.get("arguments", {})
    split, name = str(arguments.get("reference_split") or ""), str(arguments.get("reference_dataset_name") or "")
    if not split:
        raise InputError(f"The selection in {place} names no reference that can be loaded.")
    if not name:
        dataset, source = _load_again(replace(result.source, split=split, first_rows=None), place, token)
    elif of_run or name.startswith(EMBEDDED_PREFIX) or is_hub_id(name):
        dataset, source = load_source(name, split=split, token=token)
    else:
        raise InputError(
            f"The selection in {place} names the reference {name}, which is no dataset on the Hub; files and URLs "
            "that somebody else names are not opened."
        )
    wanted = result.source.image_column
    column = find_image_column(dataset, wanted if wanted in dataset.column_names else None)
    dataset = with_own_images(dataset, column, source)
    return dataset if column == wanted else dataset.rename_column(column, wanted)


def _load_again(source: DatasetSource, place: str, token: str | None) -> tuple[Dataset, DatasetSource]:
    """Load a split of the dataset that a selection was made from, as the run did, and tell where it came from."""
    # selection.json hides where a folder or file lies; config.yaml, which stays on the machine, tells it.
    recorded = (RunFolder(Path(place)).read_config().get("source") or {}).get("name") or ""
    arguments = _arguments_of_run(place)
    name, data_dir, data_files = (arguments.get(key) for key in ("dataset_name", "data_dir", "data_files"))
    if not (Path(recorded).is_absolute() and (data_files or Path(recorded).exists())):
        return load_source_of(source, place, token), source
    if data_files:  # which the recorded name was made from
        name = name if name and Path(name).is_dir() else ""
    elif name != recorded:
        name, data_dir = recorded, None
    return load_source(
        name,
        source.config_name,
        source.split or "train",
        data_dir=data_dir,
        data_files=data_files,
        allow_unread_files=bool(arguments.get("allow_unread_files")),
        token=token,
    )


def _arguments_of_run(place: str) -> dict[str, Any]:
    """The flags of the run in a folder; empty for a repository, or a folder that a run did not write."""
    arguments = RunFolder(Path(place)).read_config().get("arguments")
    return arguments if isinstance(arguments, dict) else {}


def _check_same(dataset: Dataset, source: DatasetSource) -> None:
    """Refuse a dataset in which the row numbers mean other images."""
    columns = source.image_column, source.label_column
    known = len(dataset) == source.num_rows and set(columns) <= set(dataset.column_names)
    if not known or not has_content_of(dataset, source):
        raise InputError(
            f"The dataset of {len(dataset)} rows is not the one that the selection was made from: "
            f"{source.describe()}, of {source.num_rows} rows, with its images in {columns[0]!r} and its labels in "
            f"{columns[1]!r}."
        )

"""The images behind a saved selection: the dataset that it was made from, found by its recorded name or by another."""

from pathlib import Path

from datasets import Dataset

from ..data.columns import find_image_column
from ..data.outside_files import with_own_images
from ..data.source import DatasetSource, content_id, load_source
from ..errors import InputError
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
    # selection.json hides where a folder or file lies; config.yaml, which stays on the machine, tells it.
    recorded = (RunFolder(Path(place)).read_config().get("source") or {}).get("name") or ""
    name = dataset_name or (recorded if Path(recorded).exists() else "")
    if name:
        config_name = dataset_config_name or source.config_name
        dataset, loaded = load_source(name, config_name, train_split_name or source.split or "train", token=token)
    else:
        dataset, loaded = load_source_of(source, place, token), source
    dataset = with_own_images(dataset, source.image_column, loaded, allow_outside_files=allow_outside_files)
    _check_same(dataset, source)
    return dataset


def reference_dataset(result: SelectionResult, place: str, token: str | None = None) -> Dataset:
    """The images that a run looked for copies of, such as the test split, in the image column of the selection.

    Raises `InputError` where the run had no reference, or it can't be loaded by the recorded names.
    """
    recorded = RunFolder(Path(place)).read_config().get("arguments")
    arguments = recorded if isinstance(recorded, dict) else result.report.get("arguments", {})
    split = arguments.get("reference_split")
    if not split:
        raise InputError(f"The selection in {place} names no reference that can be loaded.")
    name = arguments.get("reference_dataset_name")
    config_name = None if name else arguments.get("dataset_config_name")
    dataset, source = load_source(name or arguments.get("dataset_name") or "", config_name, split, token=token)
    wanted = result.source.image_column
    column = find_image_column(dataset, wanted if wanted in dataset.column_names else None)
    dataset = with_own_images(dataset, column, source)
    return dataset if column == wanted else dataset.rename_column(column, wanted)


def _check_same(dataset: Dataset, source: DatasetSource) -> None:
    """Refuse a dataset in which the row numbers mean other images."""
    columns = source.image_column, source.label_column
    known = len(dataset) == source.num_rows and set(columns) <= set(dataset.column_names)
    if not known or content_id(dataset, *columns) != source.content_id:
        raise InputError(
            f"The dataset of {len(dataset)} rows is not the one that the selection was made from: "
            f"{source.describe()}, of {source.num_rows} rows, with its images in {columns[0]!r} and its labels in "
            f"{columns[1]!r}."
        )

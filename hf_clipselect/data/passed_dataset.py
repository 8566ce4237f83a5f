"""What callers pass as a dataset."""

from typing import Any

from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from ..errors import InputError


def one_split(dataset: Any) -> Dataset:
    """The one split that was passed.

    Args:
        dataset (`Dataset` or `DatasetDict`): A split, or a dictionary that holds one alone.

    Returns:
        `Dataset`

    Raises:
        InputError: It is anything else, or holds several splits.
    """
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

"""A dataset with wrong labels in a known number of rows, which it remembers."""

import numpy as np
from datasets import ClassLabel, Dataset, Features, Value, concatenate_datasets

from ...errors import InputError
from .image_rows import check_column_is_free
from .label_noise import NoiseKind, add_label_noise


IS_NOISY_COLUMN = "is_noisy"
CLEAN_LABEL_COLUMN = "clean_label"


def corrupt_labels(
    dataset: Dataset,
    *,
    label_column: str = "label",
    rate: float | None = None,
    seed: int,
    kind: NoiseKind = "symmetric",
    transition_matrix: np.ndarray | None = None,
) -> Dataset:
    """Give a fraction of the rows of a dataset another class, and note which.

    Only the labels are read and written; images and other columns stay as they are stored.

    Args:
        dataset (`Dataset`): A split with a label column of the type `ClassLabel`.
        label_column (`str`, *optional*, defaults to `"label"`): Its name.
        rate (`float`, *optional*), seed (`int`), kind (`str`, *optional*), transition_matrix (`np.ndarray`,
            *optional*): As in [`add_label_noise`], which gives the same labels.

    Returns:
        `Dataset`: The same rows in the same order, with two more columns: `is_noisy` (bool), and `clean_label`, the
        class before.

    Raises:
        InputError: The column holds no `ClassLabel`, a label is missing, the dataset has a column `is_noisy` or
            `clean_label`, or as for [`add_label_noise`].

    Example:

    ```python
    noisy = corrupt_labels(load_digits_dataset("train"), rate=0.2, seed=0)
    print(sum(noisy["is_noisy"]))  # 259
    ```
    """
    feature = dataset.features.get(label_column)
    if not isinstance(feature, ClassLabel):
        candidates = [column for column, other in dataset.features.items() if isinstance(other, ClassLabel)]
        raise InputError(
            f"{label_column!r} is not a column of class labels; choose label_column from: "
            f"{', '.join(candidates) or 'none'} (all columns: {', '.join(dataset.column_names)}; "
            "dataset.class_encode_column(column) makes one)."
        )
    for column in (IS_NOISY_COLUMN, CLEAN_LABEL_COLUMN):
        check_column_is_free(dataset, column, "the labels before they were made wrong")
    plain = dataset.with_format(None)
    labels = plain[label_column][:]
    if None in labels:
        raise InputError(
            f"Row {labels.index(None)} has no label in column {label_column!r}; remove or label it first."
        )
    noisy = add_label_noise(
        np.array(labels, dtype=np.int64),
        feature.num_classes,
        rate=rate,
        seed=seed,
        kind=kind,
        transition_matrix=transition_matrix,
    )
    features = Features({label_column: feature, IS_NOISY_COLUMN: Value("bool"), CLEAN_LABEL_COLUMN: feature})
    # map() writes every column anew that it is given, so it is given the labels alone.
    changed = plain.select_columns([label_column]).map(
        _with_noise,
        with_indices=True,
        batched=True,
        features=features,
        fn_kwargs={"label_column": label_column, "noisy": noisy},
        desc="Making labels wrong",
    )
    others = plain.remove_columns(label_column)
    joined = concatenate_datasets([others, changed], axis=1) if others.column_names else changed
    return joined.select_columns([*dataset.column_names, IS_NOISY_COLUMN, CLEAN_LABEL_COLUMN])


def _with_noise(
    batch: dict[str, list[int]], rows: list[int], *, label_column: str, noisy: np.ndarray
) -> dict[str, list]:
    clean, given = batch[label_column], noisy[rows]
    return {
        label_column: given.tolist(),
        IS_NOISY_COLUMN: (given != np.array(clean)).tolist(),
        CLEAN_LABEL_COLUMN: clean,
    }

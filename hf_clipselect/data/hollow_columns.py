"""Columns of structures without a field, which a subset can't hold."""

import logging
from typing import Any

from datasets import Dataset

from ..errors import InputError


logger = logging.getLogger(__name__)


def without_hollow_columns(dataset: Dataset) -> Dataset:
    """Leave out columns of structures without a field, as `{}` in JSON makes them: Parquet can't hold these.

    Args:
        dataset (`Dataset`): Any rows.

    Returns:
        `Dataset`: The same where there is no such column.

    Raises:
        InputError: Such a structure lies inside of one that holds more.
    """
    hollow = {name: _has_leaf(feature) for name, feature in dataset.features.items() if _is_hollow(feature)}
    if mixed := [name for name, has_more in hollow.items() if has_more]:
        raise InputError(
            f"Column {mixed[0]!r} has an empty structure ({{}}) inside of another one, which Parquet can't hold; leave the column out "
            f"with dataset.remove_columns({mixed[0]!r}), or mend the files."
        )
    if not hollow:
        return dataset
    logger.warning("Columns that hold empty structures ({}) alone are left out of the subset: %s.", ", ".join(hollow))
    return dataset.remove_columns(list(hollow))


def _is_hollow(feature: Any) -> bool:
    return feature == {} or any(_is_hollow(inner) for inner in _inside(feature))


def _has_leaf(feature: Any) -> bool:
    inner = _inside(feature)
    return any(map(_has_leaf, inner)) if inner or feature == {} else True


def _inside(feature: Any) -> list[Any]:
    if isinstance(feature, dict):
        return list(feature.values())
    if isinstance(feature, (list, tuple)):
        return list(feature)
    return [feature.feature] if hasattr(feature, "feature") else []

"""Which value of its knob a method gets: the one whose kept rows train best on other seeds than those that report."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .method import Method
from .setting import Setting


# Kept rows by ratio, of a method in a setting; and the accuracy of a model that is trained on them.
KeptRows = Callable[[Setting, Method, list[float]], Mapping[float, np.ndarray]]
Accuracy = Callable[[Setting, str, np.ndarray], float]


def tuned(
    setting: Setting, method: Method, ratios: Sequence[float], *, kept_rows: KeptRows, accuracy: Accuracy
) -> dict[tuple[float, str], Method]:
    """The variant of a method for each ratio and model of a setting.

    That of the highest mean test accuracy over the settings that this one is tuned on, which have its damage and seeds
    of their own; of equal ones the first of the grid. What that costs is counted nowhere.

    Args:
        setting ([`Setting`]): What the method will select from.
        method ([`Method`]): One with a grid, or without, which is its only variant.
        ratios (`Sequence[float]`): Fractions of the rows to keep.
        kept_rows (`Callable`), accuracy (`Callable`): Both find in the cells what is there.

    Returns:
        `dict[tuple[float, str], Method]`: By ratio and model.
    """
    variants = method.variants()
    if len(variants) == 1:
        return {(ratio, model): method for ratio in ratios for model in setting.models}
    kept = [[kept_rows(other, variant, list(ratios)) for other in setting.tuning] for variant in variants]
    best = {}
    for ratio in ratios:
        for model in setting.models:
            accuracies = [
                [accuracy(other, model, rows[ratio]) for other, rows in zip(setting.tuning, of_variant, strict=True)]
                for of_variant in kept
            ]
            best[ratio, model] = variants[int(np.mean(accuracies, axis=1).argmax())]
    return best

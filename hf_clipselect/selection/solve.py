"""From scores to kept rows."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import InputError
from .counts import selection_count
from .distributed import ProcessGroup, distributed_top_k
from .exact import finite_scores, top_k
from .objective import Objective
from .quotas import class_quotas
from .sgd import sgd_select


def select_rows(
    scores: np.ndarray,
    labels: np.ndarray,
    k: int,
    objective: Objective,
    *,
    upper: np.ndarray | None = None,
    processes: ProcessGroup | None = None,
) -> np.ndarray:
    """Select the rows of highest score, within the quotas and with the solver of the objective.

    Args:
        scores (`np.ndarray` of shape `(num_rows,)`): Finite scores from `selection_scores`, higher is better; float32
            where several processes share the work.
        labels (`np.ndarray` of shape `(num_rows,)`): Integer classes from 0; only quotas look at them.
        k (`int`): How many rows. Solver "exact" keeps exactly k, solver "sgd" its own count within theta * N.
        objective ([`Objective`]): The knobs.
        upper (`np.ndarray` of shape `(num_classes,)`, *optional*): Bounds of the quotas, see `class_quotas`.
        processes ([`ProcessGroup`], *optional*): Those that share the work. All of them call this with the same
            arguments, and all get the same rows as one process alone.

    Returns:
        `np.ndarray` of shape `(count,)`: Row numbers, int64, rising.

    Raises:
        InputError: The arrays don't match, a score is not finite, k is out of range, or "sgd" does not converge.
    """
    if len(scores) != len(labels):
        raise InputError(
            f"Scores and labels must have one entry per row, got {len(scores)} scores and {len(labels)} labels."
        )
    if objective.solver == "sgd":
        return sgd_select(scores, k, ratio_weight=objective.ratio_weight).rows
    if objective.class_balance == "none":
        several = processes is not None and processes.count > 1
        return _shared_top_k(scores, k, processes) if several else top_k(scores, k)
    # Every process does all the classes: a fraction of a second for a million rows, and messages per class cost more.
    num_classes = int(labels.max()) + 1
    quotas = class_quotas(labels, k, balance=objective.class_balance, num_classes=num_classes, upper=upper)
    by_class = np.argsort(labels, kind="stable")
    groups = np.split(by_class, np.cumsum(np.bincount(labels))[:-1])
    return np.sort(
        np.concatenate([rows[top_k(scores[rows], quota)] for rows, quota in zip(groups, quotas, strict=True)])
    )


def select_subsets(
    score_by_ratio: Mapping[float, np.ndarray],
    labels: np.ndarray,
    ratios: Sequence[float],
    objective: Objective,
    *,
    processes: ProcessGroup | None = None,
) -> dict[float, np.ndarray]:
    """Select one subset per ratio; unless alpha follows the ratio, each is part of every larger one.

    Scores and ties alone nest; quotas by largest remainder may not, so each ratio is held within the class counts of
    the next larger one. The subset of the largest ratio is what it would be alone. A smaller one differs from what it
    would be alone only where largest remainder gives a class more rows at the smaller ratio than at the larger.

    Args:
        score_by_ratio (`Mapping[float, np.ndarray]`): Scores of shape `(num_rows,)` per ratio.
        labels (`np.ndarray` of shape `(num_rows,)`): Integer classes from 0.
        ratios (`Sequence[float]`): Fractions of the rows to keep, each in `(0, 1]`.
        objective ([`Objective`]): The knobs.
        processes ([`ProcessGroup`], *optional*): As for `select_rows`.

    Returns:
        `dict[float, np.ndarray]`: Kept row numbers per ratio, int64, rising; in the order of `ratios`.

    Raises:
        InputError: As `select_rows` and `selection_count`.
    """
    subsets: dict[float, np.ndarray] = {}
    upper = None
    for ratio in sorted(ratios, reverse=True):
        count = selection_count(ratio, len(labels))
        subsets[ratio] = select_rows(score_by_ratio[ratio], labels, count, objective, upper=upper, processes=processes)
        if not objective.alpha_is_ratio:
            upper = np.bincount(labels[subsets[ratio]], minlength=int(labels.max()) + 1)
    return {ratio: subsets[ratio] for ratio in ratios}


def _shared_top_k(scores: np.ndarray, k: int, processes: ProcessGroup) -> np.ndarray:
    """`top_k` of scores that every process holds, each looking at a slice of them."""
    finite_scores(scores)  # here, where an error can name the row by its number among all rows
    slices = np.array_split(scores, processes.count)
    before = sum(map(len, slices[: processes.index]))
    return np.concatenate(processes.gather(before + distributed_top_k(slices[processes.index], k, processes)))

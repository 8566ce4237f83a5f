"""From scores to kept rows.

Legend: N rows, C cells (the classes, or the groups, that quotas are for).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from ..runtime.words import are, counted
from .auto_size import auto_counts
from .counts import AUTO, Size, selection_count
from .exact import finite_scores, top_k
from .objective import Objective
from .quotas import class_quotas
from .ranking import MUST_DROP, MUST_KEEP
from .sgd import sgd_select


@dataclass(frozen=True)
class Candidates:
    """What a selection chooses from, beside the scores.

    `cells` `(N,)`, integers from 0, are the classes or groups that quotas are for. The rows of one of the `tiers`
    `(N,)` of `ranking` are taken before any of the next. `counts` are rows to keep of some cells, whatever their
    share; `names` are those of the cells, for errors. `error_probability` `(N,)`, in [0, 1], tells how probably the
    label of a row is wrong; only the size "auto" needs it.
    """

    cells: np.ndarray
    tiers: np.ndarray | None = None
    counts: Mapping[int, int] = field(default_factory=dict)
    names: Sequence[str] | None = None
    error_probability: np.ndarray | None = None

    def name(self, cell: int) -> str:
        return str(cell) if self.names is None else self.names[cell]


def select_rows(
    scores: np.ndarray,
    candidates: Candidates,
    k: int,
    objective: Objective,
    *,
    upper: np.ndarray | None = None,
) -> np.ndarray:
    """Select the rows of the first tiers and highest scores, within the quotas and with the solver of the objective.

    Takes finite scores `(N,)` from `selection_scores`, and bounds of the quotas `(C,)`, see `class_quotas`. Returns
    row numbers, int64, rising: exactly k by solver "exact", a count within theta * N of it by "sgd". Raises
    `InputError` where a score is not finite, k is out of range, quotas can't be met, or "sgd" does not converge.
    """
    return _within_quotas(scores, candidates, k, check_candidates(candidates, k, objective, upper=upper), objective)


def _within_quotas(
    scores: np.ndarray, candidates: Candidates, k: int, quotas: np.ndarray | None, objective: Objective
) -> np.ndarray:
    cells, tiers = candidates.cells, candidates.tiers
    scores = finite_scores(scores)  # here, where an error can name the row by its number among all rows
    if objective.solver == "sgd":
        return sgd_select(scores, k, ratio_weight=objective.ratio_weight, theta=objective.theta).rows
    if quotas is None:
        return _best(np.arange(len(scores)), k, scores, tiers)
    groups = np.split(np.argsort(cells, kind="stable"), np.cumsum(np.bincount(cells))[:-1])
    kept = [_best(rows, quota, scores, tiers) for rows, quota in zip(groups, quotas.tolist(), strict=True)]
    return np.sort(np.concatenate(kept))


def select_subsets(
    scores: Sequence[np.ndarray], candidates: Candidates, sizes: Sequence[Size], objective: Objective
) -> list[np.ndarray]:
    """Select one subset per size, by scores `(N,)` for each; they are nested unless alpha follows the ratio.

    Scores and ties alone nest; quotas by largest remainder may not, so each size is held within the cell counts of the
    next larger one. The largest subset is what it would be alone. A smaller one differs from what it would be alone
    only where largest remainder gives a cell more rows at the smaller size than at the larger. The size "auto" has
    quotas of its own and takes no part in this: it is what it would be alone. Returns kept row numbers for each size,
    int64, rising; raises `InputError` as `select_rows` and `resolved_count`.
    """
    counts = {
        place: selection_count(size, len(candidates.cells))
        for place, size in enumerate(sizes)
        if not isinstance(size, str)
    }
    subsets: dict[int, np.ndarray] = {}
    if AUTO in sizes:
        place = sizes.index(AUTO)
        k, quotas = _auto_quotas(candidates, objective)
        subsets[place] = _within_quotas(scores[place], candidates, k, quotas, objective)
    upper, num_cells = None, int(candidates.cells.max()) + 1
    for place in sorted(counts, key=lambda place: -counts[place]):
        rows = select_rows(scores[place], candidates, counts[place], objective, upper=upper)
        subsets[place] = rows
        if not objective.alpha_is_ratio:
            upper = np.bincount(candidates.cells[rows], minlength=num_cells)
    return [subsets[place] for place in range(len(sizes))]


def resolved_count(size: Size, candidates: Candidates, objective: Objective) -> int:
    """Number of rows k that any size keeps of these candidates; of "auto" as many as have right labels.

    The size "auto" keeps of each cell the rows that `auto_counts` gives for those that may be kept, moved into the
    bounds that `must_keep`, `must_drop`, `min_per_class` and `class_quotas` leave the cell; k is their sum. With class
    balance "uniform" or "none" the counts of all cells are added up first, and k is moved into what all cells together
    allow.

    Raises `InputError` as `selection_count`, and where no row may be kept; `ValueError` where "auto" is asked for and
    the candidates have no `error_probability`.
    """
    if not isinstance(size, str):
        return selection_count(size, len(candidates.cells))
    return _auto_quotas(candidates, objective)[0]


def check_size(candidates: Candidates, size: Size, objective: Objective) -> None:
    """Raise `InputError` for a size that these candidates can't meet, whatever their scores are.

    Where the size is "auto" they may lack `error_probability`, since how many rows it keeps follows what they allow.
    """
    if isinstance(size, str):
        _check_some_may_stay(candidates, _cell_bounds(candidates, objective)[1])
    else:
        check_candidates(candidates, selection_count(size, len(candidates.cells)), objective)


def check_candidates(
    candidates: Candidates, k: int, objective: Objective, *, upper: np.ndarray | None = None
) -> np.ndarray | None:
    """Quotas `(C,)`, int64, that add up to k, within what must and may be kept; `None` for class balance "none".

    Raises `InputError` where more rows must be kept, or fewer may be, than k; a quota can't be met; or solver "sgd",
    which knows no tiers, is given some.
    """
    cells = candidates.cells
    must_keep, may_keep = _listed(candidates, objective)
    if must_keep.sum() > k:
        raise InputError(
            f"--must_keep names {counted(int(must_keep.sum()), 'row')}, but only {k} {are(k)} kept; name fewer, or "
            "raise the selection ratio."
        )
    if may_keep.sum() < k:
        raise InputError(
            f"{len(cells) - may_keep.sum()} of {counted(len(cells), 'row')} must be dropped, which leaves "
            f"{may_keep.sum()}, but {k} {are(k)} to be kept; drop fewer with --must_drop or --decisions, or lower the "
            "selection ratio."
        )
    if objective.class_balance == "none":
        return None
    low, high = _cell_bounds(candidates, objective)
    if not low.sum() <= k <= high.sum():
        least, most = int(low.sum()), int(high.sum())
        raise InputError(
            f"The quotas can't be met: {counted(k, 'row')} {are(k)} to be kept, but --min_per_class, "
            "--class_quotas_file, --must_keep and --must_drop ask for "
            f"{f'at least {least}' if k < least else f'at most {most}'}. Change them, or the selection ratio."
        )
    bounds = high if upper is None else np.minimum(high, upper)
    return class_quotas(cells, k, balance=objective.class_balance, num_classes=len(low), lower=low, upper=bounds)


def _listed(candidates: Candidates, objective: Objective) -> tuple[np.ndarray, np.ndarray]:
    """How many rows of each cell must, and how many may be kept, `(C,)` each."""
    cells, tiers = candidates.cells, candidates.tiers
    num_cells = int(cells.max()) + 1
    if tiers is None:
        return np.zeros(num_cells, dtype=np.int64), np.bincount(cells, minlength=num_cells)
    if objective.solver == "sgd":
        raise InputError(
            "--solver sgd takes no rows that must be kept or dropped (--must_keep, --must_drop, --decisions); leave "
            "them out, or pass --solver exact."
        )
    by_tier = [np.bincount(cells[rows], minlength=num_cells) for rows in (tiers == MUST_KEEP, tiers != MUST_DROP)]
    return by_tier[0], by_tier[1]


def _cell_bounds(candidates: Candidates, objective: Objective) -> tuple[np.ndarray, np.ndarray]:
    """The fewest and the most rows of each cell that may be kept, `(C,)` each; min_per_class and quotas count too."""
    must_keep, high = _listed(candidates, objective)
    if objective.class_balance == "none":
        return must_keep, high
    low = np.maximum(must_keep, np.minimum(objective.min_per_class, high))
    for cell, count in candidates.counts.items():
        if not must_keep[cell] <= count <= high[cell]:
            raise InputError(
                f"--class_quotas_file asks for {counted(count, 'row')} of {candidates.name(cell)}, of which "
                f"{high[cell]} may be kept"
                + (f" and {must_keep[cell]} must be" if must_keep[cell] else "")
                + "; change its quota."
            )
        low[cell] = high[cell] = count
    return low, high


def _auto_quotas(candidates: Candidates, objective: Objective) -> tuple[int, np.ndarray | None]:
    """k and the quotas `(C,)` of the size "auto"; none for class balance "none"."""
    if candidates.error_probability is None:
        raise ValueError('The size "auto" needs error_probability of the candidates.')
    cells, tiers = candidates.cells, candidates.tiers
    low, high = _cell_bounds(candidates, objective)
    _check_some_may_stay(candidates, high)
    # Rows that may not be kept count for nothing: else as many wrong ones would be kept in their place.
    rows = np.flatnonzero(np.ones(len(cells), dtype=bool) if tiers is None else tiers != MUST_DROP)
    counts = auto_counts(candidates.error_probability[rows], cells[rows], len(high))
    if objective.class_balance == "proportional":
        quotas = counts.clip(low, high)
        return int(quotas.sum()), quotas
    k = int(counts.sum().clip(low.sum(), high.sum()))
    if objective.class_balance == "none":
        return k, None
    balance = objective.class_balance
    return k, class_quotas(cells, k, balance=balance, num_classes=len(high), lower=low, upper=high)


def _check_some_may_stay(candidates: Candidates, high: np.ndarray) -> None:
    if not high.any():
        raise InputError(
            f"--selection_ratio auto keeps none of {counted(len(candidates.cells), 'row')}: --must_drop or "
            "--class_quotas_file rules out all of them. Change these."
        )


def _best(rows: np.ndarray, k: int, scores: np.ndarray, tiers: np.ndarray | None) -> np.ndarray:
    """k of these rows, tier by tier and within a tier by score."""
    if tiers is None:
        return rows[top_k(scores[rows], k)]
    kept = []
    for tier in range(MUST_DROP):
        of_tier = rows[tiers[rows] == tier]
        count = min(k, len(of_tier))
        kept.append(of_tier[top_k(scores[of_tier], count)])
        k -= count
    return np.sort(np.concatenate(kept))

"""The score per row that a selection ranks by, and what comes before it: tiers of rows.

Legend: N rows.
"""

from dataclasses import dataclass

import numpy as np

from .objective import Objective


# Tiers: all rows of one are taken before any of the next; the last is never taken.
MUST_KEEP, FIRST, LAST, MUST_DROP = range(4)

# Strata of the alignment ranking of a class. A fixed number, so that the subsets of all sizes are nested.
NUM_STRATA = 10

GOLDEN_STEP = (5**0.5 - 1) / 2

_ALIGNMENT_COLUMN = {"cosine": "sas", "margin": "margin", "ensemble": "ensemble"}


@dataclass(frozen=True)
class RowColumns:
    """What is known of every row, each array of shape `(N,)`."""

    labels: np.ndarray  # int64: given classes, from 0
    agrees: np.ndarray  # bool: whether the predicted label is the given one
    sas: np.ndarray  # float32: cosine alignment, in [-1, 1], higher is better aligned
    margin: np.ndarray  # float32: margin alignment, in [-2, 2], below 0 where another class fits better
    sds: np.ndarray  # float32: diversity, in [0, 2], higher is farther from its neighbours
    # float32: sum of two log probabilities of the given label, at most 0; only alignment "ensemble" needs it.
    ensemble: np.ndarray | None = None
    # float32: probability that the given label is wrong, in [0, 1]; only an objective that needs the noise model, and
    # the size "auto", need it.
    error_probability: np.ndarray | None = None
    clean_label: np.ndarray | None = None  # int64: most probably true class, which may be the given one
    class_rank: np.ndarray | None = None  # int64: place in the order of its class, 0 is first; only herding needs it

    def alignment(self, objective: Objective) -> np.ndarray:
        """The alignment score that an objective asks for, higher is better aligned.

        That of "noise_model" is the probability that the given label is right, float32, in [0, 1].
        """
        if objective.alignment == "noise_model":
            return 1 - self.needed("error_probability")
        return self.needed(_ALIGNMENT_COLUMN[objective.alignment])

    def needed(self, name: str) -> np.ndarray:
        """A column that may be missing; raises `ValueError` where it is."""
        column: np.ndarray | None = getattr(self, name)
        if column is None:
            raise ValueError(f"The rows have no {name}, which this objective needs.")
        return column


def selection_scores(objective: Objective, rows: RowColumns, ratio: float) -> np.ndarray:
    """The score, `(N,)`, float32, that the selection ranks the rows of a tier by; higher is kept first.

    Without `spread` S = A + alpha * D (the part of eq. 6 of https://huggingface.co/papers/2410.11215 that depends on
    the row): A is the alignment, D the diversity, each normalised over all rows; a constant column becomes 0 where it
    is normalised, since it ranks nothing. Alpha is `ratio`, the fraction of the rows to keep, where diversity_weight
    is "ratio". Computed in float64.

    With `spread` a row that passes the gate gets the share of its class's passing rows that do not come before it, in
    (0, 1]. Every beginning of the order is spread evenly over ten strata of the alignment ranking, easy and hard rows,
    and within a stratum over its diversity, typical and unusual rows. The most diverse rows do not come first, since
    damaged images are among them. The other rows get their alignment. This objective is ours, not the paper's.

    With `herding` a row gets the share of its class's rows that do not come before it in `class_rank`, in (0, 1].
    """
    if objective.herding:
        sizes = np.bincount(rows.labels)[rows.labels]
        return (1 - rows.needed("class_rank") / sizes).astype(np.float32)
    alignment = np.asarray(rows.alignment(objective), dtype=np.float64)
    if objective.spread:
        passing = np.flatnonzero(passes_gate(objective, rows))
        scores = alignment.astype(np.float32)
        for members in _by_class(rows.labels, passing):
            order = _spread_order(alignment[members], rows.sds[members])
            scores[members[order]] = 1 - np.arange(len(members)) / len(members)
        return scores
    alpha = ratio if objective.alpha_is_ratio else float(objective.diversity_weight)
    diversity = _normalized(rows.sds, objective.normalization)
    return (_normalized(alignment, objective.normalization) + alpha * diversity).astype(np.float32)


def passes_gate(objective: Objective, rows: RowColumns) -> np.ndarray:
    """Which rows come first, `(N,)`, bool: those whose label agrees, from `gate_floor` of their class's alignment on.

    Without a gate all rows do.
    """
    if not objective.gate:
        return np.ones(len(rows.labels), dtype=bool)
    passes = np.array(rows.agrees, dtype=bool)
    if objective.gate_floor:
        alignment = rows.alignment(objective)
        for members in _by_class(rows.labels, np.flatnonzero(passes)):
            floor = np.quantile(alignment[members], objective.gate_floor)
            passes[members[alignment[members] < floor]] = False
    return passes


def quantiles_within(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where each of the finite values `(N,)` stands in its class: the share below it, and half of those equal to it.

    Quantiles `(N,)`, float32, in (0, 1); 0.5 for a class of one row.
    """
    if len(labels) == 0:
        return np.empty(0, dtype=np.float32)
    order = np.lexsort((values, labels))
    by_class, rising = labels[order], values[order]
    is_new = (by_class[1:] != by_class[:-1]) | (rising[1:] != rising[:-1])
    starts = np.flatnonzero(np.concatenate([[True], is_new]))  # of runs of equal values
    counts = np.diff(starts, append=len(order))
    sizes = np.bincount(labels)
    class_starts = (np.cumsum(sizes) - sizes)[by_class[starts]]
    quantiles = np.empty(len(labels), dtype=np.float32)
    quantiles[order] = np.repeat((starts + counts / 2 - class_starts) / sizes[by_class[starts]], counts)
    return quantiles


def _by_class(labels: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """The rows of each class that has any, rising."""
    by_class = rows[np.argsort(labels[rows], kind="stable")]
    return [members for members in np.split(by_class, np.flatnonzero(np.diff(labels[by_class])) + 1) if len(members)]


def _spread_order(alignment: np.ndarray, diversity: np.ndarray) -> np.ndarray:
    """Golden-ratio steps through a list of the rows by falling diversity in strata of falling alignment."""
    num_rows = len(alignment)
    by_alignment = np.argsort(-alignment, kind="stable")
    stratum = np.empty(num_rows, dtype=np.int64)
    stratum[by_alignment] = np.arange(num_rows) * NUM_STRATA // num_rows
    listed = np.lexsort((-diversity, stratum))
    # However many steps are taken, the places that they reach lie evenly on the list. The first is its middle.
    places = np.argsort((np.arange(num_rows) - num_rows // 2) * GOLDEN_STEP % 1, kind="stable")
    return listed[places]


def _normalized(scores: np.ndarray, how: str) -> np.ndarray:
    """Scores in float64 by one of the normalisations of [`Objective`]; 0 for constant ones, which rank nothing."""
    scores = np.asarray(scores, dtype=np.float64)
    if how == "none":
        return scores
    low, high = scores.min(), scores.max()
    if low == high:
        return np.zeros_like(scores)
    if how == "minmax_mean":
        scaled = (scores - low) / (high - low)
        return scaled / scaled.mean()
    if how == "zscore":
        centred = scores - scores.mean()
        return centred / centred.std()
    return _mid_ranks(scores)


def _mid_ranks(scores: np.ndarray) -> np.ndarray:
    """The share of scores below each, and half of those equal to it."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - counts / 2)[place] / len(scores)

"""How far an image is from its like: the sample diversity score (SDS).

Shapes: n rows of one class, D embedding dimension, k neighbours, m nearest rows that are listed, B rows of a block, M
rows that these are compared with. Scores are float32. A tensor on another device is scored there. No n x n matrix is
ever built, and no list of the k neighbours is kept.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..config.python_calls import python_door
from ..errors import InputError
from ..runtime.caller_state import own_settings
from ..runtime.notices import NOT_IN_REPORT
from ..selection.counts import round_half_up
from .arrays import (
    Array,
    as_numpy,
    beside,
    checked_embeds,
    checked_labels,
    is_elsewhere,
    library,
    on_its_device,
    row_lengths,
    unit_rows,
)


logger = logging.getLogger(__name__)

# The scores of a larger class are estimated where that is close enough: the cost of exact ones grows with its square.
EXACT_UP_TO = 100_000

# A block of distances has this many elements (32 MB, on another device than the CPU 256 MB), but at least this many
# rows: a product with few rows is slow.
_BLOCK_ELEMENTS, _BLOCK_ELEMENTS_ELSEWHERE, _BLOCK_MIN_ROWS = 2**23, 2**26, 128
# With fewer neighbours the distances are taken from difference vectors, on the CPU only of rows that have another one
# with a higher cosine than this; see `_block_means`.
_DIRECT_BELOW, _DIRECT_ABOVE = 50, 0.85
# Two embeddings of one image, which other batches or machines may have made, have a higher cosine.
_SAME_ABOVE = 1 - 1e-5
# Half of a squared distance is below this only by the rounding of 1 - cos in float32.
_SQUARED_ROUNDING = 1e-6
# The time that a large class takes is foreseen from this part of its rows.
_TIMED_PART = 0.01
# The estimator: rows of the pilot, the fewest references, and the error allowed as a part of the scores' spread.
_PILOT_ROWS, _MIN_REFERENCES, _MAX_RELATIVE_ERROR = 1024, 4096, 0.25
# The scores of a class may cost so many times what exact ones of `EXACT_UP_TO` rows cost.
_LARGEST_COST = 2


@dataclass(frozen=True)
class ClassDiversity:
    """Diversity scores of one class, `(n,)`, float32, in [0, 2], and how they came about.

    `num_references` random rows were what they were estimated from, with a root mean square error that is
    `relative_error` of the standard deviation of the scores, both measured on random rows; both are None where scores
    are exact. `nearest` are the m nearest other rows of each row, `(n, m)`, int32, nearest first, and `cosines` `(n,
    m)` theirs with it, float32.
    """

    scores: np.ndarray
    num_references: int | None = None
    relative_error: float | None = None
    nearest: np.ndarray | None = None
    cosines: np.ndarray | None = None


@python_door()
@own_settings()
def sample_diversity_score(
    image_embeds: Array, labels: Array, *, neighbor_fraction: float = 0.1, num_neighbors: int | None = None
) -> np.ndarray:
    """How far each image is from its like (SDS, eq. 2 of https://huggingface.co/papers/2410.11215).

    The mean L2 distance between unit-norm embeddings to the k nearest rows of the same given class, the row itself
    left out by its number. k is `floor(neighbor_fraction * N_c + 0.5)` or `num_neighbors`, within `[1, N_c - 1]`. A
    class of one row has score 0, with a warning. Costs O(N_c^2 D) time per class of N_c rows, and memory for the rows
    of one class and a block of distances. The scores of a class of more than 100,000 rows are estimated from random
    ones of them, with a warning, if the error measured on some of them is below a quarter of their spread; those of a
    class of more than 141,421 rows always, since exact ones would take hours, and the warning tells the error.

    Args:
        image_embeds (`np.ndarray` or `torch.Tensor` of shape `(num_rows, embed_dim)`): Image embeddings, normalised
            here.
        labels (`np.ndarray` or `torch.Tensor` of shape `(num_rows,)`): Given classes, integers from 0.
        neighbor_fraction (`float`, *optional*, defaults to `0.1`): Neighbours as a fraction of the class, in `(0, 1]`.
        num_neighbors (`int`, *optional*): Fixed number of neighbours, at least 1; wins over the fraction.

    Returns:
        `np.ndarray` of shape `(num_rows,)`: Scores, float32, in [0, 2], higher is more diverse.

    Raises:
        InputError: Shapes don't match, a row is zero or not finite, a label is negative, or k is out of range.
    """
    if not 0 < neighbor_fraction <= 1:
        raise InputError(f"neighbor_fraction must lie in (0, 1], got {neighbor_fraction}.")
    if num_neighbors is not None and num_neighbors < 1:
        raise InputError(f"num_neighbors must be an integer of at least 1, got {num_neighbors}.")
    images = checked_embeds(image_embeds, "image_embeds")
    lengths = row_lengths(images, "image_embeds")
    labels = checked_labels(labels, num_rows=len(images))
    scores = np.zeros(len(images), dtype=np.float32)
    by_class = np.argsort(labels, kind="stable")
    classes, starts = np.unique(labels[by_class], return_index=True)
    singles = []
    for label, rows in zip(classes.tolist(), np.split(by_class, starts[1:]), strict=True):
        if len(rows) == 1:
            singles.append(label)
            continue
        k = neighbor_count(len(rows), neighbor_fraction, num_neighbors)
        diversity = class_diversity(unit_rows(images, rows, lengths), k)
        scores[rows] = diversity.scores
        if diversity.num_references is not None:
            logger.warning(estimate_notice(label, len(rows), diversity))
    warn_of_singles(singles)
    return scores


def neighbor_count(num_rows: int, fraction: float, num_neighbors: int | None) -> int:
    """Neighbours k of a class of `num_rows` rows, in `[1, num_rows - 1]`; 0 for a class of one row."""
    wanted = round_half_up(fraction, num_rows) if num_neighbors is None else num_neighbors
    return min(max(wanted, 1), num_rows - 1)


def class_diversity(
    embeds: Array, k: int, *, num_nearest: int = 0, told: Callable[[float], None] | None = None
) -> ClassDiversity:
    """Diversity scores of one class, computed where its embeddings are, and the nearest rows of each if asked for.

    Takes unit-norm float32 embeddings `(n, D)`, and k as [`neighbor_count`] gives it; the scores are in their order, 0
    for a class of one row. `num_nearest` rows are listed for each, or n - 1 where there are no more. `told` is called
    with the part of the rows that is done, in [0, 1], time after time.

    Beyond `EXACT_UP_TO` rows they are estimated: the mean distances to the nearest of some random rows, of which the
    same part is taken as k is of the class. Their number is the least power of two from 4,096 to half of the class
    whose error, measured on 1,024 rows, is below a quarter of the spread of their scores. If there is none, the scores
    are exact where that takes at most twice the products of `EXACT_UP_TO` rows with each other. Where it takes more
    they are estimated from as many rows as these products allow, which also bound the powers of two. The log tells
    how long both take. The random rows depend on the size of the class alone.

    The nearest rows are never estimated, and change no score: they come from the products that exact scores need.
    """
    embeds, num_rows = on_its_device(embeds), len(embeds)
    diversity = _estimate(embeds, k, told) if num_rows > EXACT_UP_TO else None
    if num_rows == 1:
        diversity = ClassDiversity(np.zeros(1, dtype=np.float32))
    if diversity is not None and not num_nearest:
        return diversity
    means, nearest, listed = [], [], []
    for queries, others, cosines in _told(_blocks_of_cosines(embeds, slice(None), None), num_rows, told):
        if num_nearest:
            found = torch.as_tensor(cosines).topk(min(num_nearest, num_rows - 1), dim=1)
            nearest.append(found.indices.int())
            listed.append(found.values)
        if diversity is None:  # after the lists, because this overwrites the cosines
            means.append(_block_means(queries, others, cosines, k))
    if diversity is None:
        diversity = ClassDiversity(_together(means))
    if not num_nearest:
        return diversity
    return replace(diversity, nearest=_together(nearest), cosines=_together(listed))


def reference_diversity(embeds: Array, references: Array, k: int) -> np.ndarray:
    """Mean distance `(n,)`, float32, of rows to the k nearest of M reference rows that stand for their class.

    Takes unit-norm float32 embeddings `(n, D)` and `(M, D)`, on one device, and k as [`references_to_take`] gives it.
    A reference of the same embedding is taken for the row itself, and left out, where there are others.
    """
    queries, others = on_its_device(embeds), on_its_device(references)
    elements = _BLOCK_ELEMENTS_ELSEWHERE if is_elsewhere(queries) else _BLOCK_ELEMENTS
    step = max(elements // len(others), _BLOCK_MIN_ROWS)
    means = []
    for start in range(0, len(queries), step):
        some = queries[start : start + step]
        cosines = some @ others.T
        if len(others) > 1:
            rows, nearest = beside(queries, np.arange(len(some))), cosines.argmax(1)
            same = cosines[rows, nearest] > _SAME_ABOVE
            cosines[rows[same], nearest[same]] = -np.inf
        means.append(_block_means(some, others, cosines, k))
    return _together(means)


def references_to_take(num_neighbors: int, num_rows: int, num_references: int) -> int:
    """How many nearest references stand for `num_neighbors` rows of a class of `num_rows`: the same part of them, at
    least one, and none for the row itself where there are others.
    """
    same_part = round(num_neighbors * num_references / max(num_rows - 1, 1))
    return min(max(same_part, 1), max(num_references - 1, 1))


def nearest_cosines(embeds: Array, rows: np.ndarray, num_nearest: int) -> np.ndarray:
    """Cosines `(count, m)`, float32, of some rows of a class with the other rows that are nearest to each.

    Takes the unit-norm float32 embeddings `(n, D)` of the class, of two rows or more; m is `num_nearest`, or n - 1
    where there are no more.
    """
    blocks = _blocks_of_cosines(on_its_device(embeds), rows, None)
    count = min(num_nearest, len(embeds) - 1)
    return _together([torch.as_tensor(cosines).topk(count, dim=1).values for *_, cosines in blocks])


def warn_of_singles(classes: Sequence[int]) -> None:
    """Name the classes of one row, whose score of 0 tells nothing; silent where there is none."""
    if classes:
        named = ", ".join(map(str, classes[:10])) + (", ..." if len(classes) > 10 else "")
        logger.warning("Classes of one row have a diversity score of 0, %d in all: %s.", len(classes), named)


def estimate_notice(label: int, num_rows: int, diversity: ClassDiversity) -> str:
    """The sentence about a class of `num_rows` rows whose scores were estimated."""
    return (
        f"Class {label} has {num_rows:,} rows: its diversity scores were estimated from {diversity.num_references:,} "
        f"random ones; their error is {diversity.relative_error:.2f} of their spread, measured on {_PILOT_ROWS:,} "
        "rows."
    )


def _estimate(embeds: Array, k: int, told: Callable[[float], None] | None) -> ClassDiversity | None:
    """Scores from as few random rows as are enough, or as may be; None where they are to be exact."""
    num_rows = len(embeds)
    generator = np.random.default_rng(num_rows)
    pilot = np.sort(generator.choice(num_rows, min(_PILOT_ROWS, num_rows), replace=False))
    exact = _mean_distances(embeds, pilot, k)
    spread = exact.std(dtype=np.float64)
    most = _LARGEST_COST * EXACT_UP_TO**2 // num_rows
    num_references = _MIN_REFERENCES
    while spread > 0 and num_references <= min(num_rows // 2, most):
        estimate = _Estimate(num_rows, k, num_references, generator)
        error = estimate.error(embeds, pilot, exact)
        if error < _MAX_RELATIVE_ERROR * spread:
            return ClassDiversity(estimate(embeds, told), num_references, error / spread)
        num_references *= 2
    if num_rows <= most:
        return None
    estimate = _Estimate(num_rows, k, most, generator)
    relative = estimate.error(embeds, pilot, exact) / max(spread, np.finfo(float).tiny)
    return ClassDiversity(estimate(embeds, told, is_logged=True), most, relative)


class _Estimate:
    """The nearest of random rows of a class stand for the k nearest of all its rows."""

    def __init__(self, num_rows: int, k: int, num_references: int, generator: np.random.Generator) -> None:
        self._references = np.sort(generator.choice(num_rows, num_references, replace=False))
        self._few = references_to_take(k, num_rows, num_references)

    def __call__(
        self, embeds: Array, told: Callable[[float], None] | None = None, *, is_logged: bool = False
    ) -> np.ndarray:
        """The scores `(n,)` of all rows."""
        blocks = _blocks_of_cosines(embeds, slice(None), self._references)
        blocks = _told(blocks, len(embeds), told, is_logged=is_logged)
        return _together([_block_means(*block, self._few) for block in blocks])

    def error(self, embeds: Array, rows: np.ndarray, exact: np.ndarray) -> float:
        """Root mean square error on some rows whose exact scores are given."""
        found = _mean_distances(embeds, rows, self._few, self._references)
        return float(np.sqrt(np.mean((found.astype(np.float64) - exact) ** 2)))


def _mean_distances(
    embeds: Array, rows: np.ndarray | slice, k: int, references: np.ndarray | None = None
) -> np.ndarray:
    """Mean distance of some rows of a class to the k nearest other rows, or to those of them that are references."""
    blocks = _blocks_of_cosines(on_its_device(embeds), rows, references)
    return _together([_block_means(*block, k) for block in blocks])


def _told(
    blocks: Iterator[tuple[Array, Array, Array]],
    num_rows: int,
    told: Callable[[float], None] | None,
    *,
    is_logged: bool = True,
) -> Iterator[tuple[Array, Array, Array]]:
    """Blocks of all rows of a class; if it is a large one, the log says once how long they take."""
    start, done = time.perf_counter(), 0
    is_logged = is_logged and num_rows > EXACT_UP_TO
    for block in blocks:
        yield block
        done += len(block[0])
        if told is not None:
            told(done / num_rows)
        if is_logged and done >= _TIMED_PART * num_rows:
            is_logged = False
            as_numpy(block[2][:1, 0])  # a GPU is waited for once: so far its work may only be queued
            with_all = len(block[1]) == num_rows
            seconds = (time.perf_counter() - start) * num_rows / done
            logger.warning(
                "The %s rows of a class are compared %s: this takes about %.0f seconds.",
                f"{num_rows:,}",
                "exactly, each with all others, and not estimated from some"
                if with_all
                else f"with {len(block[1]):,} random ones of them, as many as the bound on the time allows",
                seconds,
                extra=NOT_IN_REPORT,
            )


def _blocks_of_cosines(
    embeds: Array, rows: np.ndarray | slice, references: np.ndarray | None
) -> Iterator[tuple[Array, Array, Array]]:
    """Some rows `(B, D)`, what they are compared with `(M, D)`, and their cosines `(B, M)`, a block at a time.

    A row's cosine with itself is minus infinity: under rounding, and between duplicates, the nearest row need not be
    the row itself.
    """
    queries, own, others = embeds[rows], np.arange(len(embeds))[rows], embeds
    if references is not None:
        others = embeds[references]
        places = np.full(len(embeds), -1)
        places[references] = np.arange(len(references))
        own = places[own]
    elements = _BLOCK_ELEMENTS_ELSEWHERE if is_elsewhere(embeds) else _BLOCK_ELEMENTS
    step = min(max(elements // len(others), _BLOCK_MIN_ROWS), len(queries))
    device = {} if isinstance(embeds, np.ndarray) else {"device": embeds.device}
    buffer = library(embeds).empty((step, len(others)), dtype=embeds.dtype, **device)
    starts, present = range(0, len(queries), step), np.flatnonzero(own >= 0)
    bounds = np.searchsorted(present, [*starts, len(queries)]).tolist()
    own_rows, own_places = beside(embeds, present), beside(embeds, own[present])
    for start, first, end in zip(starts, bounds, bounds[1:], strict=False):
        # A slice, not a copy: numpy computes only half of the product of a matrix with itself.
        some = queries[start : start + step]
        cosines = library(embeds).matmul(some, others.T, out=buffer[: len(some)])
        cosines[own_rows[first:end] - start, own_places[first:end]] = -np.inf
        yield some, others, cosines


def _block_means(queries: Array, others: Array, cosines: Array, k: int) -> Array:
    """Mean distance `(B,)` of each query to its k nearest others. Overwrites the cosines."""
    if k >= _DIRECT_BELOW:
        return _means_by_cosines(cosines, k)
    # By difference vectors: 2 - 2 cos cancels where rows are close, and few neighbours do not average it out.
    if not isinstance(cosines, np.ndarray):
        return _means_by_differences(queries, others, cosines, k)
    close = np.flatnonzero(cosines.max(axis=1) > _DIRECT_ABOVE)
    if len(close) == len(queries):
        return _means_by_differences(queries, others, cosines, k)
    if len(close) == 0:
        return _means_by_cosines(cosines, k)
    directly = as_numpy(_means_by_differences(queries[close], others, cosines[close], k))
    means = as_numpy(_means_by_cosines(cosines, k))
    means[close] = directly
    return means


def _means_by_cosines(cosines: Array, k: int) -> Array:
    halved = _highest(cosines, k)
    library(halved).subtract(1, halved, out=halved)  # half of the squared distances
    halved[halved < _SQUARED_ROUNDING] = 0
    return library(halved).sqrt(halved, out=halved).mean(1) * 2**0.5


def _means_by_differences(queries: Array, others: Array, cosines: Array, k: int) -> Array:
    nearest = torch.as_tensor(cosines).topk(k, dim=1, sorted=False).indices.T
    distances = []
    for column in nearest.numpy() if isinstance(others, np.ndarray) else nearest:
        difference = queries - others[column]
        distances.append(library(difference).einsum("nd,nd->n", difference, difference) ** 0.5)
    return library(queries).stack(distances).mean(0)


def _together(blocks: Sequence[Array]) -> np.ndarray:
    """Results of all blocks, brought over at once: a GPU would wait for a copy of each."""
    return as_numpy(library(blocks[0]).concatenate(blocks))


def _highest(cosines: Array, k: int) -> Array:
    """The k highest of each row `(B, k)`, in no order; of numpy's arrays a view, whose rows are reordered."""
    if isinstance(cosines, torch.Tensor):
        return cosines.topk(k, dim=1, sorted=False).values
    first = cosines.shape[1] - k
    cosines.partition(first, axis=1)  # several times as fast as topk on a CPU
    return cosines[:, first:]

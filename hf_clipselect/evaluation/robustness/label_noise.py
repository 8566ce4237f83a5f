"""Wrong labels in a known number of rows: symmetric, pairwise or class-dependent.

Shapes: N rows, C classes, D embedding dimension.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ...config.checks import check_seed
from ...errors import InputError
from ...scores.arrays import Array, as_numpy, checked_embeds, row_lengths, unit_rows
from ...selection.counts import round_half_up


NOISE_KINDS = ("symmetric", "pairwise", "class_dependent")
NoiseKind = Literal["symmetric", "pairwise", "class_dependent"]


def add_label_noise(
    labels: np.ndarray | Sequence[int],
    num_classes: int,
    *,
    rate: float | None = None,
    seed: int,
    kind: NoiseKind = "symmetric",
    transition_matrix: np.ndarray | None = None,
) -> np.ndarray:
    """Give a fraction of the rows another class.

    Exactly `floor(rate * N + 0.5)` rows change, with the rate taken as written in decimals; which rows, and which
    class each gets, is drawn with the seed. Symmetric and pairwise noise of one seed fall on the same rows. In
    class-dependent noise the rows that move from one class to another are as many as the matrix says to within one row
    of each class, and which ones round up is drawn.

    Args:
        labels (`np.ndarray` or `Sequence[int]` of shape `(N,)`, any integer type):
            Labels, in `[0, num_classes)`. They are not modified.
        num_classes (`int`): Number of classes, at least 2.
        rate (`float`, *optional*):
            Fraction of the rows to change, in `[0, 1)`. Class-dependent noise does without: its rate is then that of
            the matrix. With one, the share of every class that changes is scaled alike to meet it.
        seed (`int`): Seed of the draw, 0 or more.
        kind (`str`, *optional*, defaults to `"symmetric"`):
            `"symmetric"`: any other class, uniformly. `"pairwise"`: class i becomes i + 1, and the last one 0.
            `"class_dependent"`: as `transition_matrix` says.
        transition_matrix (`np.ndarray` of shape `(C, C)`, *optional*):
            Row i holds the probabilities that class i is labelled as each class. Rows sum to 1.

    Returns:
        `np.ndarray` of shape `(N,)`, int64: The noisy labels.

    Raises:
        InputError: `rate`, `seed`, `num_classes`, the matrix or the labels are out of range, the labels are no vector
            of integers, the kind is unknown, or the rate is more than a class has rows for.
    """
    noisy = _check_labels(labels, num_classes)
    matrix = _checked_matrix(kind, transition_matrix, num_classes)
    if rate is not None and not 0 <= rate < 1:
        raise InputError(f"rate is the fraction of labels to change and must lie in [0, 1), got {rate}.")
    check_seed(seed)
    rng = np.random.default_rng(seed)
    if matrix is not None:
        return _move_by_matrix(noisy, matrix, rate, rng)
    if rate is None:
        raise InputError(f"Label noise of the kind {kind!r} needs a rate, such as rate=0.2.")
    rows = rng.choice(len(noisy), size=round_half_up(rate, len(noisy)), replace=False)
    # A step of 1 to C - 1 classes, modulo C, reaches every other class with the same probability.
    steps = rng.integers(1, num_classes, size=len(rows)) if kind == "symmetric" else 1
    noisy[rows] = (noisy[rows] + steps) % num_classes
    return noisy


def similarity_transition_matrix(class_embeds: Array, *, temperature: float = 0.1) -> np.ndarray:
    """A transition matrix in which classes turn into those that they resemble.

    Row i is the softmax over the other classes of `cosine / temperature`. The diagonal is 0, so [`add_label_noise`]
    needs a `rate` beside it, and then changes the same share of every class.

    Args:
        class_embeds (`np.ndarray` or `torch.Tensor` of shape `(C, D)`):
            One embedding a class: of its text, or the mean of its images. Normalised here.
        temperature (`float`, *optional*, defaults to 0.1): Lower: the nearest class alone. Higher: towards symmetric
            noise.

    Returns:
        `np.ndarray` of shape `(C, C)`, float64

    Raises:
        InputError: Fewer than two classes, the embeddings are no matrix of finite numbers, one is zero, or the
            temperature is not above 0.
    """
    embeds = checked_embeds(class_embeds, "class_embeds")
    if len(embeds) < 2:
        raise InputError(f"class_embeds must hold at least two classes, got {len(embeds)}.")
    if not temperature > 0:
        raise InputError(f"temperature must be above 0, got {temperature}.")
    units = as_numpy(unit_rows(embeds, slice(None), row_lengths(embeds, "class_embeds"))).astype(np.float64)
    logits = units @ units.T / temperature
    np.fill_diagonal(logits, -np.inf)
    matrix = np.exp(logits - logits.max(axis=1, keepdims=True))
    return matrix / matrix.sum(axis=1, keepdims=True)


def _move_by_matrix(
    labels: np.ndarray, matrix: np.ndarray, rate: float | None, rng: np.random.Generator
) -> np.ndarray:
    sizes = np.bincount(labels, minlength=len(matrix))
    moves = matrix * (1 - np.eye(len(matrix)))
    leaving = sizes * moves.sum(axis=1)  # rows of each class, as the matrix expects them
    total = leaving.sum()
    # As many as can leave at once in these proportions: until a class has no row left.
    highest = (sizes[leaving > 0] / leaving[leaving > 0]).min() * total * (1 + 1e-9) if total else 0
    count = min(int(total + 0.5), int(highest)) if rate is None else round_half_up(rate, len(labels))
    if count > highest:
        raise InputError(
            f"rate {rate} means {count} wrong labels, but with this transition_matrix at most {int(highest)} of "
            f"{len(labels)} labels can change before a class has no row left; give a lower rate, or a matrix that "
            "spreads the noise over more classes."
        )
    if count == 0:
        return labels
    leaving = np.minimum(_round_randomly(leaving, count, rng), sizes)
    for label in np.flatnonzero(leaving):
        rows = rng.permutation(np.flatnonzero(labels == label))[: leaving[label]]
        arriving = _round_randomly(moves[label], leaving[label], rng)
        # Only rows that had this label before anything moved may move.
        labels[rows] = -1 - np.repeat(np.arange(len(matrix)), arriving)
    return np.where(labels < 0, -1 - labels, labels)


def _round_randomly(weights: np.ndarray, total: int, rng: np.random.Generator) -> np.ndarray:
    """Whole numbers in proportion to the weights that add up to the total, each one of the two nearest to its share.

    Systematic sampling: each is its share on average, where the largest remainder would always favour the same
    classes.
    """
    ends = np.cumsum(weights)
    ends = np.floor(ends / ends[-1] * total + rng.random()).astype(np.int64)
    return np.diff(ends, prepend=0)


def _checked_matrix(kind: str, transition_matrix: np.ndarray | None, num_classes: int) -> np.ndarray | None:
    if kind not in NOISE_KINDS:
        raise InputError(f"There is no label noise of the kind {kind!r}; choose one of {', '.join(NOISE_KINDS)}.")
    if (kind == "class_dependent") != (transition_matrix is not None):
        given = "got none" if transition_matrix is None else f"but kind is {kind!r}"
        raise InputError(f'kind="class_dependent" and a transition_matrix belong together, {given}.')
    if transition_matrix is None:
        return None
    matrix = np.asarray(transition_matrix, dtype=np.float64)
    if matrix.shape != (num_classes, num_classes):
        raise InputError(
            f"transition_matrix must have the shape ({num_classes}, {num_classes}), a row and a column for each "
            f"class, got {matrix.shape}."
        )
    sums = matrix.sum(axis=1)
    bad = np.flatnonzero(~((matrix >= 0).all(axis=1) & (np.abs(sums - 1) <= 1e-4)))
    if bad.size:
        raise InputError(
            f"Row {bad[0]} of transition_matrix must hold probabilities that sum to 1, got the sum {sums[bad[0]]:.6g} "
            f"and the lowest value {matrix[bad[0]].min():.6g}; divide each row by its sum."
        )
    return matrix


def _check_labels(labels: np.ndarray | Sequence[int], num_classes: int) -> np.ndarray:
    if num_classes < 2:
        raise InputError(f"Label noise needs num_classes of at least 2, got {num_classes}.")
    given = np.asarray(labels)
    if given.ndim != 1 or (given.size and not np.issubdtype(given.dtype, np.integer)):
        raise InputError(f"labels must be a vector of integers, got shape {given.shape} of {given.dtype}.")
    outside = np.flatnonzero((given < 0) | (given >= num_classes))
    if outside.size:
        raise InputError(
            f"labels must lie in [0, {num_classes}), but row {outside[0]} has {given[outside[0]]}; check num_classes."
        )
    return np.array(given, dtype=np.int64)

"""CG-Score: how much more a wide network has to move to learn a row as well; no network is trained.

Ki, Choi and Chung, "Data Valuation Without Training of a Model", ICLR 2023, https://huggingface.co/papers/2301.00930.

With H the Gram matrix of an infinitely wide two-layer ReLU network, H_ij = x_i.x_j (pi - arccos(x_i.x_j)) / (2 pi) on
unit-norm rows, and y = 1 for the rows of one class, -1 for as many random rows of the others, the score of row i of
the class is the gap of complexity y' H^-1 y - y_(-i)' H_(-i)^-1 y_(-i), H_(-i) and y_(-i) without row i. Rows with
large gaps are kept, so wrong labels are among the first.
"""

import numpy as np
from scipy.linalg import lapack

from ...errors import InputError
from ...scores.arrays import Array, checked_labels, row_blocks
from .inputs import unit_embeds


# Added to the diagonal of H, which is 1/2: without it the matrix of rows that repeat has no inverse.
_RIDGE = 1e-6
_STREAM = 5


def cg_score_gigabytes(labels: np.ndarray) -> float:
    """Memory of the largest Gram matrix that the scores need, in float64, in GB of 10^9 bytes.

    Args:
        labels (`np.ndarray` of shape `(num_rows,)`): Given classes, integers from 0.

    Returns:
        `float`: `8 m^2 / 10^9`, m the rows of the largest class and as many of the others.
    """
    sizes = np.bincount(labels)
    return 8e-9 * float((sizes + np.minimum(sizes, len(labels) - sizes)).max()) ** 2


def cg_scores(
    embeds: Array, labels: Array, *, seed: int, num_draws: int = 1, max_gigabytes: float = 8.0
) -> np.ndarray:
    """Complexity gap of each row.

    By the inverse of a block matrix the gap is `(H^-1 y)_i^2 / (H^-1)_ii`, so each class takes one factorisation, of
    `O(m^3)` time and 8 m^2 bytes: 10,000 rows of 10 classes take 3 seconds of a core (AMD EPYC), and ten times as many
    a thousand times as long.
    Deviations: the rows are embeddings (the paper takes pixels), and 1e-6 is added to the diagonal of H.

    Args:
        embeds (`np.ndarray` or `torch.Tensor` of shape `(N, D)`): Image embeddings, normalised here.
        labels (`np.ndarray` or `torch.Tensor` of shape `(N,)`): Given classes, integers from 0.
        seed (`int`): Decides which rows of the other classes a class is set against.
        num_draws (`int`, *optional*, defaults to 1): Draws of them that the scores are averaged over.
        max_gigabytes (`float`, *optional*, defaults to 8.0): The largest matrix allowed.

    Returns:
        `np.ndarray` of shape `(N,)`: Gaps, float32, at least 0, higher is kept first.

    Raises:
        InputError: Shapes don't match, a row is zero or not finite, a label is negative, or a class is too large for
            the memory.
    """
    images = unit_embeds(embeds)
    labels = checked_labels(labels, num_rows=len(images))
    check_cg_memory(labels, max_gigabytes)
    scores = np.zeros(len(labels))
    for label in np.flatnonzero(np.bincount(labels)).tolist():
        own, others = np.flatnonzero(labels == label), np.flatnonzero(labels != label)
        for draw in range(num_draws):
            rng = np.random.default_rng([seed, _STREAM, label, draw])
            drawn = rng.choice(others, size=min(len(own), len(others)), replace=False)
            rows = images[np.concatenate([own, drawn])]
            signs = np.where(np.arange(len(rows)) < len(own), 1.0, -1.0)
            scores[own] += complexity_gaps(rows, signs)[: len(own)] / num_draws
    return scores.astype(np.float32)


def check_cg_memory(labels: np.ndarray, max_gigabytes: float) -> None:
    """Refuse a dataset whose largest Gram matrix would not fit.

    Args:
        labels (`np.ndarray` of shape `(num_rows,)`): Given classes, integers from 0.
        max_gigabytes (`float`): The largest matrix allowed.

    Raises:
        InputError: It needs more.
    """
    needed = cg_score_gigabytes(labels)
    if needed > max_gigabytes:
        raise InputError(
            f"cg_score needs a matrix of {needed:.1f} GB for the largest class, of {np.bincount(labels).max()} rows, "
            f"and {max_gigabytes:g} GB are allowed; raise max_gigabytes if the machine has that much, select from a "
            "sample of the rows, or take another method."
        )


def complexity_gaps(rows: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """What each row adds to `y' H^-1 y`.

    Args:
        rows (`np.ndarray` of shape `(m, D)`): Unit-norm rows.
        signs (`np.ndarray` of shape `(m,)`): y, each 1 or -1.

    Returns:
        `np.ndarray` of shape `(m,)`: Gaps, float64, at least 0.
    """
    # In Fortran's order LAPACK works in place: the matrix is there once.
    gram = np.empty((len(rows), len(rows)), order="F")
    rows = rows.astype(np.float64)
    for block in row_blocks(len(rows), width=len(rows)):
        cosines = np.clip(rows @ rows[block].T, -1, 1)
        gram[:, block] = cosines * (np.pi - np.arccos(cosines)) / (2 * np.pi)
    np.fill_diagonal(gram, 0.5 + _RIDGE)
    # H = L L', so that H^-1 = L'^-1 L^-1: its diagonal are the squared lengths of the columns of L^-1.
    lower, failed = lapack.dpotrf(gram, lower=1, overwrite_a=1)
    if failed:  # cannot be: H is positive semidefinite, and the ridge is far above rounding
        raise np.linalg.LinAlgError(f"the Gram matrix of {len(rows)} rows is not positive definite at row {failed}")
    inverse, _ = lapack.dtrtri(lower, lower=1, overwrite_c=1)
    solved = inverse.T @ (inverse @ signs)
    return solved**2 / np.einsum("nm,nm->m", inverse, inverse)

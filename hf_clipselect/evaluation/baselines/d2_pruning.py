"""D2 pruning: hard rows that differ, by messages over the graph of nearest rows.

Adyasha Maharana, Prateek Yadav and Mohit Bansal, "D2 Pruning: Message Passing for Balancing Diversity and Difficulty
in Data Pruning", ICLR 2024, https://huggingface.co/papers/2310.07931.

Shapes: N rows, D embedding dimension, k neighbours.
"""

from heapq import heapify, heappop, heappush

import numpy as np
from scipy.sparse import csr_array
from sklearn.neighbors import NearestNeighbors

from ...errors import InputError
from ...scores.arrays import Array
from .inputs import checked_count, checked_scores, unit_embeds


def d2_rows(
    embeds: Array, scores: np.ndarray, count: int, *, num_neighbors: int = 10, gamma: float = 1.0
) -> np.ndarray:
    """Pick hard rows one by one; each pick makes its neighbours less wanted (section 3 of the paper).

    The graph joins two rows if one is among the k nearest others of the other; d is their distance.

    1. Forward: the value of a row i becomes `score_i + sum over its neighbours j of exp(-d_ij) * score_j`, so that
       rows in hard and dense surroundings rise.
    2. The row with the highest value is picked; of equal ones the lower row number.
    3. Reverse: from the value of each neighbour j of the picked row i, `exp(-gamma * d_ij)` times the value of i is
       taken. Back to step 2.

    **The first n picks are the selection of n.** Values below 0 are passed on as well, so late picks lift their
    neighbours.

    Deviations from the paper: embeddings are normalised to unit length, so that d lies in [0, 2] and, with `gamma` 1,
    the weights from 0.13 to 1; the hardest rows are not dropped beforehand, nor are classes balanced. The kernels are
    those of the published code. Costs O(N^2 D) for the graph (scikit-learn, in blocks, never N x N) and O(N k log N)
    for the picks.

    Args:
        embeds (`np.ndarray` or `torch.Tensor` of shape `(N, D)`): Image embeddings, normalised here.
        scores (`np.ndarray` of shape `(N,)`): Difficulty of at least 0, higher is harder: EL2N, forgetting events, ...
        count (`int`): Rows to keep, in `[1, N]`.
        num_neighbors (`int`, *optional*, defaults to 10): k, at least 1; N - 1 where there are no more.
        gamma (`float`, *optional*, defaults to 1.0): How fast the reverse messages fade with the distance, at least 0;
            the lower, the more diverse. The paper searches 0 to 1 for each count.

    Returns:
        `np.ndarray` of shape `(count,)`: Row numbers in the order of the picks, int64.

    Raises:
        InputError: Shapes don't match, a row is zero or not finite, a score is not finite or negative, or an argument
            is out of range.
    """
    images = unit_embeds(embeds)
    scores = checked_scores(scores, len(images))
    count = checked_count(count, len(images))
    if scores.min() < 0:
        row = int(scores.argmin())
        raise InputError(
            f"scores must be at least 0 to be passed on, got {scores[row]} in row {row}; subtract the lowest."
        )
    num_neighbors = min(checked_count(num_neighbors, name="num_neighbors"), len(images) - 1)
    if not 0 <= gamma < np.inf:
        raise InputError(f"gamma must be a number of at least 0, got {gamma}.")
    starts, columns, distances = _graph(images, num_neighbors)
    messages = np.exp(-distances) * scores[columns]
    values = scores + np.bincount(np.repeat(np.arange(len(images)), np.diff(starts)), messages, len(images))
    return _pick(values.tolist(), starts, columns, np.exp(-gamma * distances), count)


def _graph(images: np.ndarray, num_neighbors: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both directions of every edge as compressed sparse rows: starts of the rows, other ends, distances."""
    num_rows = len(images)
    if num_neighbors == 0:
        return np.zeros(num_rows + 1, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0)
    search = NearestNeighbors(n_neighbors=num_neighbors, algorithm="brute").fit(images)
    distances, nearest = search.kneighbors()  # without the row itself
    # The distances of copies are 0, which a sparse matrix would not keep, so 1 is added.
    listed = csr_array(
        (1 + distances.ravel(), nearest.ravel(), np.arange(num_rows + 1) * num_neighbors), shape=(num_rows, num_rows)
    )
    edges = listed.maximum(listed.T).tocsr()
    edges.sort_indices()  # messages are added up in one order
    return edges.indptr, edges.indices, edges.data - 1


def _pick(values: list[float], starts: np.ndarray, columns: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """Always the highest value, from a heap that also holds values that have changed since."""
    picks: list[int] = []
    picked = [False] * len(values)
    heap = [(-value, row) for row, value in enumerate(values)]
    heapify(heap)
    while len(picks) < count:
        negative, row = heappop(heap)
        if picked[row] or -negative != values[row]:
            continue
        picked[row] = True
        picks.append(row)
        edges = slice(starts[row], starts[row + 1])
        for other, weight in zip(columns[edges].tolist(), weights[edges].tolist(), strict=True):
            if not picked[other]:
                values[other] -= weight * values[row]
                heappush(heap, (-values[other], other))
    return np.array(picks, dtype=np.int64)

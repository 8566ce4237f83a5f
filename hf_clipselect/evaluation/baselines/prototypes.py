"""Self-supervised prototypes: how far a row is from what is typical.

Ben Sorscher, Robert Geirhos, Shashank Shekhar, Surya Ganguli and Ari S. Morcos, "Beyond neural scaling laws: beating
power law scaling via data pruning", NeurIPS 2022, https://huggingface.co/papers/2206.14486.

Shapes: N rows, D embedding dimension, K prototypes.
"""

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans

from ...scores.arrays import Array, row_blocks
from .inputs import checked_count, unit_embeds


# Up to so many rows k-means takes all of them in every step; beyond, it takes small batches to save time.
_FULL_UP_TO = 100_000
_SMALLEST_LENGTH = 1e-12


def prototype_scores(embeds: Array, *, num_clusters: int, seed: int) -> np.ndarray:
    """Cosine distance of each row to the nearest prototype (section 5 of the paper).

    The prototypes are the centres of k-means on the unit-norm embeddings: scikit-learn's `KMeans`, or
    `MiniBatchKMeans` for more than 100,000 rows. The score of a row x is the minimum over the prototypes p of `1 -
    cos(x, p)`. No label is looked at.

    A high score is a hard, untypical row. The paper **keeps the hardest**, `top_k(scores, count)`, where data are
    plentiful, and shows that with few rows per class the easiest are better, `top_k(-scores, count)`. Damaged images
    and, as far as they look it, rows with a wrong label are untypical too. A ranking: **the selections of all counts
    are nested**.

    Deviations from the paper: embeddings of the caller (there SwAV's), and no floor under the classes (there each
    keeps at least half of its share).

    Args:
        embeds (`np.ndarray` or `torch.Tensor` of shape `(N, D)`): Image embeddings, normalised here.
        num_clusters (`int`): Prototypes, in `[1, N]`; the paper takes as many as there are classes.
        seed (`int`): Seed of the first prototypes (and of the batches).

    Returns:
        `np.ndarray` of shape `(N,)`: Scores, float32, in [0, 2], higher is farther from every prototype.

    Raises:
        InputError: A row is zero or not finite, or `num_clusters` is out of range.
    """
    images = unit_embeds(embeds)
    num_clusters = checked_count(num_clusters, len(images), "num_clusters")
    method = KMeans if len(images) <= _FULL_UP_TO else MiniBatchKMeans
    centres = method(num_clusters, random_state=seed).fit(images).cluster_centers_
    # The centre of rows that point everywhere has no direction.
    directions = centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), _SMALLEST_LENGTH)
    scores = np.empty(len(images), dtype=np.float32)
    for block in row_blocks(len(images), width=max(directions.shape)):
        scores[block] = 1 - (images[block] @ directions.T.astype(np.float32)).max(axis=1)
    return np.clip(scores, 0, 2)

"""Clusters of images, which stand in for classes where there are captions instead.

Legend: N rows, K clusters, D embed_dim.
"""

from collections.abc import Callable

import numpy as np

from ..errors import InputError


# Rows of a cluster, about, where K is not given: diversity compares them with each other, and costs N^2 / K.
ROWS_PER_CLUSTER, MAX_CLUSTERS = 250, 1000
# A cluster below this part of the mean size is dissolved: diversity and quotas say nothing about a handful of rows.
TINY = 0.1
# More rows for each centroid do not make it better.
_ROWS_PER_CENTROID = 256
_BATCH_ROWS = 4096


def default_num_clusters(num_rows: int) -> int:
    """About 250 rows in each cluster, and at most 1,000 clusters."""
    return min(max(round(num_rows / ROWS_PER_CLUSTER), 1), MAX_CLUSTERS)


def check_num_clusters(num_clusters: int | None, num_rows: int) -> None:
    """Raise `InputError` where there would be no cluster, or more clusters than rows."""
    if num_clusters is not None and not 1 <= num_clusters <= num_rows:
        raise InputError(f"--num_clusters must lie between 1 and the number of rows, {num_rows}; got {num_clusters}.")


def image_clusters(
    embed: Callable[[np.ndarray], np.ndarray], num_rows: int, *, num_clusters: int | None = None, seed: int = 42
) -> np.ndarray:
    """Share N rows out among K clusters of like images, by k-means: the cluster of each row, `(N,)`, int64, from 0,
    none of them empty, the largest first.

    The centroids are found on at most 256 rows for each. Clusters of less than a tenth of the mean size are dissolved:
    their rows go to the nearest of the others. So there may be fewer clusters than were asked for.

    `embed` turns row numbers `(count,)` into unit-norm image embeddings `(count, D)`, float32, and is called for some
    rows at a time. K lies in `[1, N]`, by default as [`default_num_clusters`]; raises `InputError` otherwise.
    """
    return find_clusters(embed, num_rows, num_clusters=num_clusters, seed=seed)[0]


def find_clusters(
    embed: Callable[[np.ndarray], np.ndarray], num_rows: int, *, num_clusters: int | None = None, seed: int = 42
) -> tuple[np.ndarray, np.ndarray]:
    """What [`image_clusters`] gives, and the centroids of the clusters, `(K, D)`, float32, to find those of further
    rows by [`nearest_centroids`]; takes and raises the same.
    """
    from sklearn.cluster import MiniBatchKMeans  # here, because it takes a second to import
    from threadpoolctl import threadpool_limits

    check_num_clusters(num_clusters, num_rows)
    count = default_num_clusters(num_rows) if num_clusters is None else num_clusters
    rng = np.random.default_rng([seed, 6])
    sample = np.sort(rng.choice(num_rows, min(num_rows, _ROWS_PER_CENTROID * count), replace=False))
    means = MiniBatchKMeans(count, batch_size=_BATCH_ROWS, n_init=3, random_state=seed)
    with threadpool_limits(1):  # how many threads there are would decide the last digits of the centroids
        centroids = means.fit(embed(sample)).cluster_centers_.astype(np.float32)
    clusters = _nearest(embed, num_rows, centroids)
    sizes = np.bincount(clusters, minlength=count)
    large = np.flatnonzero(sizes >= TINY * num_rows / count)
    if len(large) < (sizes > 0).sum():
        clusters = large[_nearest(embed, num_rows, centroids[large])]
        sizes = np.bincount(clusters, minlength=count)
    by_size = np.argsort(-sizes, kind="stable")
    rank = np.empty(count, dtype=np.int64)
    rank[by_size] = np.arange(count)
    return rank[clusters], centroids[by_size[: (sizes > 0).sum()]]


def nearest_centroids(embeds: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The cluster `(n,)`, int64, whose centroid `(K, D)` is nearest to each of some embeddings `(n, D)`."""
    half_squares = np.einsum("kd,kd->k", centroids, centroids) / 2
    return (embeds @ centroids.T - half_squares).argmax(axis=1)


def cluster_names(clusters: np.ndarray) -> list[str]:
    """What clusters are called in tables and reports."""
    return [f"cluster {number}" for number in range(int(clusters.max()) + 1)]


def _nearest(embed: Callable[[np.ndarray], np.ndarray], num_rows: int, centroids: np.ndarray) -> np.ndarray:
    chunks = np.split(np.arange(num_rows), range(_BATCH_ROWS, num_rows, _BATCH_ROWS))
    return np.concatenate([nearest_centroids(embed(rows), centroids) for rows in chunks])

import numpy as np
import pytest

from hf_clipselect.errors import InputError
from hf_clipselect.scores import clusters as module
from hf_clipselect.scores.clusters import (
    cluster_names,
    default_num_clusters,
    find_clusters,
    image_clusters,
    nearest_centroids,
)


def blobs(sizes, dim=16, spread=0.05, seed=0):
    """Unit rows around centres that are far apart, in random order, and the blob of each."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = np.linalg.qr(rng.normal(size=(dim, dim)))[0][labels] + spread * rng.normal(size=(len(labels), dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


def test_blobs_are_found_and_numbered_by_falling_size():
    rows, labels = blobs([30, 200, 90])
    found = image_clusters(rows.__getitem__, len(rows), num_clusters=3)
    assert found.dtype == np.int64
    # Blob 1 is the largest, then 2, then 0.
    assert found.tolist() == np.array([2, 0, 1])[labels].tolist()
    assert cluster_names(found) == ["cluster 0", "cluster 1", "cluster 2"]


def test_rows_of_tiny_clusters_go_to_the_nearest_of_the_others():
    rows, labels = blobs([300, 300, 9], spread=0.01)
    rows[labels == 2] = rows[labels == 2] + 0.3 * rows[labels == 1][0]  # nearer to blob 1 than to blob 0
    found = image_clusters(rows.__getitem__, len(rows), num_clusters=3)
    assert found.max() == 1
    assert len(set(found[labels == 1])) == 1 and set(found[labels == 2]) == set(found[labels == 1])


def test_further_rows_go_to_the_cluster_of_their_centroid():
    rows, labels = blobs([300, 200, 9, 90], spread=0.01)
    rows[labels == 2] = rows[labels == 2] + 0.3 * rows[labels == 1][0]  # a tiny cluster, which is dissolved
    clusters, centroids = find_clusters(rows.__getitem__, len(rows), num_clusters=4)
    assert clusters.tolist() == image_clusters(rows.__getitem__, len(rows), num_clusters=4).tolist()
    assert centroids.shape == (3, 16) and centroids.dtype == np.float32
    assert nearest_centroids(rows, centroids).tolist() == clusters.tolist()
    distances = np.linalg.norm(rows[:, None] - centroids[None], axis=2)
    assert distances.argmin(axis=1).tolist() == clusters.tolist()


def test_no_cluster_is_empty_where_rows_repeat():
    rows = np.repeat(np.eye(4, dtype=np.float32)[:2], 20, axis=0)
    found = image_clusters(rows.__getitem__, 40, num_clusters=7)
    assert sorted(set(found)) == [0, 1] and len(set(found[:20])) == len(set(found[20:])) == 1


def test_embeddings_are_asked_for_in_parts_and_give_the_same(monkeypatch):
    rows, _ = blobs([400, 300, 200, 100], spread=0.3)
    expected = image_clusters(rows.__getitem__, 1000, num_clusters=4)
    monkeypatch.setattr(module, "_ROWS_PER_CENTROID", 60)
    monkeypatch.setattr(module, "_BATCH_ROWS", 128)
    asked = []

    def embed(some):
        asked.append(len(some))
        return rows[some]

    sampled = image_clusters(embed, 1000, num_clusters=4)
    assert max(asked) == 240 and sum(asked) == 1240
    assert (sampled == expected).mean() > 0.95
    assert sampled.tolist() == image_clusters(embed, 1000, num_clusters=4).tolist()


def test_numbers_of_clusters():
    assert [default_num_clusters(n) for n in (1, 100, 500, 10_000, 10_000_000)] == [1, 1, 2, 40, 1000]
    rows, _ = blobs([10, 10])
    assert image_clusters(rows.__getitem__, 20).tolist() == [0] * 20
    with pytest.raises(InputError, match="--num_clusters must lie between 1 and the number of rows, 20; got 21"):
        image_clusters(rows.__getitem__, 20, num_clusters=21)

"""A map of the rows in two dimensions, and `map.parquet`, in which viewers of embeddings read it.

`embedding-atlas map.parquet --x x --y y --neighbors neighbors --image image` shows it: the ids of `neighbors` are
places of rows in this file, from 0, their distances 1 - cosine, and `image` has the fields bytes and path.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..runtime.files import unused_name


MAP_NAME = "map.parquet"
# t-SNE of so many rows takes half a minute on two cores, and more points would cover each other.
MAX_MAP_ROWS = 5000
# Rows that are compared with all others at once, in 20 MB.
_CHUNK_ROWS = 1024
# Raised when the same embeddings would be placed otherwise.
_FORMAT = 1
_METADATA = b"hf_clipselect"
_PCA_DIMENSIONS, _PERPLEXITY, _NUM_NEIGHBORS = 50, 30, 10
_PLACES = ("source_index", "x", "y", "neighbors")
_NEIGHBORS = pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float32()))])


class EmbedRows(Protocol):
    """What has embeddings of rows by their number in the source, such as [`CachedEmbeds`]."""

    def take(self, source_index: np.ndarray, /) -> np.ndarray:
        """Unit-norm embeddings `(n, D)`, float32."""
        ...


def make_map(embeds: EmbedRows, source_index: np.ndarray, *, seed: int, earlier: pa.Table | None = None) -> pa.Table:
    """Place rows in two dimensions, so that rows that are alike lie near each other, and list the nearest of each.

    Of more than 5,000 rows so many are drawn at random, so that every class has about its share. Their embeddings go
    through PCA to at most 50 dimensions, then through scikit-learn's t-SNE. The nearest 10 rows are those of the
    highest cosines within the sample, by the embeddings themselves.

    Args:
        embeds (`EmbedRows`): Has the embeddings of all these rows.
        source_index (`np.ndarray` of shape `(N,)`): The rows to draw from, by their number in the source.
        seed (`int`): Of the sample and of t-SNE.
        earlier (`pa.Table`, *optional*): A map that is given back if it was made from the same embeddings and seed.

    Returns:
        `pa.Table`: The columns source_index (int64, rising), x, y (float32) and neighbors (struct of ids, int64, which
            are places in this table, and distances, float32, 1 - cosine, the nearest first).
    """
    rows = np.sort(np.asarray(source_index, dtype=np.int64))
    if len(rows) > MAX_MAP_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_MAP_ROWS, replace=False))
    vectors = embeds.take(rows)
    key = _key(vectors, rows, seed)
    if earlier is not None and _recorded_key(earlier) == key:
        return earlier.select(_PLACES)
    places = _places(vectors, seed)
    columns = [pa.array(rows), pa.array(places[:, 0]), pa.array(places[:, 1]), _neighbors(vectors)]
    return pa.table(dict(zip(_PLACES, columns, strict=True))).replace_schema_metadata({_METADATA: json.dumps(key)})


def write_map(output_dir: str | Path, table: pa.Table) -> None:
    """Write `map.parquet` into the output folder of a run, whole or not at all; its columns begin with a map's."""
    path = Path(output_dir).absolute() / MAP_NAME  # pyarrow reads `run:1/...` as a URL
    temporary = unused_name(path)
    try:
        # Few rows a group: viewers read images as they are shown.
        pq.write_table(table, temporary, row_group_size=500)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_map(output_dir: str | Path) -> pa.Table | None:
    """The columns source_index, x, y and neighbors of `map.parquet`; None where there is none that can be read."""
    try:
        with (Path(output_dir) / MAP_NAME).open("rb") as file:
            table = pq.read_table(file, columns=list(_PLACES))
    except (OSError, pa.ArrowException):
        return None
    return table if tuple(table.column_names) == _PLACES else None


def _key(vectors: np.ndarray, rows: np.ndarray, seed: int) -> dict[str, str | int]:
    content = hashlib.sha256(str(vectors.shape).encode() + rows.tobytes() + np.ascontiguousarray(vectors).tobytes())
    return {"format": _FORMAT, "seed": int(seed), "embeds": content.hexdigest()}


def _recorded_key(table: pa.Table) -> object:
    try:
        return json.loads((table.schema.metadata or {}).get(_METADATA, b"null"))
    except ValueError:
        return None


def _places(vectors: np.ndarray, seed: int) -> np.ndarray:
    """Places `(n, 2)`, float32: t-SNE for more than three rows that are not all the same."""
    # scikit-learn takes long to import, and few calls draw a map.
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    places = np.zeros((len(vectors), 2), dtype=np.float32)
    if np.ptp(vectors, axis=0).max() == 0:
        return places
    reduced = PCA(min(_PCA_DIMENSIONS, *vectors.shape), svd_solver="covariance_eigh").fit_transform(vectors)
    # Where t-SNE starts: the first two dimensions, as small as its authors advise.
    places[:, : reduced.shape[1]] = reduced[:, :2]
    if len(vectors) <= 3:
        return places
    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init=1e-4 * places / places[:, 0].std(), random_state=seed)
    placed: np.ndarray = tsne.fit_transform(reduced)
    return placed


def _neighbors(vectors: np.ndarray) -> pa.StructArray:
    """The nearest rows of each, which is not its own neighbour; of rows that are equally near the first ones."""
    count, lists = min(_NUM_NEIGHBORS, len(vectors) - 1), []
    for start in range(0, len(vectors), _CHUNK_ROWS):
        cosines = vectors[start : start + _CHUNK_ROWS] @ vectors.T
        own = np.arange(len(cosines))
        cosines[own, start + own] = -np.inf
        ids = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
        distances = np.maximum(1 - np.take_along_axis(cosines, ids, axis=1), 0)
        lists += [{"ids": near, "distances": far} for near, far in zip(ids, distances, strict=True)]
    return pa.array(lists, _NEIGHBORS)

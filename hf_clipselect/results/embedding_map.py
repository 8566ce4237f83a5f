"""A map of the rows in two dimensions, and `map.parquet`, in which viewers of embeddings read it.

Apple's Embedding Atlas takes its columns x, y, neighbors and image by flags of these names: the ids of `neighbors` are
places of rows in this file, from 0, their distances 1 - cosine, and `image` has the fields bytes and path.
"""

import hashlib
import io
import json
import logging
import os
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as PILImage

from ..data import LabelledImages
from ..runtime.files import unused_name
from ..selection import column_suffix
from .report.thumbnails import small_images
from .scores_table import column_values
from .selection_result import SelectionResult


logger = logging.getLogger(__name__)

MAP_NAME = "map.parquet"
# t-SNE of so many rows takes half a minute on two cores, and more points would cover each other.
MAX_MAP_ROWS = 5000
# Rows that are compared with all others at once, in 20 MB.
_CHUNK_ROWS = 1024
# Rows whose images are read, and written as a row group, together.
_GROUP_ROWS = 500
_IMAGE_SIDE = 224
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
        logger.info("The map of the same embeddings is there: nothing to draw.")
        return earlier.select(_PLACES)
    logger.info("Drawing a map of %d rows, which may take a minute.", len(rows))
    places = _places(vectors, seed)
    columns = [pa.array(rows), pa.array(places[:, 0]), pa.array(places[:, 1]), _neighbors(vectors)]
    return pa.table(dict(zip(_PLACES, columns, strict=True))).replace_schema_metadata({_METADATA: json.dumps(key)})


def with_what_is_known(places: pa.Table, result: SelectionResult, images: LabelledImages | None) -> pa.Table:
    """Put what a run says of its rows, and small images, behind the columns of a map.

    The columns are label, predicted_label and, where a noise model judged, clean_label (string, names of classes) and
    label_error_probability (float32), then kept (bool, of the first size) and, unless there are no images, caption
    (string) where rows have captions, and image (struct of bytes, a JPEG file of at most 224 pixels a side or null
    for one that can't be read now, and path, `<source_index>.jpg`).
    """
    scores, shown = result.scores, places.column("source_index").to_numpy()
    rows = np.searchsorted(column_values(scores, "source_index"), shown)
    for name in ("label", "predicted_label", "clean_label"):
        if name in scores.column_names:
            class_names = pa.array(scores.features[name].names, pa.string())
            places = places.append_column(name, class_names.take(pa.array(column_values(scores, name)[rows])))
    if "label_error_probability" in scores.column_names:
        probability = column_values(scores, "label_error_probability")[rows]
        places = places.append_column("label_error_probability", pa.array(probability))
    kept = column_values(scores, f"selected_{column_suffix(result.ratios[0])}")[rows]
    places = places.append_column("kept", pa.array(kept))
    if images is None:
        return places
    if images.has_captions:
        captions = [images.class_names[number] for number in images.labels[rows]]
        places = places.append_column("caption", pa.array(captions, pa.string()))
    return places.append_column("image", _small_images(images, rows))


def write_map(output_dir: str | Path, table: pa.Table) -> None:
    """Write `map.parquet` into the output folder of a run, whole or not at all; its columns begin with a map's."""
    path = Path(output_dir).absolute() / MAP_NAME  # pyarrow reads `run:1/...` as a URL
    temporary = unused_name(path)
    try:
        pq.write_table(table, temporary, row_group_size=_GROUP_ROWS)
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


def _small_images(images: LabelledImages, rows: np.ndarray) -> pa.Array:
    cells = []
    for start in range(0, len(rows), _GROUP_ROWS):  # decoded images take a hundred times the memory of their files
        some = rows[start : start + _GROUP_ROWS]
        small = small_images(images.dataset, images.image_column, some, max_side=_IMAGE_SIDE)
        cells += [_image_cell(small[row], int(images.source_index[row])) for row in some]
    return pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def _image_cell(image: PILImage.Image | None, source_index: int) -> dict[str, bytes | str] | None:
    if image is None:
        return None
    buffer = io.BytesIO()
    image.save(buffer, format="jpeg", quality=85)
    return {"bytes": buffer.getvalue(), "path": f"{source_index}.jpg"}


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

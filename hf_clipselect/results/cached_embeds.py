"""The features that a run left in its folder, by the row numbers of the source: which rows are alike, without a model.

They are the model's features before its projection, where adapters act; for showing what is near they serve as well.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..encoder.cache import whole_features
from ..encoder.feature_rows import FeatureRows
from ..errors import InputError


# Rows that are compared at once; of 1,024 numbers each they take 64 MB.
_CHUNK_ROWS = 16384


class CachedEmbeds:
    """Unit-norm features of the rows of a run, mapped from files and copied when they are asked for.

    `features` `(N, H)` are those of the rows considered, `source_index` `(N,)`, int64, rising, tells which rows of the
    source these are, and `unreadable` which places have no features.
    """

    def __init__(self, features: FeatureRows, source_index: np.ndarray, unreadable: Collection[int]) -> None:
        self._features, self._source_index = features, source_index
        self._has_features = np.ones(len(source_index), dtype=bool)
        self._has_features[list(unreadable)] = False

    @property
    def source_index(self) -> np.ndarray:
        """The rows that have features: int64, rising."""
        return self._source_index[self._has_features]

    def take(self, source_index: np.ndarray) -> np.ndarray:
        """Features `(n, H)`, float32, unit-norm, of the rows with these numbers in the source, in any order.

        Raises `InputError` for a row that the run did not consider, or could not read.
        """
        wanted = np.asarray(source_index, dtype=np.int64)
        places, there = self._places(wanted)
        if not there.all():
            raise InputError(
                f"The run has no features of row {wanted[~there][0]} of the source: it did not consider the row, or "
                "could not read its image."
            )
        return self._take(places)

    def nearest(self, row: int, among: np.ndarray, k: int) -> np.ndarray:
        """The `k` rows of `among`, or fewer where there are no more, that are most like a row, the most alike first.

        Takes and gives row numbers in the source, int64; of rows that are equally alike the lower number comes first.
        The row itself and rows without features are left out. Raises `InputError` as [`take`] for the row itself.
        """
        embedding = self.take(np.array([row]))[0]
        among = np.unique(np.asarray(among, dtype=np.int64))
        places, there = self._places(among)
        there &= among != row
        among, places = among[there], places[there]
        cosines = np.empty(len(places), dtype=np.float32)
        for start in range(0, len(places), _CHUNK_ROWS):
            chunk = slice(start, start + _CHUNK_ROWS)
            cosines[chunk] = self._take(places[chunk]) @ embedding
        return among[np.argsort(-cosines, kind="stable")[:k]]

    def _places(self, source_index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The places of rows among those considered, and which of them have features there."""
        places = np.searchsorted(self._source_index, source_index)
        places = np.minimum(places, len(self._source_index) - 1)
        return places, (self._source_index[places] == source_index) & self._has_features[places]

    def _take(self, places: np.ndarray) -> np.ndarray:
        features = self._features.take(places)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        return features


def open_cached_embeds(output_dir: str | Path) -> CachedEmbeds | None:
    """The features in the output folder of a run; None where they are not there whole, as in a published repository.

    Takes a moment for a million rows: files are mapped, and no row is read.
    """
    output_dir = Path(output_dir)
    opened = whole_features(output_dir / "features")
    if opened is None:
        return None
    features, unreadable = opened
    try:
        with (output_dir / "scores.parquet").open("rb") as file:
            source_index = pq.read_table(file, columns=["source_index"]).column(0).to_numpy()
    except (OSError, pa.ArrowException):
        return None
    if len(source_index) != len(features):  # of a run that was interrupted before it wrote its scores
        return None
    return CachedEmbeds(features, source_index, unreadable)

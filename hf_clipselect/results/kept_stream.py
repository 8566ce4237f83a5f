"""The kept rows of a stream, filtered while it is read."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features, IterableDataset
from datasets.iterable_dataset import ArrowExamplesIterable

from ..data import GIVEN_LABEL, SUBSET_COLUMNS
from ..data.labels import written_labels
from ..data.row_facts import check_id_column
from ..data.source import DatasetSource, LabelsHash
from ..data.stream_rows import check_in_order, typed_tables, with_features
from ..errors import InputError
from ..runtime.words import counted
from .scores_table import column_values


def kept_of_stream(stream: IterableDataset, scores: Dataset, suffix: str, source: DatasetSource) -> IterableDataset:
    """The kept rows of one size as a stream, with the columns that `kept_rows` adds, and in the stream's format.

    Takes the stream that was selected from, or the dataset as a stream; the scores table; the suffix of the size's
    columns; and the source. Nothing is read before the result is. Where the rows have ids, the stream may be a part of
    it in any order, and rows of other ids are left out, but not all of them; else it has to be the whole one, in its
    own order.

    Raises `InputError` where the stream is shuffled and rows have no ids, or lacks a column; and when it is read,
    where its labels or, without ids, their number are others than those that were selected from, an id comes twice, or
    none is known.
    """
    id_column = source.id_column if "row_id" in scores.column_names else None
    if id_column is None:
        check_in_order(stream)
    stream = with_features(stream)
    if id_column is not None:
        check_id_column(id_column, stream.features)
    needed = {source.image_column, source.label_column}
    if missing := needed - {"", *stream.column_names}:
        raise InputError(
            f"This is not the stream that the selection was made from: it has no column {', '.join(sorted(missing))}. "
            f"Pass {source.describe()}, with its rows in their order."
        )
    is_reviewed = GIVEN_LABEL in scores.column_names
    ours = [*SUBSET_COLUMNS, GIVEN_LABEL] if is_reviewed else [*SUBSET_COLUMNS]
    own = {name: feature for name, feature in stream.features.items() if name not in ours}
    added = {name: scores.features[name] for name in ("source_index", "sas", "sds")}
    added["selection_score"] = scores.features[f"selection_score_{suffix}"]
    if is_reviewed:
        added[GIVEN_LABEL] = own[source.label_column]
    features = Features({**own, **added})
    names = ("source_index", "sas", "sds", f"selection_score_{suffix}", f"selected_{suffix}", "label")
    columns = {name: column_values(scores, name) for name in names}
    given = column_values(scores, GIVEN_LABEL) if is_reviewed else columns["label"]
    kept = _KeptRows(
        stream=stream.decode(False),
        source=source,
        features=features,
        label_feature=stream.features.get(source.label_column),
        considered=columns.pop("source_index"),
        is_kept=columns.pop(f"selected_{suffix}"),
        labels=columns.pop("label"),
        given=given,
        scores=columns,
        class_names=scores.features["label"].names,
        has_classes="better_caption" not in scores.column_names,
        ids=None if id_column is None else scores.with_format("arrow")["row_id"][:],
    )
    result = IterableDataset(
        ArrowExamplesIterable(_numbered, {"kept": kept}),
        info=DatasetInfo(features=features),
        split=stream.split,
        token_per_repo_id=stream._token_per_repo_id,
    )
    return result if stream._formatting is None else result.with_format(stream._formatting.format_type)


@dataclass(frozen=True)
class _KeptRows:
    """All that decides the kept rows of a stream; arrays are `(N,)`, one entry for each row considered."""

    stream: IterableDataset
    source: DatasetSource
    features: Features
    label_feature: object
    considered: np.ndarray
    is_kept: np.ndarray
    labels: np.ndarray
    given: np.ndarray
    scores: dict[str, np.ndarray]
    class_names: list[str]
    has_classes: bool
    ids: pa.ChunkedArray | None

    def tables(self) -> Iterator[pa.Table]:
        """The kept rows, a few at once, in the order of the stream."""
        yield from self._by_position() if self.ids is None else self._by_id(self.ids)

    def _by_id(self, ids: pa.ChunkedArray) -> Iterator[pa.Table]:
        known, start, first = pd.Index(ids.to_pylist()), 0, None
        seen = np.zeros(len(known), dtype=bool)
        for table in typed_tables(self.stream):
            given = table.column(self.source.id_column).cast(pa.string())
            first = given[0].as_py() if start == 0 and len(given) else first
            places = known.get_indexer(given.to_pylist())
            rows, places = table.filter(pa.array(places >= 0)), places[places >= 0]
            self._check_are_new(places, seen, known)
            seen[places] = True
            yield from self._kept(rows, places, start, start + len(table))
            start += len(table)
        if start and not seen.any():
            raise InputError(
                f"None of the {counted(start, 'row')} of the stream has an id that the selection knows: the first has "
                f"{self.source.id_column} {first!r}, and the first row of the selection {known[0]!r}. Pass "
                f"{self.source.describe()}, or a part of it with rows that were considered, with the ids written as "
                "they were."
            )

    def _check_are_new(self, places: np.ndarray, seen: np.ndarray, known: pd.Index) -> None:
        """Refuse rows that come again, of which a subset has each once; `seen` `(N,)` are those of before."""
        again = seen[places] | pd.Series(places).duplicated().to_numpy()
        if again.any():
            raise InputError(
                f"The stream gives the row with {self.source.id_column} {known[places[again.argmax()]]!r} twice; pass "
                "one that has each row once, and repeat what apply gives."
            )

    def _by_position(self) -> Iterator[pa.Table]:
        start, labels = 0, LabelsHash()
        for table in typed_tables(self.stream):
            stop = start + len(table)
            first, last = np.searchsorted(self.considered, [start, stop])
            places = np.arange(first, last)
            if self.source.label_column:
                labels.add(table.column(self.source.label_column))
            if stop > self.source.num_rows:
                raise self._other(f"it has more than {self.source.num_rows} rows")
            yield from self._kept(table.take(self.considered[places] - start), places, start, stop)
            start = stop
        if start != self.source.num_rows:
            raise self._other(f"it has {start} rows, and it had {self.source.num_rows}")
        if self.source.content_id.startswith("labels-") and not self.source.content_id.startswith(labels.id):
            raise self._other("labels differ")

    def _kept(self, rows: pa.Table, places: np.ndarray, start: int, stop: int) -> Iterator[pa.Table]:
        """The kept ones of some rows that were considered, from between two rows of the stream."""
        written = self._checked_labels(rows, places, start, stop)
        kept = self.is_kept[places]
        if kept.any():
            yield self._joined(rows, places, written).filter(kept)

    def _checked_labels(self, rows: pa.Table, places: np.ndarray, start: int, stop: int) -> pa.Array | None:
        """The labels after decisions, as the column writes them; None where there are no classes."""
        if not self.has_classes or not self.source.label_column or not len(rows):
            return None
        values = rows.column(self.source.label_column).combine_chunks()
        values = pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values
        given, labels = self.given[places], self.labels[places]
        try:
            return written_labels(values, self.label_feature, given, labels, self.class_names)
        except InputError:
            if not np.array_equal(given, labels):
                raise
            raise self._other(f"labels differ between row {start} and row {stop}") from None

    def _joined(self, rows: pa.Table, places: np.ndarray, written: pa.Array | None) -> pa.Table:
        columns = {name: rows.column(name) for name in self.features if name in rows.column_names}
        columns["source_index"] = pa.array(self.considered[places])
        for name, values in self.scores.items():
            columns["selection_score" if name.startswith("selection_score_") else name] = pa.array(values[places])
        if GIVEN_LABEL in self.features and written is not None:
            columns[GIVEN_LABEL] = rows.column(self.source.label_column)
            columns[self.source.label_column] = written
        return pa.table({name: columns[name] for name in self.features}).cast(self.features.arrow_schema)

    def _other(self, why: str) -> InputError:
        return InputError(
            f"This is not the stream that the selection was made from: {why}. Pass {self.source.describe()}, with its "
            "rows in their order; of a run with --max_train_samples, .take so many."
        )


def _numbered(kept: _KeptRows) -> Iterator[tuple[tuple[int, int], pa.Table]]:
    for number, table in enumerate(kept.tables()):
        yield (0, number), table

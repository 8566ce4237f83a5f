"""What a caller passes as a stream: one split of it, with features, in its own order."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, IterableDataset, IterableDatasetDict, Value
from datasets.arrow_writer import OptimizedTypedSequence
from datasets.table import InMemoryTable

from ..errors import InputError
from ..runtime.words import cut


# Rows that are in memory at once, with their images.
BATCH_ROWS = 64


def is_stream(dataset: Any) -> bool:
    """Whether a caller passed a stream, or a dictionary of streams."""
    return isinstance(dataset, (IterableDataset, IterableDatasetDict))


def one_stream(dataset: Any) -> IterableDataset:
    """The one split of a stream that a caller passed; `InputError` where there are several."""
    if isinstance(dataset, IterableDatasetDict):
        if len(dataset) != 1:
            raise InputError(
                f"Expected one split of a stream, got the splits {', '.join(map(str, dataset)) or 'of an empty one'}. "
                "Pass one of them, or load it alone with load_dataset(..., split='train', streaming=True)."
            )
        [dataset] = dataset.values()
    return dataset


def check_in_order(rows: IterableDataset) -> None:
    """Raise `InputError` for a stream whose rows have no positions that mean anything elsewhere, or that never ends.

    Such are a shuffled one and one that mixes others by a chance that no seed fixes.
    """
    for part, has_end in _parts_of(rows):
        kind = type(part).__name__
        if "Shuffled" in kind:
            raise InputError(
                "The stream is shuffled, and its rows are known by their positions, which are others then. Pass the "
                "stream as it was before .shuffle; what .apply gives of it can be shuffled."
            )
        if kind.startswith("RandomlyCycling") and not _has_seed(part.generator):
            raise InputError(
                "The stream mixes others by chance and without a seed, so it gives other rows in every process, and "
                "its rows are known by their positions. Pass interleave_datasets(..., probabilities=..., seed=0)."
            )
        if kind == "RepeatExamplesIterable" and part.num_times is None and not has_end:
            raise InputError(
                "The stream is repeated without an end. Pass it as it was before .repeat, or with .take(n) behind it."
            )


def datasets_of_stream(rows: IterableDataset) -> list[Dataset]:
    """The datasets whose rows a stream gives, of one that `to_iterable_dataset` made, or several."""
    shards = (shard for part, _ in _parts_of(rows) for shard in getattr(part, "kwargs", {}).get("shards", []))
    return [shard for shard in shards if isinstance(shard, Dataset)]


def with_features(rows: IterableDataset) -> IterableDataset:
    """A stream that tells its features, which may come from its first rows; `InputError` where these tell none."""
    try:
        known = rows._resolve_features()
    except pa.ArrowInvalid as error:
        if "did not recognize Python value type" not in str(error):
            raise
        known = rows  # with images that PIL opened, which are no values of Arrow
    if known.features is None:
        raise InputError(
            "The stream does not tell what its columns are. Give their types: "
            "IterableDataset.from_generator(..., features=Features(...)) and .map(..., features=...) take them, and "
            ".cast(Features(...)) adds them."
        )
    return known


def typed_tables(rows: IterableDataset) -> Iterator[pa.Table]:
    """The rows of a stream with features, at most 64 at once, in tables of these features."""
    if rows._ex_iterable.iter_arrow is not None:
        yield from rows.with_format("arrow").iter(BATCH_ROWS)
        return
    # Of rows that are made one by one `datasets` would make a table each, whose types depend on the values: those of a
    # null and of a text would not go into one batch.
    features = rows.features
    hollow = [name for name, feature in features.items() if feature == Value("null")]
    for batch in rows.with_format(None).iter(BATCH_ROWS):
        for name in hollow:
            _check_hollow(name, batch[name])
        columns = {
            name: OptimizedTypedSequence(features.encode_column(batch[name], name), type=feature, col=name)
            for name, feature in features.items()
        }
        yield InMemoryTable.from_pydict(columns).table


def _check_hollow(name: str, values: list[Any]) -> None:
    """Raise `InputError` where a column holds something whose type was not known, as its first rows were empty."""
    found = next((value for value in values if value is not None), None)
    if found is not None:
        raise InputError(
            f"The column {name} of the stream is empty in its first rows, so that its type is not known, and holds "
            f"{cut(repr(found), 80)} later. Give the types of the columns with features=Features(...) or "
            ".cast(Features(...)), or leave this one out with .remove_columns."
        )


def _parts_of(rows: IterableDataset) -> Iterator[tuple[Any, bool]]:
    """What a stream is made of, from its last step to its origins, and whether a step behind has given it an end."""
    waiting = [(rows._ex_iterable, False)]
    while waiting:
        part, has_end = waiting.pop()
        yield part, has_end
        has_end |= type(part).__name__ == "TakeExamplesIterable"
        parts = [part.ex_iterable] if hasattr(part, "ex_iterable") else getattr(part, "ex_iterables", [])
        waiting += [(inner, has_end) for inner in parts]


def _has_seed(generator: np.random.Generator) -> bool:
    entropy = getattr(generator.bit_generator.seed_seq, "entropy", None)
    return not isinstance(entropy, int) or entropy.bit_length() <= 64  # without a seed numpy takes 128 bits

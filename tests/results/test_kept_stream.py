"""`apply` to a stream: the kept rows while it is read, and an error where it is another one."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, IterableDataset, Value
from torch.utils.data import DataLoader

from hf_clipselect import SelectionResult, select_dataset, select_embeddings
from hf_clipselect.data.decisions import Decision
from hf_clipselect.embedded import load_digits_dataset
from hf_clipselect.errors import InputError


@pytest.fixture(scope="module")
def rows() -> Dataset:
    return load_digits_dataset("train").select(range(150))


def selected(rows: Any, clip_folder: Any, **settings: Any) -> SelectionResult:
    return select_dataset(rows, model_name_or_path=clip_folder, objective="clean", adaptation="off", **settings)


@pytest.fixture(scope="module")
def result(rows, clip_folder) -> SelectionResult:
    return selected(rows.to_iterable_dataset(), clip_folder, selection_ratio=[0.3, 0.5])


def image_bytes(dataset: Dataset) -> list[bytes]:
    return [row["bytes"] for row in dataset.cast_column("image", Image(decode=False))["image"]]


def with_texts(rows: Dataset) -> Dataset:
    names = rows.features["label"].names
    features = Features({**rows.features, "label": Value("string")})
    return rows.map(lambda row: {"label": names[row["label"]]}, features=features)


def stream_of(rows: Dataset, changed: dict[int, dict[str, Any]] | None = None) -> IterableDataset:
    def read() -> Iterator[dict[str, Any]]:
        for number, row in enumerate(rows):
            yield {**row, **(changed or {}).get(number, {})}

    return IterableDataset.from_generator(read, features=rows.features)


def test_the_kept_rows_are_those_of_a_dataset(rows, result):
    expected = result.apply(rows)
    for stream in (stream_of(rows), rows.to_iterable_dataset(num_shards=5)):
        kept = result.apply(stream)
        assert isinstance(kept, IterableDataset) and kept.features == expected.features
        for _ in range(2):  # it can be read as often as the stream
            found = Dataset.from_list(list(kept.decode(False)), features=expected.features)
            assert found.with_format("arrow")[:].drop(["image"]) == expected.with_format("arrow")[:].drop(["image"])
            assert image_bytes(found) == image_bytes(expected)
    larger = result.at(0.5).apply(stream_of(rows))
    assert [row["source_index"] for row in larger] == result.at(0.5).selected.tolist()


def test_other_images_with_the_same_labels_are_another_dataset(rows, result, tmp_path):
    labels, order = np.array(rows["label"][:]), np.arange(len(rows))
    for label in range(10):
        of_class = np.flatnonzero(labels == label)
        order[of_class] = np.roll(of_class, 1)
    other = rows.select(order)
    assert other["label"][:] == rows["label"][:]
    for use in (lambda: result.apply(other), lambda: result.save(tmp_path / "saved", other)):
        with pytest.raises(InputError, match="labels or images differ"):
            use()
    assert len(result.apply(rows)) == len(result.selected)


def test_nothing_is_read_before_a_row_is_asked_for(rows, result):
    asked = []

    def read() -> Iterator[dict[str, Any]]:
        for row in rows:
            asked.append(1)
            yield row

    kept = result.apply(IterableDataset.from_generator(read, features=rows.features))
    assert asked == []
    first = next(iter(kept))
    assert first["source_index"] == result.selected[0] and len(asked) < 150


def test_formats_and_loaders(rows, result):
    numbers = result.apply(rows.to_iterable_dataset().select_columns(["image", "label"]).with_format("torch"))
    assert torch.is_tensor(next(iter(numbers))["image"])
    plain = result.apply(rows.to_iterable_dataset(num_shards=4)).remove_columns("image")
    loaded = DataLoader(plain, batch_size=None, num_workers=0)
    assert [row["source_index"] for row in loaded] == result.selected.tolist()


@pytest.mark.slow
def test_a_result_of_a_stream_knows_the_dataset_and_the_other_way_round(rows, result, clip_folder):
    other = selected(rows, clip_folder, selection_ratio=[0.3, 0.5])
    assert [row["source_index"] for row in other.apply(stream_of(rows))] == other.selected.tolist()
    turned = rows.map(lambda row: {"label": 9 - row["label"]}, features=rows.features)
    with pytest.raises(InputError, match="labels or images differ"):
        result.apply(turned)
    with pytest.raises(InputError, match="made from 150 rows, the dataset has 149"):
        result.apply(rows.select(range(149)))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda rows: stream_of(rows, {100: {"label": (rows[100]["label"] + 1) % 10}}),
            "labels differ between row 64 ",
        ),
        (lambda rows: stream_of(rows.select(range(140))), "it has 140 rows, and it had 150"),
        (lambda rows: stream_of(rows).skip(1), "labels differ between row 0 and row 64"),
        (lambda rows: stream_of(Dataset.from_list([*rows, rows[0]], features=rows.features)), "more than 150 rows"),
    ],
    ids=["label", "fewer", "skipped", "more"],
)
def test_another_stream_is_told_where_it_differs(change, told, rows, result):
    kept = result.apply(change(rows))
    with pytest.raises(InputError, match=told):
        list(kept)


def test_a_stream_that_cannot_be_the_one_is_refused_at_once(rows, result):
    with pytest.raises(InputError, match=r"shuffled.*before \.shuffle"):
        result.apply(stream_of(rows).shuffle(seed=0))
    with pytest.raises(InputError, match="it has no column label"):
        result.apply(stream_of(rows).remove_columns("label"))
    with pytest.raises(InputError, match="Expected a datasets.Dataset, whose rows have numbers"):
        result.save("nowhere", stream_of(rows))


@pytest.mark.slow
def test_texts_as_labels_and_other_names(rows, clip_folder):
    names = rows.features["label"].names
    texts = with_texts(rows)
    given = selected(stream_of(texts), clip_folder, class_names=[f"a drawn {name}" for name in sorted(names)])
    kept = list(given.apply(stream_of(texts)))
    assert [row["label"] for row in kept] == texts.select(given.selected)["label"][:]
    # The names tell nothing of the texts: what differs is known at the end.
    other = stream_of(texts, {140: {"label": "one"}, 141: {"label": "two"}})
    with pytest.raises(InputError, match="labels differ"):
        list(given.apply(other))


@pytest.mark.slow
@pytest.mark.parametrize("as_text", [False, True])
def test_decisions_are_in_the_labels(as_text, rows, clip_folder):
    if as_text:
        rows = with_texts(rows)
    before = selected(rows, clip_folder, selection_ratio=0.9).selected[:2].tolist()
    decisions = {row: Decision(row, "relabel", "five") for row in before}
    given = selected(stream_of(rows), clip_folder, selection_ratio=0.99, decisions=decisions)
    expected, kept = given.apply(rows), list(given.apply(stream_of(rows)))
    for column in ("source_index", "label", "given_label", "selection_score"):
        assert [row[column] for row in kept] == expected[column][:], column
    assert [row["label"] for row in kept if row["source_index"] in before] == [("five" if as_text else 5)] * 2


def test_embeddings_select_rows_of_a_stream_by_their_number(rows):
    rng = np.random.default_rng(0)
    labels = np.array(rows["label"][:])
    given = select_embeddings(rng.normal(size=(150, 8)), rng.normal(size=(10, 8)), labels, adaptation="off")
    assert [row["source_index"] for row in given.apply(stream_of(rows))] == given.selected.tolist()

"""A stream in shards: never in memory, read twice, with the same rows each time."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Features, Image, IterableDataset, Value, interleave_datasets, load_dataset

from hf_clipselect.config.arguments import DataArguments
from hf_clipselect.data.image_stream import ImageStream, open_stream
from hf_clipselect.data.source import describe_source, load_stream
from hf_clipselect.embedded import load_digits_dataset
from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.benchmark.memory import PeakMemory


def opened(rows: IterableDataset, **settings: object) -> ImageStream:
    return open_stream(rows, describe_source(rows), **settings)[0]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    rows = load_digits_dataset("train").select(range(150))
    return rows.add_column("note", [f"note {number}" for number in range(150)])


def test_shards_hold_all_rows_in_order_and_hash_their_images(digits, tmp_path):
    stream = opened(digits.to_iterable_dataset(num_shards=7), label_column_name="label", held_columns=["note", None])
    files = [row["bytes"] for row in digits.cast_column("image", Image(decode=False))["image"]]
    found = []
    for shard in stream.shards(40, tmp_path):
        images = [image["bytes"] for image in shard.images["image"]]
        expected = hashlib.sha256()
        for image in images:
            expected.update(len(image).to_bytes(8, "big") + image)
        assert shard.start == len(found) and shard.content == expected.hexdigest()
        assert shard.held.column("note").to_pylist() == digits["note"][shard.start : shard.start + len(images)]
        found += images
    assert found == files and list(tmp_path.iterdir()) == []
    assert stream.label_column == "label" and stream.held == ("label", "note")


def test_the_second_reading_leaves_what_nobody_needs_empty(digits, tmp_path):
    stream = opened(digits.to_iterable_dataset(), label_column_name="label")
    shards = [(shard.held, shard.content) for shard in stream.shards(64, tmp_path)]
    held = Dataset.from_dict({"label": digits["label"][:]}, features=Features({"label": digits.features["label"]}))
    needed = np.zeros(150, dtype=bool)
    needed[[0, 63, 64, 149]] = True
    again = stream.again(held, needed, [content for _, content in shards], 64, tmp_path / "rows")
    assert again.features == digits.features and again["label"][:] == digits["label"][:]
    whole = again.with_format("arrow")[:].filter(needed)
    assert whole.equals(digits.select([0, 63, 64, 149]).with_format("arrow")[:].cast(whole.schema))
    assert again.with_format("arrow")[:]["note"].null_count == again.with_format("arrow")[:]["image"].null_count == 146
    contents = [content for _, content in shards]
    contents[1] = contents[0]
    with pytest.raises(InputError, match="other rows from row 64 on"):
        stream.again(held, needed, contents, 64, tmp_path / "rows")


def test_files_on_this_machine_are_read_where_they_lie(digits, tmp_path):
    (tmp_path / "images").mkdir()
    paths = [str(tmp_path / "images" / f"{number}.png") for number in range(6)]
    for row, path in zip(digits, paths, strict=False):
        row["image"].save(path)
    rows = Dataset.from_dict({"file": [*paths, str(tmp_path / "gone.png")], "label": [0, 1, 0, 1, 0, 1, 0]})
    [shard] = opened(rows.to_iterable_dataset(), image_column_name="file").shards(64, tmp_path)
    assert shard.images["file"][0] == {"bytes": None, "path": paths[0]}
    digest = hashlib.sha256()
    for path in [*paths, None]:
        content = b"" if path is None else Path(path).read_bytes()
        digest.update(len(content).to_bytes(8, "big") + content)
    assert shard.content == digest.hexdigest()


@pytest.mark.parametrize("count", [40, 150])
def test_a_stream_that_cannot_begin_anew_is_refused(count, digits, tmp_path):
    once = iter(digits.cast_column("image", Image(decode=False)).select(range(count)).to_list())
    stream = opened(IterableDataset.from_generator(lambda: once, features=digits.features), label_column_name="label")
    with pytest.raises(InputError, match=r"other rows from row 0 on.*let its generator begin anew"):
        list(stream.shards(64, tmp_path))


def opened_doors(digits: Dataset, folder: Path) -> dict[str, tuple[IterableDataset, str]]:
    """Row by row, with values that are null in some rows of a batch, or of changing types; and the label's column."""
    rows = digits.cast_column("image", Image(decode=False)).to_list()
    for number, row in enumerate(rows):
        row["note"] = None if number < 70 else f"note {number}"
        row["image"] = {"bytes": row["image"]["bytes"], "path": None if number < 20 else f"{number}.png"}
        row["depth"] = number if number % 2 else number / 2
    rows[30]["image"] = None
    rows[40]["label"] = None
    features = Features({**digits.features, "depth": Value("float32")})
    stream = IterableDataset.from_generator(lambda: iter(rows), features=features)
    Dataset.from_list(rows, features=features).to_parquet(folder / "rows.parquet")
    table = load_dataset("parquet", data_files=str(folder / "rows.parquet"), split="train", streaming=True)
    (folder / "pictures").mkdir()
    lines = []
    with tarfile.open(folder / "rows.tar", "w") as tar:
        for number, image in enumerate(digits.cast_column("image", Image(decode=False))["image"]):
            (folder / "pictures" / f"{number}.png").write_bytes(image["bytes"])
            told = json.dumps({"note": None if number % 7 == 3 else "dark"}).encode()
            for name, content in {"png": image["bytes"], "cls": b"3", "json": told}.items():
                info = tarfile.TarInfo(f"{number:05d}.{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            lines.append(json.dumps({"file_name": f"{number}.png", "label": "a", "note": rows[number]["note"]}))
    (folder / "pictures" / "metadata.jsonl").write_text("\n".join(lines))
    by_name = {
        name: load_stream(DataArguments(dataset_name=str(folder / name)))[0] for name in ("rows.tar", "pictures")
    }
    return {
        "generator": (stream, "label"),
        "renamed": (table.rename_column("label", "target"), "target"),
        "mapped": (table.map(dict, features=features), "label"),
        "threads": (table.decode(num_threads=2), "label"),
        "tar": (by_name["rows.tar"], "cls"),
        "folder": (by_name["pictures"], "label"),
    }


def test_values_may_be_missing_in_rows_that_come_one_by_one(digits, tmp_path):
    for name, (rows, label) in opened_doors(digits, tmp_path).items():
        stream = opened(rows, label_column_name=label)
        tables = list(stream.batches())
        assert {len(table) for table in tables} == {64, 22} and sum(map(len, tables)) == 150, name
        assert {table.schema for table in tables} == {stream.features.arrow_schema}, name
        if name in ("generator", "renamed", "mapped", "threads"):
            assert [tables[0].column(column)[row].as_py() for column, row in (("image", 30), (label, 40))] == [
                None
            ] * 2
            assert tables[1].column("note").to_pylist() == [None] * 6 + [f"note {row}" for row in range(70, 128)]
            assert tables[2].column("depth").to_pylist() == [row if row % 2 else row / 2 for row in range(128, 150)]


def test_images_of_the_web_are_refused_with_their_row(digits):
    rows = digits.cast_column("image", Image(decode=False)).to_list()
    rows[70]["image"] = {"bytes": None, "path": "https://example.org/70.png"}
    stream = opened(Dataset.from_list(rows, features=digits.features).to_iterable_dataset(), label_column_name="label")
    with pytest.raises(
        InputError, match=r"example.org/70.png at source_index 6.*Counted from row 64 of the stream on"
    ):
        list(stream.batches())


def test_a_stream_of_the_hub_that_a_caller_opened_may_not_name_files_of_this_machine(digits, tmp_path):
    path = str(tmp_path / "secret.png")
    digits[0]["image"].save(path)
    rows = digits.cast_column("image", Image(decode=False)).to_list()
    rows[70]["image"] = {"bytes": None, "path": path}
    of_hub = Dataset.from_list(rows, features=digits.features).to_iterable_dataset()
    of_hub._token_per_repo_id = {"someone/hostile": None}  # as `load_dataset` tells where a stream is from
    told = r"source_index 6 of the dataset hf://datasets/someone/hostile names the file .*Counted from row 64"
    for stream in (of_hub, of_hub.take(100)):
        with pytest.raises(InputError, match=told):
            list(opened(stream, label_column_name="label").batches())
    allowed = opened(of_hub, label_column_name="label", allow_outside_files=True)
    assert sum(map(len, allowed.batches())) == 150


def test_files_that_break_are_told_with_the_row(digits, tmp_path):
    for name in ("torn", "other"):
        (tmp_path / name).mkdir()
        digits.to_parquet(tmp_path / name / "train-0.parquet")
    whole = (tmp_path / "torn" / "train-0.parquet").read_bytes()
    (tmp_path / "torn" / "train-1.parquet").write_bytes(whole[: len(whole) // 2])
    digits.add_column("extra", range(150)).to_parquet(tmp_path / "other" / "train-1.parquet")
    for name, told in {"torn": "ArrowInvalid: .*magic bytes", "other": "CastError: Couldn't cast"}.items():
        rows, source = load_stream(DataArguments(dataset_name=str(tmp_path / name)))
        stream, _ = open_stream(rows, source, label_column_name="label")
        with pytest.raises(
            InputError, match=rf"{name}.* can't be read from row \d+ on.*the same command goes on.*{told}"
        ):
            list(stream.batches())


def test_a_broken_line_of_json_is_told_as_such(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"image": "0.png", "label": "a"}\n{"image": "1.png", "label": "b')
    rows, source = load_stream(DataArguments(dataset_name=str(tmp_path / "rows.jsonl")))
    with pytest.raises(InputError, match=r"rows.jsonl.*can't be read from row 0 on: ArrowInvalid: JSON parse error"):
        open_stream(rows, source)


def test_endless_streams_and_those_of_unknown_chance_are_refused(digits):
    stream = digits.to_iterable_dataset()
    for endless in (stream.repeat(None), stream.repeat(None).skip(3)):
        with pytest.raises(InputError, match=r"without an end.*\.take\("):
            opened(endless, label_column_name="label")
        opened(endless.take(20), label_column_name="label")
        opened(endless, label_column_name="label", max_samples=20)
    opened(stream.repeat(2), label_column_name="label")
    both = {"datasets": [stream, stream], "probabilities": [0.5, 0.5]}
    with pytest.raises(InputError, match=r"other rows in every process.*seed="):
        opened(interleave_datasets(**both).take(20), label_column_name="label")
    opened(interleave_datasets(**both, seed=0), label_column_name="label")


@pytest.mark.slow
def test_images_are_never_in_memory(tmp_path):
    """160 MB of images, with at most a tenth of it more memory than before."""

    def rows() -> Iterator[dict]:
        for number in range(4000):
            yield {"image": {"bytes": np.random.default_rng(number).bytes(40_000), "path": None}, "label": number % 2}

    features = Features({"image": Image(), "label": Value("int64")})
    stream = opened(IterableDataset.from_generator(rows, features=features))
    with PeakMemory() as memory:
        sizes = [len(shard.images) for shard in stream.shards(4096, tmp_path)]
    assert sizes == [4000]
    assert memory.peak - memory.before < 40_000_000

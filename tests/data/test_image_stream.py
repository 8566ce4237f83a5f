"""A stream in shards: never in memory, read twice, with the same rows each time."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Features, Image, IterableDataset, Value

from hf_clipselect.data.image_stream import ImageStream, open_stream
from hf_clipselect.data.source import describe_source
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


@pytest.mark.slow
def test_images_are_never_in_memory(tmp_path):
    """160 MB of images, with at most a tenth of it more memory than before."""

    def rows() -> Iterator[dict]:
        for number in range(4000):
            yield {"image": {"bytes": os.urandom(40_000), "path": None}, "label": number % 2}

    features = Features({"image": Image(), "label": Value("int64")})
    stream = opened(IterableDataset.from_generator(rows, features=features))
    with PeakMemory() as memory:
        sizes = [len(shard.images) for shard in stream.shards(4096, tmp_path)]
    assert sizes == [4000]
    assert memory.peak - memory.before < 40_000_000

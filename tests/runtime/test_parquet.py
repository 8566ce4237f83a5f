from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value, concatenate_datasets, load_dataset

from hf_clipselect.data import read_images
from hf_clipselect.errors import InputError
from hf_clipselect.runtime import parquet
from hf_clipselect.runtime.parquet import write_parquet


def encoded(dataset: Dataset) -> list[bytes]:
    return [image["bytes"] for image in dataset.with_format(None).cast_column("image", Image(decode=False))["image"]]


def read(folder: Path) -> Dataset:
    return load_dataset("parquet", data_files=str(folder / "train-*.parquet"), split="train")


def groups_of(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_FEWEST_ROWS", rows)
    monkeypatch.setattr(parquet, "_MOST_ROWS", rows)
    monkeypatch.setattr(parquet, "_GROUP_BYTES", 1)


def test_round_trip_keeps_features_values_and_image_bytes(images_dataset: Dataset, tmp_path: Path) -> None:
    extra = Dataset.from_dict(
        {"id": list(range(60)), "words": [["a", "b"]] * 60, "score": [0.5, None] * 30, "caption": ["ä \n"] * 60},
        features=Features(
            {"id": Value("int32"), "words": [Value("string")], "score": Value("float32"), "caption": Value("string")}
        ),
    )
    dataset = concatenate_datasets([images_dataset, extra], axis=1)
    (path,) = write_parquet(dataset, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "train-00000-of-00001.parquet"
    back = read(path.parent)
    assert back.features == dataset.features
    assert isinstance(back.features["label"], ClassLabel)
    assert encoded(back) == encoded(dataset)
    plain = [name for name in dataset.column_names if name != "image"]
    assert back.select_columns(plain)[:] == dataset.select_columns(plain)[:]


def test_dataset_is_not_decoded(tmp_path: Path) -> None:
    broken = [{"bytes": b"no image at all", "path": "a.png"}, None]
    dataset = Dataset.from_dict({"image": broken}, features=Features({"image": Image()}))
    write_parquet(dataset, tmp_path)
    stored = pq.read_table(tmp_path / "train-00000-of-00001.parquet").column("image").to_pylist()
    assert [image and image["bytes"] for image in stored] == [b"no image at all", None]


def test_files_whose_paths_look_like_a_chain_of_urls(tmp_path: Path) -> None:
    (tmp_path / "a::b").mkdir()
    paths = [tmp_path / "a::b" / name for name in ("0.png", "x::y.png")]
    for path in paths:
        path.write_bytes(path.name.encode())
    images = [str(paths[0]), {"bytes": b"given", "path": "no::file.png"}, None, str(paths[1])]
    dataset = Dataset.from_dict({"image": images}, features=Features({"image": Image()}))
    write_parquet(dataset.select([3, 2, 1, 0]), tmp_path / "out")
    stored = pq.read_table(tmp_path / "out" / "train-00000-of-00001.parquet").column("image").to_pylist()
    assert [image and image["bytes"] for image in stored] == [b"x::y.png", None, b"given", b"0.png"]


def test_several_shards(images_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups_of(10, monkeypatch)
    group_bytes = images_dataset.with_format("arrow")[:10].combine_chunks().nbytes
    monkeypatch.setattr(parquet, "_SHARD_BYTES", int(1.5 * group_bytes))
    paths = write_parquet(images_dataset, tmp_path)
    assert [path.name for path in paths] == [f"train-0000{shard}-of-00003.parquet" for shard in range(3)]
    assert sorted(tmp_path.iterdir()) == paths  # no temporary file is left
    assert [pq.read_metadata(path).num_rows for path in paths] == [20, 20, 20]
    back = load_dataset(str(tmp_path), split="train")
    assert back.features == images_dataset.features
    assert encoded(back) == encoded(images_dataset)
    assert back["label"][:] == images_dataset["label"][:]


def test_number_of_groups_that_does_not_divide_the_rows(
    images_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups_of(25, monkeypatch)
    (path,) = write_parquet(images_dataset, tmp_path)
    metadata = pq.read_metadata(path)
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [25, 25, 10]
    assert encoded(read(tmp_path)) == encoded(images_dataset)


def test_groups_grow_to_about_the_same_number_of_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_FEWEST_ROWS", 2)
    monkeypatch.setattr(parquet, "_GROUP_BYTES", 20_000)
    texts = ["x" * 10] * 3000 + ["y" * 5_000] * 40 + ["z" * 10] * 3000
    (path,) = write_parquet(Dataset.from_dict({"text": texts}), tmp_path)
    metadata = pq.read_metadata(path)
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    assert min(sizes) <= 20 and max(sizes) > 1000 and len(sizes) < 25
    assert [row["text"] for row in load_dataset(str(tmp_path), split="train")] == texts


def test_shards_of_an_earlier_dataset_do_not_stay(
    images_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test-00000-of-00001.parquet").write_text("mine")
    with monkeypatch.context() as patch:
        groups_of(10, patch)
        patch.setattr(parquet, "_SHARD_BYTES", 1)
        assert len(write_parquet(images_dataset, tmp_path)) == 6
    (tmp_path / "train-notes.txt").write_text("mine")
    write_parquet(images_dataset.select(range(4)), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "test-00000-of-00001.parquet",
        "train-00000-of-00001.parquet",
        "train-notes.txt",
    ]
    assert len(read(tmp_path)) == 4


def test_image_files_are_embedded(images_dataset: Dataset, tmp_path: Path) -> None:
    files = []
    for row, data in enumerate(encoded(images_dataset)):
        files.append(tmp_path / f"{row}.png")
        files[-1].write_bytes(data)
    dataset = Dataset.from_dict({"image": [str(file) for file in files]}, features=Features({"image": Image()}))
    write_parquet(dataset, tmp_path / "out")
    for file in files:
        file.unlink()
    back = read(tmp_path / "out")
    assert encoded(back) == encoded(images_dataset)
    assert back[7]["image"].size == (10, 12)
    # No path of this machine goes into what is published.
    assert str(tmp_path) not in str(pq.read_table(tmp_path / "out").to_pylist())


@pytest.mark.parametrize("how", ["select", "shuffle", "torch"])
def test_rows_and_formats_are_those_of_the_view(images_dataset: Dataset, tmp_path: Path, how: str) -> None:
    if how == "select":
        dataset = images_dataset.select([5, 3, 3, 40])
    elif how == "shuffle":
        dataset = images_dataset.shuffle(seed=0)
    else:
        dataset = images_dataset.with_format("torch")
    write_parquet(dataset, tmp_path)
    back = read(tmp_path)
    assert back["label"][:] == dataset.with_format(None)["label"][:]
    assert encoded(back) == encoded(dataset)


def test_no_rows(images_dataset: Dataset, tmp_path: Path) -> None:
    (path,) = write_parquet(images_dataset.select([]), tmp_path)
    assert pq.read_metadata(path).num_rows == 0
    assert Features.from_arrow_schema(pq.read_schema(path)) == images_dataset.features


def test_structures_without_a_field_are_left_out_with_a_warning(
    images_dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = images_dataset.select(range(3))
    hollow = {"json": [{}] * 3, "list": [[{}]] * 3, "deep": [{"a": {"b": {}}}] * 3}
    write_parquet(concatenate_datasets([rows, Dataset.from_dict(hollow)], axis=1), tmp_path / "a")
    assert read(tmp_path / "a").features == rows.features
    assert "left out of the subset: json, list, deep." in caplog.messages[-1]
    mixed = concatenate_datasets([rows, Dataset.from_dict({"json": [{"a": {}, "b": 1}] * 3})], axis=1)
    with pytest.raises(InputError, match="'json' has an empty structure.*remove_columns"):
        write_parquet(mixed, tmp_path / "b")
    with pytest.raises(InputError, match="'json' has an empty structure"):  # before the work
        read_images(mixed)
    assert read_images(rows.add_column("json", [{}] * 3)).dataset.column_names == rows.column_names

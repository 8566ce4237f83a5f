"""Rows that name files: those of the dataset's own folder are taken, others only where the reader wrote the rows
himself.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, Features, Image, List, Value, load_dataset
from folders import message_of, png

from hf_clipselect.config.arguments import Arguments
from hf_clipselect.data import load_source, read_images
from hf_clipselect.data.outside_files import check_files_stay_inside
from hf_clipselect.evaluation.classifier.eval_sets import load_eval_sets
from hf_clipselect.evaluation.classifier.training_arguments import ClassifierArguments
from hf_clipselect.pipeline.run import run_selection
from hf_clipselect.results.source_images import source_dataset


QUICK = {"model_name_or_path": "embedded/tiny-clip", "adaptation": "off", "use_cpu": True, "dataloader_num_workers": 0}


def cells(*paths: Any) -> list[dict[str, Any]]:
    """Eight images with bytes, then these paths without."""
    named = [{"bytes": png(row), "path": f"{row}.png"} for row in range(8)]
    return named + [{"bytes": None, "path": str(path)} for path in paths]


def write(folder: Path, images: list[Any], feature: Any = None, **columns: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    features = Features({"image": feature or Image(), "label": Value("int64")})
    features |= {name: kind for name, (_, kind) in columns.items()}
    values = {"image": images, "label": [row % 2 for row in range(len(images))]}
    values |= {name: cells for name, (cells, _) in columns.items()}
    # `to_parquet` would look into the files.
    pq.write_table(
        Dataset.from_dict(values, features=Features(features)).with_format("arrow")[:], folder / "train.parquet"
    )
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere.png"
    path.write_bytes(png(99))
    return path


@pytest.mark.parametrize(
    "spelling", ["{path}", "{folder}/../elsewhere.png", "../elsewhere.png", "{folder}2/x.png", "file://{path}"]
)
def test_a_path_that_leads_out_is_refused_with_its_row(spelling: str, tmp_path: Path, elsewhere: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "mine.png").write_bytes(png(3))
    path = spelling.format(path=elsewhere, folder=folder)
    write(folder, cells(folder / "mine.png", "./mine.png", path, path))
    dataset, source = load_source(str(folder))
    message = message_of(read_images, dataset, source)
    assert message.startswith("source_index 10 of the dataset ") and "in column 'image'" in message
    assert message.endswith("pass --allow_outside_files.")
    assert len(read_images(dataset, source, allow_outside_files=True).labels) == 12
    # Only the rows that are taken count, and a dataset that was made in memory may name any file.
    assert len(read_images(dataset.select(range(10)), source).labels) == 10
    assert message_of(read_images, dataset.select([11, 0, 3]), source).startswith("source_index 0 ")
    assert len(read_images(Dataset.from_list(dataset.to_list()).cast_column("image", Image())).labels) == 12


def test_every_column_whose_files_would_be_embedded_counts(tmp_path: Path, elsewhere: Path) -> None:
    none = [{"bytes": png(1), "path": None}] * 7
    outside = {"bytes": None, "path": str(elsewhere)}
    for number, (values, feature) in enumerate(
        [
            ([*none, outside], Image()),
            ([*none, outside], Image(decode=False)),
            ([[image] for image in none] + [[none[0], outside]], List(Image())),
            ([[image] for image in none] + [[outside]], List(Image(), length=1)),
            ([[]] + [[image] for image in none[1:]] + [[outside]], List(Image())),
            ([{"mask": image} for image in [*none, outside]], {"mask": Image()}),
            ([[{"mask": image}] for image in [*none, outside]], List({"mask": Image()})),
            ([None] * 7 + [[{"mask": [outside]}]], List({"mask": List(Image())})),
        ]
    ):
        folder = write(tmp_path / str(number), cells(), more=(values, feature))
        message = message_of(read_images, *load_source(str(folder)), image_column_name="image")
        assert message.startswith("source_index 7 of the dataset ") and "in column 'more'" in message, feature
    # What is embedded nowhere is text like any other.
    plain = [*none, outside]
    folder = write(tmp_path / "plain", cells(), more=(plain, {"bytes": Value("binary"), "path": Value("string")}))
    assert len(read_images(*load_source(str(folder)), image_column_name="image").labels) == 8


def test_links_in_a_folder_are_followed(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "store" / name).mkdir(parents=True)
        (tmp_path / "data" / name).mkdir(parents=True)
        for row in range(3):
            (tmp_path / "store" / name / f"{row}.png").write_bytes(png(row))
            (tmp_path / "data" / name / f"{row}.png").symlink_to(tmp_path / "store" / name / f"{row}.png")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    for name in ("data", "link"):
        assert len(read_images(*load_source(str(tmp_path / name))).labels) == 6


def test_urls_are_no_files_of_a_folder(tmp_path: Path) -> None:
    for url in ("s3://bucket/x.png", "zip://x.png::/etc/x.zip", "hf://datasets/a/b/x.png", "http://x.org/y.png"):
        folder = write(tmp_path / "data", cells(), mask=(cells()[:7] + cells(url)[8:], Image()))
        message = message_of(read_images, *load_source(str(folder)), image_column_name="image")
        assert f"source_index 7 of the dataset {folder} names the file {url!r} in column 'mask'" in message


def test_a_run_by_name_refuses_and_the_flag_takes_them(tmp_path: Path, elsewhere: Path) -> None:
    folder = write(tmp_path / "data", cells(elsewhere))
    settings = {**QUICK, "dataset_name": str(folder), "selection_count": [9]}
    out = tmp_path / "out"
    message = message_of(run_selection, Arguments.from_dict({**settings, "output_dir": str(out)}))
    assert str(elsewhere) in message and not out.exists()
    run_selection(Arguments.from_dict({**settings, "output_dir": str(out), "allow_outside_files": True}))
    images = load_dataset(str(out / "subset"), "count_9", split="train").cast_column("image", Image(decode=False))
    assert images[8]["image"]["bytes"] == elsewhere.read_bytes()


def test_a_table_of_paths(tmp_path: Path, elsewhere: Path) -> None:
    folder = tmp_path / "data"
    (folder / "im").mkdir(parents=True)
    for row in range(8):
        (folder / "im" / f"{row}.png").write_bytes(png(20 * row))
    lines = [f"im/{row}.png,{'ab'[row % 2]}" for row in range(8)]
    settings = {
        **QUICK,
        "dataset_name": str(folder / "train.csv"),
        "selection_count": [4],
        "image_column_name": "file",
        "output_dir": str(tmp_path / "out"),
    }
    (folder / "train.csv").write_text("\n".join(["file,kind", *lines]) + "\n")
    result = run_selection(Arguments.from_dict(settings))
    subset = load_dataset(str(tmp_path / "out" / "subset"), "count_4", split="train")
    images = subset.cast_column("file", Image(decode=False))
    assert subset.features["file"] == Image() and subset.column_names[:2] == ["file", "kind"]
    assert [image["bytes"] for image in images[:]["file"]] == [png(20 * row) for row in result.selected.tolist()]
    # The rows as anybody else loads them are known again.
    again = result.apply(load_dataset("csv", data_files=str(folder / "train.csv"), split="train"))
    assert again[:]["file"] == [f"im/{row}.png" for row in result.selected.tolist()]
    (folder / "train.csv").write_text("\n".join(["file,kind", *lines, f"{elsewhere},a"]) + "\n")
    assert "source_index 8 " in message_of(run_selection, Arguments.from_dict({**settings, "output_dir": None}))


def test_sets_to_test_a_classifier_on_are_looked_at_too(tmp_path: Path, elsewhere: Path) -> None:
    train = read_images(*load_source(str(write(tmp_path / "train", cells()))))
    lists = [[row % 2] for row in range(9)]
    for name, columns in (("labels", {}), ("lists", {"right": (lists, List(Value("int64")))})):
        folder = write(tmp_path / name, cells(elsewhere), **columns)
        label = "right" if columns else None
        given = {"eval_dataset": [f"{folder}:train"], "label_column_name": label, "architecture": "resnet-20"}
        message = message_of(load_eval_sets, ClassifierArguments(**given), train)
        assert "source_index 8 of the dataset " in message and "--allow_outside_files" in message
        [loaded] = load_eval_sets(ClassifierArguments(**given, allow_outside_files=True), train)
        assert loaded.targets[:, 0].tolist() == [row % 2 for row in range(9)]


def test_pictures_of_suspects_are_of_the_dataset_alone(tmp_path: Path, elsewhere: Path) -> None:
    folder = write(tmp_path / "data", cells(elsewhere))
    out = tmp_path / "out"
    arguments = {**QUICK, "dataset_name": str(folder), "output_dir": str(out), "allow_outside_files": True}
    result = run_selection(Arguments.from_dict(arguments))
    assert message_of(source_dataset, result, str(out)).startswith("source_index 8 of the dataset ")
    assert len(source_dataset(result, str(out), allow_outside_files=True)) == 9


def test_a_million_paths_are_looked_at_without_a_loop() -> None:
    paths = pa.array([f"/data/set/im/{row}.png" for row in range(200_000)])
    dataset = Dataset(pa.table({"image": paths, "label": np.arange(200_000) % 2})).cast_column("image", Image())
    check_files_stay_inside(dataset, folder="/data/set")
    message = message_of(check_files_stay_inside, dataset.select([5, 3]), folder="/data/other")
    assert message.startswith("source_index 0 of the dataset names the file '/data/set/im/5.png'")


@pytest.mark.parametrize("spelling", ["{}", "../private/x.parquet", "file://{}"])
def test_a_card_names_files_of_its_folder_alone(spelling: str, tmp_path: Path, images_dataset: Dataset) -> None:
    private, folder = tmp_path / "private" / "x.parquet", tmp_path / "set"
    images_dataset.to_parquet(private)
    images_dataset.to_parquet(folder / "x.parquet")
    card = "---\nconfigs:\n- config_name: default\n  data_files: {}\n---\n"
    (folder / "README.md").write_text(card.format("x.parquet"))
    assert len(load_source(str(folder))[0]) == len(images_dataset)
    (folder / "README.md").write_text(card.format(spelling.format(private)))
    message = message_of(load_source, str(folder))
    assert "lies outside of it" in message and message.startswith(f"The README.md of {folder} names "), message


@pytest.mark.parametrize("spelling", ["{}", "../private/{}"])
def test_a_saved_dataset_is_of_its_own_folder_alone(spelling: str, tmp_path: Path, images_dataset: Dataset) -> None:
    images_dataset.save_to_disk(tmp_path / "private")
    arrow = next((tmp_path / "private").glob("*.arrow"))
    named = spelling.format(arrow.name if "private" in spelling else arrow)
    DatasetDict(train=images_dataset).save_to_disk(tmp_path / "set")
    assert len(load_source(str(tmp_path / "set"))[0]) == len(images_dataset)
    state = tmp_path / "set" / "train" / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"_data_files": [{"filename": named}]}))
    for folder in (tmp_path / "set", tmp_path / "set" / "train"):
        assert f"The state.json of {folder} names {named!r}" in message_of(load_source, str(folder))
    (tmp_path / "set" / "dataset_dict.json").write_text(json.dumps({"splits": ["../private"]}))
    assert "The dataset_dict.json of" in message_of(load_source, str(tmp_path / "set"), split="../private")

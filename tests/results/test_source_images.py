"""The images behind a selection, and those that its rows may be copies of, loaded again as the run loaded them."""

import dataclasses

import pytest
from datasets import Image
from folders import message_of
from made_results import make_result

from hf_clipselect import SelectionResult
from hf_clipselect.cli import main
from hf_clipselect.results.source_images import reference_dataset, source_dataset


def cells_of(dataset):
    return [cell["bytes"] for cell in dataset.cast_column("image", Image(decode=False))["image"]]


@pytest.fixture
def folder(images_dataset, tmp_path, monkeypatch):
    """A folder of data in which only some files are those of a run."""
    parts = {"rows/train": range(0, 24), "rows/test": range(24, 30), "train": range(30, 50), "test": range(50, 60)}
    for name, rows in parts.items():
        path = tmp_path / "data" / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True, parents=True)
        images_dataset.select(rows).to_parquet(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "rows"),
    [
        ("data --data_dir rows --reference_split test", range(24)),
        ("data --data_files rows/t*.parquet", [*range(24, 30), *range(24)]),
        ("parquet --data_files data/rows/train.parquet data/rows/test.parquet", range(30)),
    ],
    ids=["data_dir", "data_files", "data_files of a reader"],
)
def test_a_part_of_a_local_folder_is_found_again(folder, images_dataset, flags, rows):
    settings = "--model_name_or_path embedded/tiny-clip --use_cpu --adaptation off --dataloader_num_workers 0"
    named = ["--dataset_name", *flags.split(), "--output_dir", "run"]
    assert main(["select", *named, *settings.split()]) == 0
    result = SelectionResult.from_folder("run")
    cells = cells_of(images_dataset)
    assert cells_of(source_dataset(result, "run")) == [cells[row] for row in rows]
    if "--reference_split" in named:
        assert cells_of(reference_dataset(result, "run")) == cells[24:30]


@pytest.mark.parametrize("name", ["{folder}/data/test.parquet", "data/test.parquet", "http://127.0.0.1:9/a.zip"])
def test_no_reference_that_a_stranger_names_is_opened(folder, images_dataset, name):
    result = make_result(images_dataset, name="me/pets", report=True)
    named = {"reference_split": "train", "reference_dataset_name": name.format(folder=folder)}
    result = dataclasses.replace(result, report=result.report | {"arguments": named})
    assert "which is no dataset on the Hub" in message_of(reference_dataset, result, "me/pruned")
    result.report["arguments"]["reference_dataset_name"] = "embedded/digits"
    assert len(reference_dataset(result, "me/pruned")) > 1000

"""The format of a dataset, and rows picked out of it, change nothing of what a subset holds."""

import pytest
from datasets import Dataset, load_dataset
from formats import FORMATS, contents, make_pictures, one_of_each_format, variants
from made_results import make_result

from hf_clipselect import SelectionResult, load_pruned, select_dataset
from hf_clipselect.data import SUBSET_COLUMNS


def assert_same_rows(subset: Dataset, source: Dataset, stored: list[dict]) -> None:
    """Those of the source, byte for byte and with its features, then our columns."""
    assert list(subset.features) == [*source.features, *SUBSET_COLUMNS]
    assert {name: subset.features[name] for name in source.features} == dict(source.features)
    rows = contents(subset)
    expected = [stored[row["source_index"]] for row in rows]
    assert [{name: row[name] for name in source.features} for row in rows] == expected


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    return make_pictures(folder)


@pytest.mark.slow
def test_subsets_that_are_applied_and_saved_hold_the_rows_of_the_source(pictures, tmp_path):
    stored = contents(pictures)
    plain = make_result(pictures, (0.3, 0.5), report=True)
    of_half = make_result(pictures, (0.5,), rows=range(0, 60, 2), report=True)
    for name, dataset in variants(pictures).items():
        assert contents(dataset) == stored, name
        for result in (plain, of_half):
            assert_same_rows(result.apply(dataset), pictures, stored)
    for place, (name, dataset) in enumerate(one_of_each_format(pictures).items()):
        plain.save(tmp_path / str(place), dataset)
        for config in ("ratio_30", "ratio_50"):
            saved = load_dataset(str(tmp_path / str(place)), config, split="train")
            assert_same_rows(saved, pictures, stored)
        again = SelectionResult.from_folder(tmp_path / str(place)).apply(dataset)
        assert contents(again) == contents(plain.apply(dataset)), name


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_is_that_of_the_dataset_again(pictures, name):
    dataset = FORMATS[name](pictures)
    subset = make_result(pictures, (0.3,)).apply(dataset)
    given, format = dataset.format, subset.format
    has_all = given["columns"] == pictures.column_names
    assert format["columns"] == (subset.column_names if has_all else given["columns"])
    assert {**format, "columns": None} == {**given, "columns": None}
    kept = subset.with_format(None)["source_index"][:]
    assert type(subset[0]) is type(dataset[kept[0]])
    assert dataset.format == given  # the caller's own is as it was


def test_columns_of_an_earlier_subset_stay_in_the_format_that_names_them(pictures):
    first = make_result(pictures, (0.5,)).apply(pictures)
    dataset = first.with_format("numpy", columns=["label", "sas"])
    subset = make_result(first, (0.5,)).apply(dataset)
    assert subset.format == {**dataset.format, "columns": ["label", "sas"]}


@pytest.mark.slow
def test_a_run_of_any_format_writes_the_rows_of_the_source(pictures, clip_folder, tmp_path):
    stored, kept = contents(pictures), set()
    for place, (name, dataset) in enumerate(one_of_each_format(pictures).items()):
        folder = tmp_path / str(place)
        result = select_dataset(
            dataset,
            model_name_or_path=clip_folder,
            label_column_name="label",
            adaptation="off",
            dataloader_num_workers=0,
            must_keep="keep",
            group_column="camera",
            output_dir=folder,
        )
        assert {4, 7} <= set(result.selected) and result.report["num_groups"] == 2, name
        kept.add(tuple(result.selected))
        assert_same_rows(load_dataset(str(folder / "subset"), "ratio_30", split="train"), pictures, stored)
        assert_same_rows(load_pruned(folder, ratio=0.3), pictures, stored)
        assert (folder / "report.html").read_text().count("data:image/") >= 18
    assert len(kept) == 1  # the encoder saw the same images

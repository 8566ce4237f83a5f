import dataclasses
import json
import logging

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Image, Value, get_dataset_config_names, load_dataset
from made_results import make_report, make_result

from hf_clipselect import SelectionResult, select_dataset, select_embeddings
from hf_clipselect.data.source import load_source
from hf_clipselect.errors import InputError
from hf_clipselect.hub import subset_card
from hf_clipselect.results.noise_summary import noise_summary
from hf_clipselect.results.saved_selection import published_report
from hf_clipselect.results.scores_table import column_values


OURS = ["source_index", "sas", "sds", "selection_score"]


def image_bytes(dataset, column="image"):
    return [value["bytes"] for value in dataset.cast_column(column, Image(decode=False))[column][:]]


@pytest.fixture
def dataset(images_dataset):
    """With a column of the user's own."""
    return images_dataset.add_column("note", [f"note {row}" for row in range(len(images_dataset))])


# Kept and dropped rows


def test_kept_and_dropped_rows_share_the_dataset_out(dataset):
    result = make_result(dataset, (0.3, 0.7))
    for rows in (result.selected, result.dropped):
        assert rows.dtype == np.int64
        assert np.array_equal(rows, np.unique(rows))
    assert len(result.selected) == 18
    assert np.array_equal(np.sort(np.concatenate([result.selected, result.dropped])), np.arange(60))
    expected = np.flatnonzero(column_values(result.scores, "selected_30"))
    assert np.array_equal(result.selected, expected)


def test_the_first_ratio_rules(dataset):
    up, down = make_result(dataset, (0.3, 0.7)), make_result(dataset, (0.7, 0.3))
    assert (len(up.selected), len(down.selected)) == (18, 42)
    assert np.array_equal(up.at(0.7).selected, down.selected)


def test_rows_are_those_of_the_dataset_as_passed(dataset):
    rows = np.arange(1, 60, 2)
    result = make_result(dataset, rows=rows, unreadable=[3, 4])
    assert len(result.selected) == 8  # floor(0.3 * 28 + 0.5)
    assert np.array_equal(np.sort(np.concatenate([result.selected, result.dropped])), rows)
    assert {7, 9} <= set(result.dropped)


# Other ratios


@pytest.mark.parametrize("objective", ["clean", "released", "paper", "robust"])
def test_another_ratio_is_what_a_run_at_that_ratio_selects(dataset, objective):
    settings = {"objective": objective, "unreadable": [0, 1], "noise": objective == "robust"}
    result = make_result(dataset, (0.3, 0.5), **settings)
    other = result.at(0.65)
    assert np.array_equal(other.selected, make_result(dataset, (0.65,), **settings).selected)
    assert other.ratios == (0.65,)
    assert len(other.selected) == 38  # floor(0.65 * 58 + 0.5)
    assert [name for name in other.scores.column_names if "select" in name] == ["selection_score_65", "selected_65"]
    assert result.ratios == (0.3, 0.5)
    assert len(result.selected) == 17


@pytest.mark.parametrize("objective", ["robust", "diverse", "paper"])
def test_auto_is_a_size_like_any_other(dataset, objective, tmp_path):
    settings = {"objective": objective, "unreadable": [0, 1], "noise": True, "report": True}
    result, first = make_result(dataset, (0.3,), **settings), make_result(dataset, ("auto", 0.3), **settings)
    right = 1 - column_values(result.scores, "label_error_probability")[2:]
    least = np.ceil(np.bincount(column_values(result.scores, "label")[2:]) / 10).sum()
    assert len(first.selected) == int(right.sum() + 0.5) > least
    for auto in (result.at("auto"), first.at("auto")):
        assert auto.ratios == ("auto",) and auto.selected.tolist() == first.selected.tolist()
        assert auto.report["arguments"]["selection_ratio"] == ["auto"]
        [subset] = auto.report["subsets"]
        assert (subset["name"], subset["suffix"], subset["rows"]) == ("ratio_auto", "auto", len(first.selected))
    assert first.at(0.3).selected.tolist() == result.selected.tolist()
    first.save(tmp_path, dataset)
    assert get_dataset_config_names(str(tmp_path)) == ["ratio_auto", "ratio_30", "scores"]
    loaded = load_dataset(str(tmp_path), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["source_index"][:] == first.selected.tolist()
    make_result(dataset, (0.3,), **settings).save(tmp_path, dataset)
    assert not list((tmp_path / "ratio_auto").glob("*"))


def test_auto_without_the_noise_model_is_told(dataset):
    with pytest.raises(InputError, match='ratio="auto" needs the column label_error_probability, which these'):
        make_result(dataset).at("auto")


@pytest.mark.parametrize("saved", [False, True], ids=["in memory", "read back"])
@pytest.mark.parametrize("of_run", [False, True], ids=["of embeddings", "of a run"])
def test_auto_is_refused_later_too_where_the_share_is_too_uncertain(dataset, tmp_path, of_run, saved):
    result = make_result(dataset, (0.3,), objective="robust", noise=True, unreadable=[0], report=of_run)
    noise = noise_summary(result.scores, share_error=0.06)
    result = dataclasses.replace(result, report={**result.report, "noise": noise})
    if saved:
        result.save(tmp_path)
        result = SelectionResult.from_folder(tmp_path)
    share = round(100 * noise["estimated_share"])
    with pytest.raises(InputError, match=f"about {share}% of the labels look wrong, give or take 6%") as error:
        result.at("auto")
    assert str(error.value).startswith('ratio="auto" keeps') and "such as ratio=0." in str(error.value)
    assert len(result.at(0.5).selected) == 30
    certain = dataclasses.replace(result, report={**result.report, "noise": noise | {"share_error": 0.05}})
    assert len(certain.at("auto").selected) > 0


def test_a_ratio_of_the_run_is_given_as_it_was_selected(dataset):
    result = make_result(dataset, (0.3, 0.5))
    for ratio in (0.3, 0.5):
        at = result.at(ratio)
        assert at.ratios == (ratio,)
        assert np.array_equal(at.selected, make_result(dataset, (ratio,)).selected)
        alone = make_result(dataset, (ratio,)).scores
        assert at.scores.column_names == alone.column_names
        assert at.scores["reason"][:] == alone["reason"][:]
    assert np.array_equal(result.at(np.float32(0.3)).selected, result.selected)


@pytest.mark.parametrize("column", ["label", "label_agrees", "sas", "margin", "sds", "duplicate_group"])
def test_another_ratio_needs_the_scores(dataset, column):
    result = make_result(dataset)
    poorer = dataclasses.replace(result, scores=result.scores.remove_columns(column))
    with pytest.raises(InputError, match=f"lack the columns {column}"):
        poorer.at(0.5)


@pytest.mark.parametrize("ratio", [0, -0.1, 1.5, float("nan"), "half", None, (0.2, 0.3)])
def test_ratios_out_of_range(dataset, ratio):
    with pytest.raises((InputError, ValueError)):
        make_result(dataset).at(ratio)


# Applying


def test_apply_gives_the_kept_rows_with_our_columns_last(dataset):
    result = make_result(dataset, (0.3, 0.5))
    kept = result.apply(dataset)
    assert kept.column_names == ["image", "label", "note", *OURS]
    assert {name: kept.features[name] for name in dataset.features} == dict(dataset.features)
    assert [kept.features[name] for name in OURS] == [Value("int64"), *[Value("float32")] * 3]
    assert kept["source_index"][:] == result.selected.tolist()
    assert kept["note"][:] == [f"note {row}" for row in result.selected]
    assert kept["label"][:] == [row % 3 for row in result.selected]
    for name, column in (("sas", "sas"), ("sds", "sds"), ("selection_score", "selection_score_30")):
        assert kept[name][:] == column_values(result.scores, column)[result.selected].tolist()
    assert image_bytes(kept) == [image_bytes(dataset)[row] for row in result.selected]
    assert kept[0]["image"].size == (10, 12)


def test_apply_at_another_ratio(dataset):
    result = make_result(dataset, (0.3,)).at(0.5)
    kept = result.apply(dataset)
    assert len(kept) == 30
    assert kept["selection_score"][:] == column_values(result.scores, "selection_score_50")[result.selected].tolist()


def test_apply_neither_copies_images_nor_loses_split_and_licence(dataset):
    dataset.info.license = "cc-by-4.0"
    dataset = Dataset(dataset.data, info=dataset.info, split="train", fingerprint="f" * 16)
    kept = make_result(dataset).apply(dataset)
    assert (kept.split, kept.info.license) == ("train", "cc-by-4.0")

    def addresses(rows):
        return [buffer.address for chunk in rows.data.column("image").chunks for buffer in chunk.buffers() if buffer]

    assert addresses(kept) == addresses(dataset)


def test_apply_with_only_some_rows_considered(dataset):
    rows = np.arange(0, 60, 3) + 1
    result = make_result(dataset, (0.5,), rows=rows, unreadable=[2])
    kept = result.apply(dataset)
    assert len(kept) == 10  # floor(0.5 * 19 + 0.5)
    assert kept["source_index"][:] == result.selected.tolist()
    assert kept["note"][:] == [f"note {row}" for row in result.selected]
    assert image_bytes(kept) == [image_bytes(dataset)[row] for row in result.selected]
    scores = column_values(result.scores, "sas")[np.searchsorted(rows, result.selected)]
    assert kept["sas"][:] == scores.tolist()
    of_considered = result._join(dataset.select(rows))
    assert of_considered[:] == kept[:]


def test_apply_to_a_dataset_with_an_indices_mapping(dataset):
    picked = dataset.shuffle(seed=3).filter(lambda label: label != 1, input_columns="label")
    result = make_result(picked, (0.5,))
    kept = result.apply(picked)
    assert kept["source_index"][:] == result.selected.tolist()
    assert kept["note"][:] == [picked["note"][row] for row in result.selected]
    assert kept["sds"][:] == column_values(result.scores, "sds")[result.selected].tolist()
    assert image_bytes(kept) == [image_bytes(picked)[row] for row in result.selected]
    assert kept.column_names == ["image", "label", "note", *OURS]


def test_apply_to_a_dataset_with_a_format(dataset):
    formatted = dataset.with_format("numpy", columns=["label"])
    result = make_result(formatted)
    kept = result.apply(formatted).with_format(None)
    assert kept.column_names == ["image", "label", "note", *OURS]
    assert image_bytes(kept) == [image_bytes(dataset)[row] for row in result.selected]


def test_a_subset_of_a_subset_carries_the_new_columns(dataset, caplog):
    first = make_result(dataset, (0.5,)).apply(dataset)
    result = make_result(first, (0.4,), seed=1)
    second = result.apply(first)
    assert second.column_names == ["image", "label", "note", *OURS]
    assert second["source_index"][:] == result.selected.tolist()
    assert second["note"][:] == [first["note"][row] for row in result.selected]
    assert second["sas"][:] == column_values(result.scores, "sas")[result.selected].tolist()
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert ", ".join(OURS) in message


def test_apply_refuses_another_dataset(dataset):
    result = make_result(dataset, name="someone/things")
    with pytest.raises(InputError, match="made from 60 rows, the dataset has 59.* someone/things"):
        result.apply(dataset.select(range(59)))
    with pytest.raises(InputError, match="labels or images differ. Pass someone/things"):
        result.apply(dataset.select(range(59, -1, -1)))
    with pytest.raises(InputError, match="it has no column label"):
        result.apply(dataset.rename_column("label", "class"))
    other_images = [*dataset.cast_column("image", Image(decode=False))["image"]]
    other_images[0] = other_images[1]
    changed = dataset.remove_columns("image").add_column("image", other_images).cast_column("image", Image())
    with pytest.raises(InputError, match="labels or images differ"):
        result.apply(changed)
    # A selection from embeddings knows the number of rows alone.
    source = dataclasses.replace(result.source, fingerprint="", content_id="")
    assert len(dataclasses.replace(result, source=source).apply(dataset)) == 18


def test_apply_knows_the_dataset_however_it_was_loaded(dataset, tmp_path):
    result = make_result(dataset)
    dataset.to_parquet(tmp_path / "train.parquet")
    loaded = load_dataset(str(tmp_path), split="train")
    assert loaded._fingerprint != dataset._fingerprint
    assert result.apply(loaded)["source_index"][:] == result.selected.tolist()
    assert len(result.apply(dataset.with_format("numpy"))) == len(result.selected)


# Saving and reading back


def same(result, other):
    assert (other.ratios, other.objective, other.seed) == (result.ratios, result.objective, result.seed)
    assert other.scores.features == result.scores.features
    for name in result.scores.column_names:
        assert np.array_equal(
            column_values(other.scores, name),
            column_values(result.scores, name),
            equal_nan=result.scores.features[name].dtype == "float32",
        )
    return True


def test_saved_and_read_back(dataset, tmp_path):
    result = make_result(dataset, (0.3, 0.125), unreadable=[5], objective="released", name="someone/things")
    result.save(tmp_path / "new" / "folder")
    back = SelectionResult.from_folder(str(tmp_path / "new" / "folder"))
    assert same(result, back)
    assert back.source == result.source
    assert back.report == {}
    assert np.array_equal(back.selected, result.selected)
    assert np.array_equal(back.at(0.6).selected, result.at(0.6).selected)
    assert back.apply(dataset)[:] == result.apply(dataset)[:]
    back.at(0.6).save(tmp_path / "again")
    assert SelectionResult.from_folder(tmp_path / "again").ratios == (0.6,)


def test_saving_again_replaces(dataset, tmp_path):
    make_result(dataset, (0.3,)).save(tmp_path)
    result = make_result(dataset, (0.5, 0.2), seed=1)
    result.save(tmp_path)
    assert same(result, SelectionResult.from_folder(tmp_path))


def test_a_path_is_saved_by_its_last_part_alone(dataset, tmp_path):
    folder = tmp_path / "home of a user" / "beans"
    folder.mkdir(parents=True)
    make_result(dataset, name=str(folder)).save(tmp_path / "saved")
    for path in (tmp_path / "saved").rglob("*"):
        assert not path.is_file() or b"home of a user" not in path.read_bytes()
    assert SelectionResult.from_folder(tmp_path / "saved").source.name == "beans"


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("someone/things", "someone/things"),
        ("embedded/digits", "embedded/digits"),
        ("", ""),
        ("../data/flowers", "flowers"),
        ("~/data/flowers/", "flowers"),
        ("/mnt/data/flowers", "flowers"),
        ("C:\\data\\flowers", "flowers"),
    ],
)
def test_names_that_are_no_path_are_saved_whole(name, saved, dataset, tmp_path):
    make_result(dataset, name=name).save(tmp_path)
    assert json.loads((tmp_path / "selection.json").read_text())["source"]["name"] == saved


def test_what_is_saved_loads_as_a_dataset(dataset, tmp_path):
    result = make_result(dataset, unreadable=[5])
    result.save(tmp_path)
    scores = load_dataset(str(tmp_path / "scores"), split="train", cache_dir=str(tmp_path / "cache"))
    assert scores.features == result.scores.features
    assert len(scores) == 60


def test_the_output_folder_of_a_run_is_read_back(dataset, clip_folder, tmp_path):
    result = select_dataset(
        dataset,
        model_name_or_path=str(clip_folder),
        selection_ratio=[0.3, 0.5],
        adaptation="off",
        output_dir=tmp_path / "run",
        dataloader_num_workers=0,
    )
    for folder in (tmp_path / "run", tmp_path / "run" / "subset"):
        back = SelectionResult.from_folder(folder)
        assert same(result, back)
        assert back.source == result.source
        kept = back.apply(dataset)
        for ratio in ("30", "50"):
            published = load_dataset(
                str(tmp_path / "run" / "subset"), f"ratio_{ratio}", split="train", cache_dir=str(tmp_path / "cache")
            )
            mine = back.at(int(ratio) / 100).apply(dataset)
            assert published.features == mine.features
            assert image_bytes(published) == image_bytes(mine)
            assert published.remove_columns("image")[:] == mine.remove_columns("image")[:]
        assert len(kept) == 18


def test_the_folder_of_a_run_is_a_dataset_of_its_own(dataset, tmp_path):
    result = make_result(dataset, (0.3, 0.125), unreadable=[5], name="someone/things", report=True)
    result.save(tmp_path / "whole", dataset)
    result.save(tmp_path / "scores only")
    assert get_dataset_config_names(str(tmp_path / "whole")) == ["ratio_30", "ratio_12_5", "scores"]
    assert get_dataset_config_names(str(tmp_path / "scores only")) == ["scores"]
    cache = str(tmp_path / "cache")
    for config, ratio in (("ratio_30", 0.3), ("ratio_12_5", 0.125)):
        loaded = load_dataset(str(tmp_path / "whole"), config, split="train", cache_dir=cache)
        mine = result.at(ratio).apply(dataset)
        assert loaded.features == mine.features and image_bytes(loaded) == image_bytes(mine)
        assert loaded.remove_columns("image")[:] == mine.remove_columns("image")[:]
    loaded = load_dataset(str(tmp_path / "scores only"), split="train", cache_dir=cache)
    assert loaded["source_index"][:] == list(range(60))
    assert not list((tmp_path / "scores only").glob("ratio_*"))


def test_subsets_of_the_rows_considered_are_saved(dataset, tmp_path):
    rows = np.arange(0, 60, 2)
    result = make_result(dataset, rows=rows, report=True)
    result.save(tmp_path / "considered", dataset.select(rows))
    result.save(tmp_path / "all", dataset)
    folders = [load_dataset(str(tmp_path / name), "ratio_30", split="train") for name in ("considered", "all")]
    assert folders[0][:]["source_index"] == folders[1][:]["source_index"] == result.selected.tolist()
    assert image_bytes(folders[0]) == image_bytes(folders[1])
    with pytest.raises(InputError, match="made from 60 rows, the dataset has 59"):
        result.save(tmp_path / "wrong", dataset.select(range(59)))
    assert not (tmp_path / "wrong").exists()


def test_saving_without_images_leaves_none_of_an_earlier_save(dataset, tmp_path):
    make_result(dataset, report=True).save(tmp_path, dataset)
    (tmp_path / "ratio_30" / "mine.txt").write_text("kept")
    make_result(dataset, report=True, seed=1).save(tmp_path)
    assert [path.name for path in (tmp_path / "ratio_30").iterdir()] == ["mine.txt"]
    assert get_dataset_config_names(str(tmp_path)) == ["scores"]


def test_another_dataset_of_the_same_length_is_not_saved(images_dataset, tmp_path):
    result = make_result(images_dataset, report=True)
    mirrored = images_dataset.select(range(59, -1, -1))
    for other in (mirrored, images_dataset.rename_column("label", "kind")):
        with pytest.raises(InputError, match="This is not the dataset that the selection was made from"):
            result.save(tmp_path / "wrong", other)
    assert not (tmp_path / "wrong").exists()


def test_a_save_that_fails_on_the_way_leaves_nothing_that_is_read_back(images_dataset, tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    for row, content in enumerate(image_bytes(images_dataset)):
        (files / f"{row}.png").write_bytes(content)
    paths = [str(files / f"{row}.png") for row in range(60)]
    dataset = images_dataset.remove_columns("image").add_column("image", paths).cast_column("image", Image())
    make_result(dataset, report=True).save(tmp_path / "saved", dataset)
    other = make_result(dataset, objective="paper", seed=1, report=True)
    # Without its hash the dataset is not missed before the first file is written.
    other = dataclasses.replace(other, source=dataclasses.replace(other.source, content_id=""))
    (files / f"{other.selected[-1]}.png").unlink()
    with pytest.raises(FileNotFoundError):
        other.save(tmp_path / "saved", dataset)
    refused(tmp_path / "saved")


MINE = "---\nlicense: mit\n---\n# My flowers\r\n"


def test_saving_keeps_what_people_wrote_in_the_readme(dataset, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_bytes(MINE.encode())
    make_result(dataset, report=True).save(tmp_path, dataset)
    first = readme.read_bytes().decode()
    assert "license: mit" in first and "# My flowers\r\n" in first and "ratio_30" in first
    readme.write_bytes((first + "My last words.").encode())
    make_result(dataset, (0.5,), report=True).save(tmp_path, dataset)
    second = readme.read_bytes().decode()
    assert all(words in second for words in ("license: mit", "# My flowers\r\n", "My last words."))
    assert second.count("hf_clipselect:begin") == 1 and "ratio_30" not in second
    assert set(get_dataset_config_names(str(tmp_path))) == {"ratio_50", "scores"}
    assert (
        load_dataset(str(tmp_path), split="train")["source_index"][:] == make_result(dataset, (0.5,)).selected.tolist()
    )


@pytest.mark.parametrize(
    ("readme", "reason"),
    [(b"---\na: [\n---\n# Mine\n", "is not YAML"), ("# Caf\u00e9".encode("latin-1"), "is not UTF-8")],
)
def test_a_readme_that_cannot_be_kept_is_left_and_told(dataset, tmp_path, readme, reason):
    make_result(dataset, report=True).save(tmp_path, dataset)
    (tmp_path / "README.md").write_bytes(readme)
    with pytest.raises(InputError, match=reason):
        make_result(dataset, (0.5,), report=True).save(tmp_path, dataset)
    assert (tmp_path / "README.md").read_bytes() == readme
    refused(tmp_path)


def test_saving_removes_no_shards_but_ours(dataset, tmp_path):
    mine = [
        tmp_path / "ratio_mine" / "train-00000-of-00001.parquet",
        tmp_path / "ratio_30" / "train-old-of-mine.parquet",
        tmp_path / "photos" / "train-00000-of-00001.parquet",
    ]
    ours = [
        tmp_path / "ratio_30" / "train-00000-of-00001.parquet",
        tmp_path / "ratio_12_5" / "train-00001-of-00002.parquet",
        tmp_path / "count_500" / "train-00000-of-00001.parquet",
    ]
    for path in (*mine, *ours):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"precious")
    make_result(dataset, report=True).save(tmp_path)
    assert [path.exists() for path in mine] == [True] * 3
    assert [path.exists() for path in ours] == [False] * 3


def test_a_folder_is_hidden_wherever_its_selection_is_saved(images_dataset, tmp_path, monkeypatch):
    (tmp_path / "secretclient" / "scans").mkdir(parents=True)
    images_dataset.to_parquet(tmp_path / "secretclient" / "scans" / "train.parquet")
    monkeypatch.chdir(tmp_path)
    dataset, source = load_source("secretclient/scans")
    result = make_result(dataset, source=source, report=True)
    result.save(tmp_path / "here", dataset)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    result.save(tmp_path / "there", dataset)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")
    assert not any(b"secretclient" in content for content in contents(tmp_path / "there").values())
    assert SelectionResult.from_folder(tmp_path / "there").source.name == "scans"


def test_only_the_result_of_a_run_is_published(dataset):
    with pytest.raises(InputError, match="Only the result of a run can be published.*select_dataset"):
        make_result(dataset).push_to_hub("me/pruned")


def test_a_result_is_not_pushed_over_its_source(dataset):
    with pytest.raises(InputError, match="repo_id me/pets is the source itself"):
        make_result(dataset, name="me/pets", report=True).push_to_hub("me/pets")


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_selection_is_saved_as_the_same_bytes(dataset, tmp_path):
    result = make_result(dataset, (0.3, 0.5), unreadable=[5], name="/mnt/data/flowers", report=True)
    result.save(tmp_path / "a", dataset)
    other = {
        "seconds": {"encode": 9.75},
        "arguments": {**result.report["arguments"], "output_dir": "b", "hub_tag": "v7"},
    }
    dataclasses.replace(result, report={**result.report, **other}).save(tmp_path / "b", dataset)
    SelectionResult.from_folder(tmp_path / "a").save(tmp_path / "c", dataset)
    for name in ("b", "c"):
        assert contents(tmp_path / name) == contents(tmp_path / "a")
    assert (tmp_path / "a" / "README.md").read_text() == subset_card(published_report(result.report), tmp_path / "a")
    assert not any(word in text for text in contents(tmp_path / "a").values() for word in (b"/home/me", b"/mnt/data"))


@pytest.mark.slow
def test_two_runs_of_the_same_settings_leave_the_same_subset_folder(dataset, clip_folder, tmp_path):
    for out in ("a", "b", "b"):  # the last run finds the adapters of the one before
        select_dataset(
            dataset,
            model_name_or_path=str(clip_folder),
            selection_ratio=[0.5, 0.3],
            adaptation="always",
            num_train_epochs=1,
            dataloader_num_workers=0,
            output_dir=tmp_path / out,
        )
        assert contents(tmp_path / out / "subset") == contents(tmp_path / "a" / "subset")


def test_the_report_is_read_back_without_what_is_not_of_the_selection(dataset, tmp_path):
    result = make_result(dataset, (0.3, 0.5), unreadable=[5], name="someone/things", report=True)
    result.save(tmp_path)
    report = SelectionResult.from_folder(tmp_path).report
    assert result.report.keys() - report.keys() == {"seconds", "compare_command"}
    gone = {"output_dir", "overwrite_output_dir", "push_to_hub", "hub_dataset_id"}
    assert result.report["arguments"].keys() - report["arguments"].keys() == gone
    assert report["arguments"]["class_names_file"] == "names.txt"
    assert report["warnings"] == ["The file names.txt is odd."]
    changed = {"seconds", "compare_command", "arguments", "warnings"}
    assert {k: v for k, v in report.items() if k not in changed} == {
        k: v for k, v in result.report.items() if k not in changed
    }


def test_names_of_classes_are_no_paths(dataset, tmp_path):
    names = ["/m/01g317", "~/b", "C:\\c"]
    renamed = dataset.cast_column("label", ClassLabel(names=names))
    make_result(renamed, report=True).save(tmp_path, renamed)
    assert [entry["name"] for entry in SelectionResult.from_folder(tmp_path).report["classes"]] == names


@pytest.mark.parametrize("ratio", [0.65, 0.3])
def test_the_report_follows_the_ratio(dataset, ratio, tmp_path):
    result = make_result(dataset, (0.3, 0.5), unreadable=[0, 1], report=True)
    other = result.at(ratio)
    assert other.report == make_report(make_result(dataset, (ratio,), unreadable=[0, 1]))
    assert [subset["rows"] for subset in other.report["subsets"]] == [len(other.selected)]
    assert [subset["ratio"] for subset in result.report["subsets"]] == [0.3, 0.5]
    result.save(tmp_path)
    assert SelectionResult.from_folder(tmp_path).at(ratio).report == published_report(other.report)


def test_results_of_embeddings_are_saved_without_a_card(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 20)
    embeds = np.eye(3, 8)[labels] + 0.1 * rng.normal(size=(60, 8))
    for adaptation in ("off", "always"):
        result = select_embeddings(embeds, np.eye(3, 8), labels, adaptation=adaptation, num_train_epochs=1)
        result.save(tmp_path / adaptation)
        back = SelectionResult.from_folder(tmp_path / adaptation)
        assert same(result, back) and back.report == result.report
        assert same(result.at(0.5), back.at(0.5)) and back.at(0.5).report == result.report
        assert sorted(path.name for path in (tmp_path / adaptation).iterdir()) == ["scores", "selection.json"]


def no_scores(folder):
    for path in (folder / "scores").iterdir():
        path.unlink()


def torn_scores(folder):
    (path,) = (folder / "scores").iterdir()
    path.write_bytes(path.read_bytes()[:100])


def refused(folder):
    """The message that refuses a folder, in one line that names it."""
    with pytest.raises(InputError, match="holds no selection that can be read") as error:
        SelectionResult.from_folder(folder)
    assert str(error.value).startswith(str(folder)) and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("spoil", [no_scores, torn_scores])
def test_scores_that_cannot_be_read_are_refused(spoil, dataset, tmp_path):
    make_result(dataset).save(tmp_path)
    spoil(tmp_path)
    assert refused(tmp_path)


def saved_with(result, folder, *, column=None, values=None, **changes):
    """The folder of a result whose scores or selection.json were changed by hand."""
    scores = result.scores
    if column is not None:
        scores = scores.remove_columns(column)
        scores = scores if values is None else scores.add_column(column, values)
    dataclasses.replace(result, scores=scores).save(folder)
    selection = json.loads((folder / "selection.json").read_text())
    (folder / "selection.json").write_text(json.dumps({**selection, **changes}))
    return folder


def test_scores_that_no_run_can_have_written_are_refused(dataset, tmp_path):
    result = make_result(dataset, unreadable=[5])
    rows, sas = np.arange(60), column_values(result.scores, "sas")
    selected = column_values(result.scores, "selected_30")
    for number, (column, values, reason) in enumerate(
        [
            ("margin", None, "no column margin of the expected type"),
            ("sas", sas.astype(np.float64), "no column sas of the expected type"),
            ("label", np.arange(60) % 3, "no column label,"),
            ("source_index", rows + 1, "does not rise within the 60 rows"),
            ("source_index", rows[::-1].copy(), "does not rise within the 60 rows"),
            ("source_index", rows - 1, "does not rise within the 60 rows"),
            ("sas", np.full(60, np.nan, np.float32), "scores are missing or infinite"),
            ("sds", np.where(rows == 7, np.float32("inf"), sas), "scores are missing or infinite"),
            ("selected_30", np.zeros(60, bool), "the selection of 30 is empty"),
            ("selected_30", selected | (rows == 5), "holds rows without scores"),
        ]
    ):
        assert reason in refused(saved_with(result, tmp_path / str(number), column=column, values=values))
    assert "no column selection_score_40, selected_40" in refused(saved_with(result, tmp_path / "x", ratios=[0.4]))


def test_a_report_of_other_scores_is_refused(dataset, tmp_path):
    result = make_result(dataset, report=True)
    rows = make_result(dataset, rows=range(50), report=True)
    classes = [{**entry, "name": entry["name"] + "!"} for entry in result.report["classes"]]
    folder = saved_with(result, tmp_path / "rows", report=rows.report)
    assert "the report speaks of 50 rows, the scores have 60" in refused(folder)
    folder = saved_with(result, tmp_path / "classes", report={**result.report, "classes": classes})
    assert "the classes of the report are not those of the scores" in refused(folder)


def test_a_folder_without_a_selection_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="expected selection.json and scores/") as error:
            SelectionResult.from_folder(folder)
        assert str(error.value).startswith(f"{folder} holds no selection")


def test_labels_given_as_strings_keep_their_column(clip_folder, images_dataset):
    names = images_dataset.features["label"].names
    strings = images_dataset.remove_columns("label").add_column("label", [names[row % 3] for row in range(60)])
    result = select_dataset(
        strings, model_name_or_path=str(clip_folder), adaptation="off", dataloader_num_workers=0, selection_ratio=0.5
    )
    assert result.scores.features["label"] == ClassLabel(names=sorted(names))
    kept = result.apply(strings)
    assert kept.features["label"] == Value("string")
    assert kept["label"][:] == [strings["label"][row] for row in result.selected]

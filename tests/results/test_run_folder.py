import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from datasets import Dataset, Image, get_dataset_config_names, load_dataset
from made_results import make_result

from hf_clipselect import SelectionResult, select_dataset
from hf_clipselect.data import read_images
from hf_clipselect.errors import InputError
from hf_clipselect.hub import PREVIEW, adapter_card
from hf_clipselect.results.run_folder import RunFolder
from hf_clipselect.results.run_lock import LOCK_NAME


IDENTITY = {"dataset": "abc", "rows": 60, "image_column": "image", "label_column": "label", "model": "def"}
ENTRIES = {
    "config.yaml",
    "features",
    "adapter",
    "scores.parquet",
    "subset",
    "report.json",
    "report.html",
    "dropped.parquet",
    "map.parquet",
}


# A file of ours in each folder.
OURS = {
    "features": "images-00000.safetensors",
    "adapter": "adapter_config.json",
    "subset": "ratio_30/train-00000-of-00001.parquet",
}


def finished_run(path: Path, identity: dict[str, Any] = IDENTITY) -> RunFolder:
    """A folder with an entry of every kind."""
    folder = RunFolder(path)
    path.mkdir(exist_ok=True)
    folder.check(identity, overwrite=False)
    folder.open(identity, overwrite=False)
    for name in ENTRIES - {"config.yaml"}:
        if "." in name:
            (path / name).write_text(name)
        else:
            (path / name / OURS[name]).parent.mkdir(parents=True)
            (path / name / OURS[name]).write_text(name)
    folder.write_config({"identity": identity, "seed": 42})
    return folder


def with_broken_images(dataset: Dataset, *rows: int) -> Dataset:
    cells = dataset.cast_column("image", Image(decode=False))["image"][:]
    for row in rows:
        cells[row] = {"bytes": b"no image", "path": None}
    return Dataset.from_dict({"image": cells, "label": dataset["label"][:]}, features=dataset.features)


def names(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


class TestCheck:
    def test_new_and_empty_folders_are_taken(self, tmp_path: Path) -> None:
        for path in (tmp_path / "new", tmp_path / "new", tmp_path / "new" / "deep"):
            with RunFolder(path).locked():
                RunFolder(path).check(IDENTITY, overwrite=False)
                assert names(path) == {LOCK_NAME}  # a check changes nothing
            assert names(path) == set()

    def test_same_run_goes_on(self, tmp_path: Path) -> None:
        assert finished_run(tmp_path).check(IDENTITY, overwrite=False) is None

    @pytest.mark.parametrize("key", IDENTITY)
    def test_another_run_is_refused(self, tmp_path: Path, key: str) -> None:
        folder = finished_run(tmp_path)
        with pytest.raises(InputError) as error:
            folder.check({**IDENTITY, key: "other"}, overwrite=False)
        assert str(error.value) == (
            f"--output_dir {tmp_path} holds another run: {key} {IDENTITY[key]} there, other now. Choose another "
            "--output_dir, or pass --overwrite_output_dir to remove the results in it."
        )
        folder.check({**IDENTITY, key: "other"}, overwrite=True)
        assert names(tmp_path) == ENTRIES

    def test_foreign_files_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("mine")
        with pytest.raises(InputError, match="is not empty and holds no run of hf_clipselect.*--overwrite_output_dir"):
            RunFolder(tmp_path).check(IDENTITY, overwrite=False)
        RunFolder(tmp_path).check(IDENTITY, overwrite=True)

    @pytest.mark.parametrize(
        "content", [b"", b"just text", b"- a list", b"seed: [1", b"identity: 3", b"\xff\xfe", b"identity:"], ids=repr
    )
    def test_config_of_nobody_is_foreign(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "config.yaml").write_bytes(content)
        for overwrite in (False, True):
            with pytest.raises(InputError, match="holds config.yaml, which no run of hf_clipselect made"):
                RunFolder(tmp_path).check(IDENTITY, overwrite=overwrite)
        assert (tmp_path / "config.yaml").read_bytes() == content

    def test_foreign_entries_of_a_runs_names_are_never_removed(self, tmp_path: Path) -> None:
        (tmp_path / "features").mkdir()
        (tmp_path / "features" / "mine.txt").write_text("mine")
        with pytest.raises(InputError, match="holds features, which no run"):
            RunFolder(tmp_path).check(IDENTITY, overwrite=True)

    def test_a_file_and_what_cannot_be_created_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_text("mine")
        for place, message in (
            (path, "--output_dir .*file is a file; give a folder"),
            (path / "out", "--output_dir .*out can't be written to: Not a directory"),
            (tmp_path / ("x" * 300), "--output_dir .* can't be used: File name too long"),
        ):
            with pytest.raises(InputError, match=message), RunFolder(place).locked():
                raise AssertionError("the folder was taken")
        assert path.read_text() == "mine" and names(tmp_path) == {"file"}

    def test_leftovers_alone_are_nobodys_run(self, tmp_path: Path) -> None:
        # Killed between creating the folder and its first config.yaml.
        (tmp_path / ".config.yaml.4711.tmp").write_text("ident")
        assert RunFolder(tmp_path).check(IDENTITY, overwrite=False) is None

    @pytest.mark.parametrize("name", ["subset", "adapter"])
    @pytest.mark.parametrize("card", [b"\xff words", b"---\nlicense: [\n---\nwords"])
    def test_a_card_that_cannot_be_merged_is_refused_before_the_work(
        self, tmp_path: Path, name: str, card: bytes
    ) -> None:
        folder = finished_run(tmp_path)
        (tmp_path / name / "README.md").write_bytes(card)
        for identity, overwrite in ((IDENTITY, False), ({**IDENTITY, "model": "other"}, True)):
            with pytest.raises(InputError, match=f"{name}/README.md .*can't be kept"):
                folder.check(identity, overwrite=overwrite)
        assert (tmp_path / name / "README.md").read_bytes() == card

    @pytest.mark.parametrize(
        "place",
        [
            *sorted(ENTRIES),
            "subset/README.md",
            "subset/selection.json",
            "subset/scores",
            "features/manifest.json",
            *(f"{name}/{path}" for name, path in OURS.items()),
        ],
    )
    def test_what_can_be_neither_read_nor_replaced_is_refused_and_stays(self, tmp_path: Path, place: str) -> None:
        folder, path = finished_run(tmp_path / "out"), tmp_path / "out" / place
        is_folder = place in ("features", "adapter", "subset", "subset/scores")
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        for make in (
            path.touch if is_folder else path.mkdir,
            lambda: os.mkfifo(path),
            lambda: path.symlink_to("nowhere"),
        ):
            make()
            kind = path.lstat().st_mode
            for identity, overwrite in ((IDENTITY, False), ({**IDENTITY, "model": "other"}, True)):
                with pytest.raises(
                    InputError, match=f"{place} is no {'folder' if is_folder else 'file'}, and .*Move it away"
                ):
                    folder.check(identity, overwrite=overwrite)
            assert path.lstat().st_mode == kind
            path.rmdir() if path.is_dir() else path.unlink()


class TestOpen:
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_same_run_keeps_everything(self, tmp_path: Path, overwrite: bool) -> None:
        folder = finished_run(tmp_path)
        folder.open(IDENTITY, overwrite=overwrite)
        assert names(tmp_path) == ENTRIES
        assert (folder.features / OURS["features"]).exists()

    def test_overwrite_removes_another_run_and_nothing_else(self, tmp_path: Path) -> None:
        folder = finished_run(tmp_path)
        (tmp_path / "thesis.txt").write_text("mine")
        (tmp_path / ".hidden.tmp").write_text("mine")
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "report.json").write_text("mine")
        folder.open({**IDENTITY, "model": "other"}, overwrite=True)
        assert names(tmp_path) == {"config.yaml", "thesis.txt", ".hidden.tmp", "photos"}
        assert folder.read_config() == {"identity": {**IDENTITY, "model": "other"}}
        assert (tmp_path / "photos" / "report.json").read_text() == "mine"

    def test_link_to_a_folder_goes_but_not_what_it_points_to(self, tmp_path: Path) -> None:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "precious").write_text("mine")
        out = tmp_path / "out"
        out.mkdir()
        (out / "features").symlink_to(elsewhere)
        RunFolder(out).open(IDENTITY, overwrite=True)
        assert names(out) == {"config.yaml"}
        assert (elsewhere / "precious").read_text() == "mine"

    def test_leftovers_of_a_killed_run_go(self, tmp_path: Path) -> None:
        folder = finished_run(tmp_path)
        (tmp_path / ".subset.tmp" / "ratio_30").mkdir(parents=True)
        (tmp_path / ".scores.parquet.tmp").write_text("torn")
        (tmp_path / ".report.json.4711.tmp").write_text("torn")
        (folder.features / ".images-00000.safetensors.4711.tmp").write_text("torn")
        (folder.adapter / ".README.md.4711.tmp").write_text("torn")
        folder.open(IDENTITY, overwrite=False)
        assert names(tmp_path) == ENTRIES
        assert [names(folder.features), names(folder.adapter)] == [{OURS["features"]}, {OURS["adapter"]}]


class TestWriting:
    def test_config_is_read_back(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path)
        assert folder.read_config() == {}
        config = {
            "identity": IDENTITY,
            "source": {"class_names": ["Käse", "no", "1", "a: b", "x" * 300]},
            "seed": None,
        }
        folder.write_config(config)
        assert folder.read_config() == config
        text = (tmp_path / "config.yaml").read_text(encoding="utf-8")
        assert text.index("identity") < text.index("source") < text.index("seed")
        assert "Käse" in text
        assert yaml.safe_load(text) == config
        assert names(tmp_path) == {"config.yaml"}

    def test_results(self, clip_folder: Path, images_dataset: Dataset, tmp_path: Path) -> None:
        out = tmp_path / "out"
        result = select_dataset(
            images_dataset,
            model_name_or_path=str(clip_folder),
            selection_ratio=[0.3, 0.125],
            adaptation="off",
            dataloader_num_workers=0,
            output_dir=out,
        )
        assert names(out) == ENTRIES - {"adapter", "dropped.parquet", "map.parquet"}
        assert names(out / "subset") == {"README.md", "selection.json", "ratio_30", "ratio_12_5", "scores", PREVIEW}
        table = pq.read_table(out / "scores.parquet")
        assert table.column_names == [
            "source_index",
            "label",
            "predicted_label",
            "label_agrees",
            "clean_label",
            "label_error_probability",
            "sas",
            "margin",
            "sds",
            "sas_quantile",
            "sds_quantile",
            "class_rank",
            "duplicate_group",
            "selection_score_30",
            "selected_30",
            "selection_score_12_5",
            "selected_12_5",
            "reason",
        ]
        assert [str(table.schema.field(name).type) for name in ("sas", "selection_score_30", "selected_30")] == [
            "float",
            "float",
            "bool",
        ]
        back = Dataset.from_parquet(str(out / "scores.parquet"), cache_dir=str(tmp_path / "cache"))
        assert back.features == result.scores.features
        assert back[:] == result.scores[:]

    def test_dropped_rows_are_listed_until_all_can_be_read(
        self, clip_folder: Path, images_dataset: Dataset, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        settings = {
            "model_name_or_path": str(clip_folder),
            "adaptation": "off",
            "dataloader_num_workers": 0,
            "on_bad_image": "drop",
            "output_dir": out,
        }
        select_dataset(with_broken_images(images_dataset, 3, 17), **settings)
        dropped = pq.read_table(out / "dropped.parquet").to_pydict()
        assert list(dropped) == ["source_index", "reason"]
        assert dropped["source_index"] == [3, 17]
        assert all("not an image" in reason for reason in dropped["reason"])
        stale = (out / "dropped.parquet").read_bytes()
        select_dataset(images_dataset, **settings, overwrite_output_dir=True)
        assert names(out) == ENTRIES - {"adapter", "dropped.parquet", "map.parquet"}
        (out / "dropped.parquet").write_bytes(stale)
        select_dataset(images_dataset, **settings)
        assert names(out) == ENTRIES - {"adapter", "dropped.parquet", "map.parquet"}

    def test_scores_only_leaves_no_images(self, images_dataset: Dataset, tmp_path: Path) -> None:
        folder, images = RunFolder(tmp_path), read_images(images_dataset)
        folder.open(IDENTITY, overwrite=False)
        result = make_result(images_dataset, (0.3, 0.125), report=True)
        folder.write_results(result, images, {})
        assert names(folder.subset) == {"README.md", "selection.json", "ratio_30", "ratio_12_5", "scores", PREVIEW}
        assert f"]({PREVIEW})" in (folder.subset / "README.md").read_text()
        selection = (folder.subset / "selection.json").read_bytes()
        folder.write_results(result, images, {}, scores_only=True)
        assert names(folder.subset) == {"README.md", "selection.json", "scores"}
        assert (folder.subset / "selection.json").read_bytes() == selection
        assert get_dataset_config_names(str(folder.subset)) == ["scores"]
        assert PREVIEW not in (folder.subset / "README.md").read_text()

    def test_remove_adapter(self, tmp_path: Path) -> None:
        folder = finished_run(tmp_path)
        folder.remove_adapter()
        folder.remove_adapter()
        assert names(tmp_path) == ENTRIES - {"adapter"}


class TestReplacing:
    def test_new_content_takes_the_place_of_the_old(self, tmp_path: Path) -> None:
        folder = finished_run(tmp_path)
        with folder.replacing(folder.subset) as temporary:
            (temporary / "new").write_text("new")
            assert names(folder.subset) == {"ratio_30"}  # until the block ends
        assert names(folder.subset) == {"new"}
        assert names(tmp_path) == ENTRIES

    def test_where_nothing_was(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path)
        with folder.replacing(folder.adapter) as temporary:
            (temporary / "new").write_text("new")
        assert names(folder.adapter) == {"new"}

    def test_failure_leaves_the_old_one(self, tmp_path: Path) -> None:
        folder = finished_run(tmp_path)
        with pytest.raises(RuntimeError, match="disk full"), folder.replacing(folder.subset) as temporary:
            (temporary / "half").write_text("half")
            raise RuntimeError("disk full")
        assert (folder.subset / OURS["subset"]).read_text() == "subset"
        assert names(folder.subset) == {"ratio_30"}
        assert names(tmp_path) == ENTRIES

    def test_interrupt_leaves_the_old_one(self, tmp_path: Path) -> None:
        folder = finished_run(tmp_path)
        with pytest.raises(KeyboardInterrupt), folder.replacing(folder.subset):
            raise KeyboardInterrupt
        assert names(folder.subset) == {"ratio_30"}
        assert names(tmp_path) == ENTRIES

    def test_leftover_of_a_killed_run_is_no_part_of_the_new_one(self, tmp_path: Path) -> None:
        folder = finished_run(tmp_path)
        (tmp_path / ".subset.tmp").mkdir()
        (tmp_path / ".subset.tmp" / "old").write_text("old")
        with folder.replacing(folder.subset) as temporary:
            (temporary / "new").write_text("new")
        assert names(folder.subset) == {"new"}


MINE = {
    "notes.txt": "mine",
    "photos/report.json": "mine",
    ".env": "mine",
    "features/mine.txt": "mine",
    "subset/notes.txt": "mine",
    "subset/ratio_30/notes.txt": "mine",
    "subset/ratio_30/test-00000-of-00001.parquet": "mine",
    "subset/extra/train.txt": "mine",
    "subset/scores/mine.csv": "mine",
    "subset/scores/mine.parquet": "mine",
    "subset/.git/config": "mine",
    "adapter/notes.txt": "mine",
}
WORDS = "\n\n## My notes\nworth keeping\n"


def put_own_files(folder: Path) -> None:
    for name, text in MINE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for card in ("subset/README.md", "adapter/README.md"):
        (folder / card).write_text((folder / card).read_text() + WORDS)


def assert_own_files_are_there(folder: Path) -> None:
    assert {name: (folder / name).read_text() for name in MINE if (folder / name).exists()} == MINE
    assert (folder / "subset/README.md").read_text().count(WORDS) == 1
    assert (folder / "adapter/README.md").read_text().count(WORDS) == 1
    assert not [path for path in folder.rglob("*.tmp")] and not [path for path in folder.rglob("*.old")]


@pytest.mark.slow
def test_what_people_put_into_the_folder_survives_every_run(
    images_dataset: Dataset, clip_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def run(dataset: Dataset = images_dataset, **changes: Any) -> None:
        settings = {"adaptation": "always", "num_train_epochs": 1, "dataloader_num_workers": 0, **changes}
        select_dataset(dataset, model_name_or_path=str(clip_folder), output_dir=out, **settings)

    run()
    put_own_files(out)
    for changes in (
        {},
        {"selection_ratio": 0.5},
        {"adaptation": "off"},
        {"num_train_epochs": 2},
        {"per_device_eval_batch_size": 16, "overwrite_output_dir": True},
    ):
        run(**changes)
        assert_own_files_are_there(out)
        assert (out / "adapter" / "adapter_config.json").exists() == (changes.get("adaptation") != "off")
    few = images_dataset.select(range(45))
    run(few, overwrite_output_dir=True, selection_ratio=0.4)
    assert_own_files_are_there(out)
    assert names(out / "subset") == {
        ".git",
        "README.md",
        "clipselect_preview.jpg",
        "extra",
        "notes.txt",
        "ratio_30",
        "ratio_40",
        "scores",
        "selection.json",
    }
    assert load_dataset(str(out / "subset"), "ratio_40", split="train").num_rows == 18
    # Without own files the same command leaves what it leaves in a new folder.
    clean = tmp_path / "clean"
    run_in = {"model_name_or_path": str(clip_folder), "adaptation": "off", "dataloader_num_workers": 0}
    select_dataset(images_dataset, output_dir=clean, objective="clean", **run_in)
    select_dataset(few, output_dir=clean, selection_ratio=0.4, overwrite_output_dir=True, **run_in)
    select_dataset(few, output_dir=tmp_path / "new", selection_ratio=0.4, **run_in)
    found, expected = (
        {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        for folder in (clean / "subset", tmp_path / "new" / "subset")
    )
    assert found == expected


def test_a_card_that_nobody_wrote_in_goes_with_what_it_tells_of(tmp_path: Path, images_dataset: Dataset) -> None:
    folder = finished_run(tmp_path)
    report = make_result(images_dataset, report=True).report
    card = adapter_card({**report, "adaptation": {**report["adaptation"], "kept": True, "method": "MLP_ADAPTER"}})
    (folder.adapter / "README.md").write_text(card)
    folder.remove_adapter()
    assert not folder.adapter.exists()
    for theirs in (card + "My words.\n", card.replace("---\n", "---\nlanguage: en\n", 1), "My words.", "\udcff"):
        folder.adapter.mkdir(exist_ok=True)
        (folder.adapter / "README.md").write_text(theirs, errors="surrogateescape")
        (folder.adapter / "adapter_config.json").touch()
        folder.remove_adapter()
        assert names(folder.adapter) == {"README.md"}


def test_every_file_has_the_rights_of_a_new_file(images_dataset: Dataset, clip_folder: Path, tmp_path: Path) -> None:
    mask = 0o077
    before = os.umask(mask)
    try:
        select_dataset(
            with_broken_images(images_dataset, 3),
            model_name_or_path=str(clip_folder),
            adaptation="always",
            num_train_epochs=1,
            dataloader_num_workers=0,
            on_bad_image="drop",
            num_folds=2,
            output_dir=tmp_path / "out",
        )
    finally:
        os.umask(before)
    modes = {
        path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert {
        "out/adapter/adapter_model.safetensors",
        "out/features/out_of_fold.safetensors",
        "out/dropped.parquet",
    } <= set(modes)
    assert set(modes.values()) == {0o666 & ~mask}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").rglob("*") if path.is_dir()} == {
        0o777 & ~mask
    }


def test_runs_in_folders_of_one_name_load_their_own_subsets(images_dataset, clip_folder, tmp_path):
    """load_dataset caches a folder by its name and card: without a content id the first run's rows come back."""
    sources = []
    for name, objective in (("a", "clean"), ("b", "released"), ("a", "paper")):
        result = select_dataset(
            images_dataset,
            model_name_or_path=clip_folder,
            objective=objective,
            adaptation="off",
            dataloader_num_workers=0,
            output_dir=tmp_path / name,
        )
        subset = load_dataset(str(tmp_path / name / "subset"), "ratio_30", split="train")
        assert subset["source_index"][:] == result.selected.tolist()
        sources.append(tuple(result.selected))
    assert len(set(sources)) > 1


def test_an_overwrite_that_is_killed_on_the_way_can_be_repeated(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.open({"dataset": "old"}, overwrite=False)
    folder.write_config({"identity": {"dataset": "old"}})
    for name, file in OURS.items():
        (tmp_path / name / file).parent.mkdir(parents=True)
        (tmp_path / name / file).touch()
    monkeypatch.setattr("os.rmdir", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        folder.open({"dataset": "new"}, overwrite=True)
    monkeypatch.undo()
    folder.check({"dataset": "new"}, overwrite=False)
    folder.open({"dataset": "new"}, overwrite=True)


def test_a_name_that_begins_as_a_url_is_a_folder(images_dataset, clip_folder, tmp_path, monkeypatch):
    name = "s3:run"
    monkeypatch.chdir(tmp_path)
    settings = {"model_name_or_path": clip_folder, "adaptation": "off", "output_dir": name, "use_cpu": True}
    select_dataset(with_broken_images(images_dataset, 0), on_bad_image="drop", **settings)
    again = select_dataset(with_broken_images(images_dataset, 0), on_bad_image="drop", selection_ratio=0.5, **settings)
    assert again.ratios == (0.5, 0.3) and SelectionResult.from_folder(name).ratios == again.ratios
    again.save(f"{name}:saved")
    assert SelectionResult.from_folder(f"{name}:saved").selected.tolist() == again.selected.tolist()
    assert names(tmp_path) == {name, f"{name}:saved"}


def test_a_url_is_no_folder(images_dataset, clip_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="output_dir s3://bucket/run is a URL"):
        select_dataset(images_dataset, model_name_or_path=clip_folder, output_dir="s3://bucket/run")
    with pytest.raises(InputError, match="folder s3://bucket/run is a URL"):
        make_result(images_dataset).save("s3://bucket/run")
    assert names(tmp_path) == set()

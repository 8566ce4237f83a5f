import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value, concatenate_datasets
from folders import message_of, png, write_images
from preloaded import run_python

from hf_clipselect.data import LabelledImages, read_images, with_image_column_undecoded
from hf_clipselect.data.source import DatasetSource, describe_source, load_source
from hf_clipselect.embedded import load_digits_dataset


def dataset_of(label: list[Any] | None = None, label_feature: Any = None, **columns: tuple[list[Any], Any]) -> Dataset:
    """One image per row, and the columns given as (values, feature)."""
    if label is not None:
        columns = {"label": (label, label_feature), **columns}
    num_rows = len(next(iter(columns.values()))[0])
    images = [{"bytes": png(row), "path": None} for row in range(num_rows)]
    values = {"image": images, **{name: values for name, (values, _) in columns.items()}}
    features = {"image": Image(), **{name: feature for name, (_, feature) in columns.items()}}
    return Dataset.from_dict(values, features=Features(features))


def write_image_folder(folder: Path, classes: dict[str, int]) -> None:
    write_images(folder, [f"{name}/{row}.png" for name, count in classes.items() for row in range(count)])


class TestLoadSource:
    def test_image_folder(self, tmp_path: Path) -> None:
        write_image_folder(tmp_path / "train", {"dog": 2, "cat": 3})
        write_image_folder(tmp_path / "test", {"dog": 1, "cat": 1})
        dataset, source = load_source(str(tmp_path))
        images = read_images(dataset, source)
        assert (source.name, source.split, source.num_rows) == (str(tmp_path), "train", 5)
        assert source.fingerprint == dataset._fingerprint
        assert (images.image_column, images.label_column) == ("image", "label")
        assert images.class_names == ["cat", "dog"]
        assert np.bincount(images.labels).tolist() == [3, 2]
        assert len(load_source(str(tmp_path), split="test")[0]) == 2

    @pytest.mark.parametrize("name", ["client/scans", "./client/scans/"])
    def test_folder_is_known_from_any_directory(
        self, name: str, tmp_path: Path, images_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "client" / "scans"
        folder.mkdir(parents=True)
        images_dataset.to_parquet(folder / "train.parquet")
        monkeypatch.chdir(tmp_path)
        source = load_source(name)[1]
        assert source.name == str(folder)
        monkeypatch.chdir(folder)
        # The same dataset under its absolute path, as config.yaml names it: the run of its folder goes on.
        assert load_source(source.name)[1] == source

    def test_parquet_with_the_metadata_of_datasets(self, tmp_path: Path, images_dataset: Dataset) -> None:
        images_dataset.to_parquet(tmp_path / "train.parquet")
        dataset, source = load_source(str(tmp_path))
        images = read_images(dataset, source)
        assert images.dataset.features == images_dataset.features
        assert images.class_names == ["red thing", "green_thing", "blue thing"]
        assert images.labels.tolist() == images_dataset["label"]

    @pytest.mark.parametrize("binary", [pa.binary(), pa.large_binary()], ids=str)
    def test_parquet_of_other_programs(self, tmp_path: Path, binary: pa.DataType) -> None:
        image = pa.struct([("path", pa.string()), ("bytes", binary)])
        cells = [{"path": None, "bytes": png(row)} for row in range(4)]
        table = pa.table({"picture": pa.array(cells, image), "kind": ["b", "a", "b", "a"]})
        pq.write_table(table, tmp_path / "train.parquet")
        images = read_images(*load_source(str(tmp_path)))
        assert (images.image_column, images.label_column) == ("picture", "kind")
        assert images.dataset.features["picture"] == Image()
        assert images.dataset[3]["picture"].getpixel((0, 0)) == (3, 0, 0)
        assert (images.class_names, images.labels.tolist()) == (["a", "b"], [1, 0, 1, 0])

    def test_saved_dataset_and_dataset_dict(self, tmp_path: Path, images_dataset: Dataset) -> None:
        images_dataset.save_to_disk(tmp_path / "one")
        DatasetDict(train=images_dataset, test=images_dataset.select(range(6))).save_to_disk(tmp_path / "dict")
        for name, split, num_rows in [("one", "train", 60), ("dict", "train", 60), ("dict", "test", 6)]:
            dataset, source = load_source(str(tmp_path / name), split=split)
            assert len(dataset) == source.num_rows == num_rows
            assert dataset.features == images_dataset.features

    def test_embedded_digits(self) -> None:
        dataset, source = load_source("embedded/digits", split="test")
        assert dataset._fingerprint == load_digits_dataset("test")._fingerprint == source.fingerprint
        assert (source.name, source.split, source.revision, source.num_rows) == ("embedded/digits", "test", None, 500)
        assert "embedded/digits" in message_of(load_source, "embedded/letters")
        assert "train, test, all" in message_of(load_source, "embedded/digits", split="validation")

    def test_hub_id_without_a_network(self) -> None:
        message = message_of(load_source, "uoft-cs/cifar10")
        assert message.startswith(
            "--dataset_name uoft-cs/cifar10 is no local folder, and can't be loaded from the Hub"
        )
        assert "offline" in message.lower()

    @pytest.mark.parametrize(
        "name", ["", "./no/folder", "./folder", "/no/folder", "two words", "a/b/c", "~/no/folder"]
    )
    def test_neither_folder_nor_hub_id(self, name: str) -> None:
        assert message_of(load_source, name).startswith(f"--dataset_name {name!r} is neither a folder nor a Hub id")

    def test_missing_split_lists_the_splits(self, tmp_path: Path, images_dataset: Dataset) -> None:
        DatasetDict(train=images_dataset, test=images_dataset).save_to_disk(tmp_path / "dict")
        message = message_of(load_source, str(tmp_path / "dict"), split="validation")
        assert message.startswith("--train_split_name validation: ")
        assert message.endswith("has the splits train, test.")
        write_image_folder(tmp_path / "images" / "test", {"a": 1, "b": 1})
        assert message_of(load_source, str(tmp_path / "images")).endswith("has the splits test.")

    def test_unknown_configuration_lists_the_configurations(self, tmp_path: Path) -> None:
        write_image_folder(tmp_path, {"a": 1, "b": 1})
        message = message_of(load_source, str(tmp_path), "other")
        assert message.startswith(f"--dataset_name {tmp_path} can't be loaded: ")
        assert "other" in message and "default" in message

    def test_folder_that_cannot_be_loaded(self, tmp_path: Path, images_dataset: Dataset) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "torn").mkdir()
        (tmp_path / "torn" / "train.parquet").write_bytes(b"PAR1 and no more")
        (tmp_path / "mixed").mkdir()
        pq.write_table(pa.table({"a": [1]}), tmp_path / "mixed" / "train-0.parquet")
        pq.write_table(pa.table({"b": ["x"]}), tmp_path / "mixed" / "train-1.parquet")
        images_dataset.save_to_disk(tmp_path / "state")
        (tmp_path / "state" / "state.json").write_text("{")
        images_dataset.save_to_disk(tmp_path / "rows")
        next((tmp_path / "rows").glob("*.arrow")).unlink()
        for name, reason in [
            ("empty", "data files"),
            ("torn", "corrupted"),
            ("mixed", "column names don't match"),
            ("state", "line 1"),
            ("rows", ".arrow"),
        ]:
            message = message_of(load_source, str(tmp_path / name))
            assert message.startswith(f"--dataset_name {tmp_path / name} can't be loaded: ")
            assert reason in message, message

    @pytest.mark.slow
    def test_fingerprint_is_the_same_in_another_process_and_cache(
        self, tmp_path: Path, images_dataset: Dataset
    ) -> None:
        write_image_folder(tmp_path / "images", {"a": 2, "b": 2})
        images_dataset.save_to_disk(tmp_path / "disk")
        names = [str(tmp_path / "images"), str(tmp_path / "disk"), "embedded/digits"]
        here = [load_source(name)[1].fingerprint for name in names]
        script = "import sys; from hf_clipselect.data.source import load_source; "
        script += "print(*[load_source(name)[1].fingerprint for name in sys.argv[1:]])"
        (tmp_path / "script.py").write_text(script)
        run = run_python(tmp_path / "script.py", *names, env={**os.environ, "HF_HOME": str(tmp_path / "home")})
        assert run.returncode == 0, run.stderr[-3000:]
        assert run.stdout.split() == here
        # Another image, another fingerprint: no cache of the old one may be taken.
        (tmp_path / "images" / "a" / "0.png").write_bytes(png(99))
        (tmp_path / "images" / "a" / "1.png").unlink()
        assert load_source(str(tmp_path / "images"))[1].fingerprint != here[0]


class TestDescribeSource:
    def test_dataset_in_memory(self, images_dataset: Dataset) -> None:
        assert describe_source(images_dataset) == DatasetSource(
            name="",
            config_name=None,
            split=None,
            revision=None,
            fingerprint=images_dataset._fingerprint,
            num_rows=60,
            license=None,
        )

    def test_license_of_the_source(self, images_dataset: Dataset) -> None:
        images_dataset.info.license = "cc-by-4.0"
        assert describe_source(images_dataset).license == "cc-by-4.0"

    @pytest.mark.parametrize(
        ("header", "license_name"),
        [
            ("license: cc-by-4.0", "cc-by-4.0"),
            ("license: [mit, cc0-1.0]", "mit, cc0-1.0"),
            ("license: 4.0", None),
            ("license: []", None),
            ("license:", None),
            ("language: en", None),
            ("license: [unclosed", None),
        ],
    )
    def test_license_in_the_card_of_a_folder(
        self, tmp_path: Path, images_dataset: Dataset, header: str, license_name: str | None
    ) -> None:
        images_dataset.save_to_disk(tmp_path)
        assert load_source(str(tmp_path))[1].license is None
        (tmp_path / "README.md").write_text(f"---\n{header}\n---\n# Pets\n", encoding="utf-8")
        assert load_source(str(tmp_path))[1].license == license_name

    def test_a_card_that_cannot_be_read_stops_nothing(self, tmp_path: Path, images_dataset: Dataset) -> None:
        images_dataset.save_to_disk(tmp_path)
        (tmp_path / "README.md").write_bytes(b"---\nlicense: \xff\n---\n")
        assert load_source(str(tmp_path))[1].license is None


class TestColumns:
    def test_only_candidates_are_found(self) -> None:
        dataset = dataset_of(kind=(["x", "y"], Value("string")), weight=([0.5, 1.5], Value("float32")))
        images = read_images(dataset.rename_column("image", "photo"))
        assert (images.image_column, images.label_column) == ("photo", "kind")
        assert images.dataset.column_names == ["photo", "kind", "weight"]

    def test_class_label_goes_before_strings_and_integers(self) -> None:
        dataset = dataset_of(
            caption=(["x", "y"], Value("string")),
            id=([7, 8], Value("int64")),
            y=([1, 0], ClassLabel(names=["a", "b"])),
        )
        images = read_images(dataset)
        assert images.label_column == "y"
        assert images.labels.tolist() == [1, 0]
        assert read_images(dataset, label_column_name="caption").class_names == ["x", "y"]
        assert read_images(dataset, label_column_name="id").class_names == ["7", "8"]

    def test_several_label_candidates(self) -> None:
        dataset = dataset_of(caption=(["x", "y"], Value("string")), id=([7, 8], Value("int64")))
        message = message_of(read_images, dataset)
        assert message.startswith("Expected exactly one candidate for a label column, found 2: caption, id.")
        assert "image (Image), caption (string), id (int64)" in message
        assert message.endswith("Choose with --label_column_name.")
        both = dataset_of(coarse=([0, 1], ClassLabel(names=["a", "b"])), fine=([0, 1], ClassLabel(names=["c", "d"])))
        assert "found 2: coarse, fine" in message_of(read_images, both)

    def test_no_label_candidate(self) -> None:
        message = message_of(read_images, dataset_of(weight=([0.5, 1.5], Value("float32"))))
        assert "a label column, found none" in message
        assert "weight (float32)" in message

    def test_several_image_candidates(self) -> None:
        dataset = dataset_of([0, 1], ClassLabel(names=["a", "b"]))
        dataset = concatenate_datasets(
            [dataset, dataset.select_columns("image").rename_column("image", "mask")], axis=1
        )
        message = message_of(read_images, dataset)
        assert "an image column, found 2: image, mask." in message
        assert message.endswith("Choose with --image_column_name.")
        assert read_images(dataset, image_column_name="mask").image_column == "mask"

    def test_no_image_candidate(self) -> None:
        message = message_of(read_images, dataset_of([0, 1], Value("int64")).remove_columns("image"))
        assert "an image column, found none. Columns: label (int64)" in message

    def test_wrong_names_list_the_right_ones(self, images_dataset: Dataset) -> None:
        message = message_of(read_images, images_dataset, image_column_name="label")
        assert "--image_column_name label" in message and "Image columns: image; all columns: image, label" in message
        message = message_of(read_images, images_dataset, label_column_name="labels")
        assert "--label_column_name labels" in message and "Candidates: label; all columns: image, label" in message
        assert "--label_column_name image" in message_of(read_images, images_dataset, label_column_name="image")


class TestLabels:
    def test_strings_and_integers_become_classes_in_their_order(self) -> None:
        for values, feature, names in [
            (["b", "c", "a", "b"], Value("string"), ["a", "b", "c"]),
            ([3, 10, 2, 3], Value("int64"), ["2", "3", "10"]),
        ]:
            images = read_images(dataset_of(values, feature))
            assert (images.class_names, images.labels.tolist()) == (names, [1, 2, 0, 1])
            assert images.labels.dtype == np.int64

    def test_class_label_keeps_its_numbers(self) -> None:
        images = read_images(dataset_of([2, 0, 2], ClassLabel(names=["z", "m", "a"])))
        assert images.class_names == ["z", "m", "a"]
        assert images.labels.tolist() == [2, 0, 2]

    def test_dataset_is_left_as_it_is(self, images_dataset: Dataset) -> None:
        images = read_images(images_dataset)
        assert images.dataset is images_dataset
        assert images.source.fingerprint == images_dataset._fingerprint
        assert images.source_index.tolist() == list(range(60))

    @pytest.mark.parametrize("how", ["torch", "transform", "indices"])
    def test_formats_and_row_orders(self, images_dataset: Dataset, how: str) -> None:
        expected = np.array(images_dataset["label"])
        if how == "torch":
            dataset = images_dataset.with_format("torch")
        elif how == "transform":
            dataset = images_dataset.with_transform(lambda batch: {"label": [9] * len(batch["label"])})
        else:
            dataset, expected = images_dataset.select(range(59, -1, -1)), expected[::-1]
        images = read_images(dataset)
        assert images.labels.tolist() == expected.tolist()
        # Whatever the format, whoever decodes gets plain bytes.
        assert with_image_column_undecoded(images)[0]["image"]["bytes"][:4] == b"\x89PNG"

    @pytest.mark.parametrize("feature", [ClassLabel(names=["a", "b"]), Value("int64"), Value("string")], ids=str)
    def test_missing_label(self, feature: Any) -> None:
        values = [None, "a", None] if feature == Value("string") else [1, None, None]
        rows = dataset_of([*values, values[0] or values[1]], feature)
        message = message_of(read_images, rows)
        assert message.startswith("2 rows have no label in column 'label'")
        assert f"source_index {values.index(None)})" in message

    @pytest.mark.parametrize("feature", [ClassLabel(names=["a", "b"]), Value("int64")], ids=str)
    def test_label_minus_one(self, feature: Any) -> None:
        message = message_of(read_images, dataset_of([0, 1, -1, 1, -1], feature))
        assert message.startswith("2 rows of column 'label' hold ")
        assert "label -1" in message and "source_index 2" in message

    def test_label_outside_the_names(self, tmp_path: Path) -> None:
        names = tmp_path / "names.txt"
        names.write_text("cat\ndog\n")
        message = message_of(read_images, dataset_of([0, 1, 0, 2], Value("int64")), class_names_file=str(names))
        assert "outside the 2 class names (first: label 2 at source_index 3)" in message
        assert "--class_names_file" in message
        # Written around the check of ClassLabel, as other programs do.
        table = pa.table({"label": pa.array([0, 5, 1])})
        labels = Dataset(table).cast(Features({"label": Value("int64")}))
        labels.info.features["label"] = ClassLabel(names=["a", "b"])
        dataset = concatenate_datasets([dataset_of(x=([1.0] * 3, Value("float32"))), labels], axis=1)
        assert "first: label 5 at source_index 1" in message_of(read_images, dataset)

    def test_empty_dataset(self, images_dataset: Dataset, tmp_path: Path) -> None:
        assert message_of(read_images, images_dataset.select([])).startswith("The dataset passed has no rows")
        (tmp_path / "parquet").mkdir()
        images_dataset.select([]).to_parquet(tmp_path / "parquet" / "train.parquet")
        message = message_of(load_source, str(tmp_path / "parquet"))
        assert f"{tmp_path / 'parquet'} can't be loaded: it holds no row." in message
        images_dataset.select([]).save_to_disk(tmp_path / "disk")
        assert f"{tmp_path / 'disk'} has a split without rows" in message_of(load_source, str(tmp_path / "disk"))

    def test_one_class_only(self) -> None:
        message = message_of(read_images, dataset_of([1, 1], ClassLabel(names=["a", "b", "c"])))
        assert "images of 1 class only ('b')" in message
        assert "--label_column_name" in message
        assert "1 class only ('x')" in message_of(read_images, dataset_of(["x", "x"], Value("string")))

    def test_classes_without_images_are_named_in_a_warning(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "hf_clipselect"):
            images = read_images(dataset_of([0, 2], ClassLabel(names=["cat", "dog", "owl", "bat"])))
        assert images.class_names == ["cat", "dog", "owl", "bat"]
        assert [record.getMessage() for record in caplog.records] == [
            "2 classes have no image and take no part: dog, bat"
        ]
        caplog.clear()
        with caplog.at_level(logging.WARNING, "hf_clipselect"):
            read_images(dataset_of([0, 29], ClassLabel(names=[f"c{i}" for i in range(30)])))
        assert caplog.records[0].getMessage().endswith("c8, c9, c10 and 18 more")


class TestClassNames:
    def write(self, folder: Path, *names: str) -> str:
        path = folder / "names.txt"
        path.write_text("\n".join(names) + "\n", encoding="utf-8")
        return str(path)

    def test_for_class_label(self, images_dataset: Dataset, tmp_path: Path) -> None:
        images = read_images(images_dataset, class_names_file=self.write(tmp_path, "red", "green", "blue"))
        assert images.class_names == ["red", "green", "blue"]
        assert images.labels.tolist() == images_dataset["label"]

    def test_for_integers_the_numbers_are_the_lines(self, tmp_path: Path) -> None:
        file = self.write(tmp_path, "zero", "one", "two", "three")
        images = read_images(dataset_of([3, 1, 3], Value("int64")), class_names_file=file)
        assert images.class_names == ["zero", "one", "two", "three"]
        assert images.labels.tolist() == [3, 1, 3]

    def test_for_strings_the_names_follow_their_sorted_order(self, tmp_path: Path) -> None:
        dataset = dataset_of(["n02", "n01", "n02"], Value("string"))
        images = read_images(dataset, class_names_file=self.write(tmp_path, "tench", "shark"))
        assert images.class_names == ["tench", "shark"]
        assert images.labels.tolist() == [1, 0, 1]
        assert read_images(dataset, class_names=("tench", "shark")).class_names == ["tench", "shark"]

    @pytest.mark.parametrize("feature", [ClassLabel(names=["a", "b"]), Value("string")], ids=str)
    def test_another_number_of_names(self, feature: Any, tmp_path: Path) -> None:
        dataset = dataset_of(["a", "b", "a"] if feature == Value("string") else [0, 1, 0], feature)
        for names in (["x"], ["x", "y", "z"]):
            message = message_of(read_images, dataset, class_names_file=self.write(tmp_path, *names))
            assert message.startswith(f"Got {len(names)} class names, but column 'label' has 2 classes")
            assert "--class_names_file" in message

    def test_names_that_come_twice(self) -> None:
        dataset = dataset_of([0, 1, 2], ClassLabel(names=["a", "b", "c"]))
        message = message_of(read_images, dataset, class_names=["x", "y", "x"])
        assert message.startswith("The class names hold x more than once")

    def test_file_that_cannot_be_read(self, images_dataset: Dataset, tmp_path: Path) -> None:
        message = message_of(read_images, images_dataset, class_names_file=str(tmp_path / "none.txt"))
        assert "--class_names_file" in message and "No such file" in message

    def test_missing_string_label_is_told_before_the_count(self, tmp_path: Path) -> None:
        dataset = dataset_of(["a", None, "b"], Value("string"))
        message = message_of(read_images, dataset, class_names_file=self.write(tmp_path, "x", "y"))
        assert message.startswith("1 rows have no label")


class TestMaxTrainSamples:
    def prepare_sorted(self, max_samples: int) -> LabelledImages:
        # Sorted by class, as many datasets are.
        return read_images(dataset_of(sorted("abc" * 4), Value("string")), max_samples=max_samples)

    def test_rows_are_spread_evenly_and_keep_their_numbers(self) -> None:
        images = self.prepare_sorted(5)
        assert images.source_index.tolist() == [0, 2, 4, 6, 8]
        assert images.source_index.dtype == np.int64
        assert images.labels.tolist() == [0, 0, 1, 1, 2]
        assert images.dataset["label"][:] == ["a", "a", "b", "b", "c"]
        assert [image["bytes"] for image in with_image_column_undecoded(images)["image"]] == [
            png(row) for row in images.source_index
        ]
        assert images.source.num_rows == 12  # the source is the whole split

    def test_every_class_keeps_its_share_whatever_the_order_of_the_rows(self) -> None:
        images = read_images(dataset_of(["a", "b", "c", "c"] * 6, Value("string")), max_samples=12)
        assert np.bincount(images.labels).tolist() == [3, 3, 6]
        assert (np.diff(images.source_index) > 0).all()

    @pytest.mark.parametrize("max_samples", [12, 13, 10**9])
    def test_no_more_than_there_are(self, max_samples: int) -> None:
        images = self.prepare_sorted(max_samples)
        assert images.source_index.tolist() == list(range(12))

    def test_classes_do_not_depend_on_it(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        names = tmp_path / "names.txt"
        names.write_text("ant\nbee\ncat\n")
        dataset = dataset_of(sorted("abc" * 4), Value("string"))
        with caplog.at_level(logging.WARNING, "hf_clipselect"):
            images = read_images(dataset, class_names_file=str(names), max_samples=2)
        assert images.class_names == ["ant", "bee", "cat"]
        assert images.labels.tolist() == [0, 1]
        assert "1 class has no image and takes no part: cat" in caplog.text

    def test_one_class_left(self) -> None:
        assert "1 class only ('a')" in message_of(self.prepare_sorted, 1)


def test_folders_of_one_name_with_a_card_give_their_own_rows(tmp_path):
    """load_dataset caches a folder with a README by its name and the README's configs, whatever its files hold."""
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: train.parquet\n---\n"
    fingerprints = []
    for parent, label in (("a", 0), ("b", 1)):
        folder = tmp_path / parent / "photos"
        folder.mkdir(parents=True)
        Dataset.from_dict({"label": [label] * 3}).to_parquet(folder / "train.parquet")
        (folder / "README.md").write_text(card)
        dataset, source = load_source(str(folder))
        assert dataset["label"][:] == [label] * 3
        fingerprints.append(source.fingerprint)
        assert load_source(str(folder))[1].fingerprint == source.fingerprint
    assert fingerprints[0] != fingerprints[1]

"""Folders of images as people have them: every image is a row, or one sentence says which are not and why."""

import os
import shutil

import pytest
from folders import by_folder, message_of, rows_of, write_images

from hf_clipselect.data.source import load_source


def classes_of(*names: str, count: int = 3, prefix: str = "") -> list[str]:
    return [f"{prefix}{name}/{row}.png" for name in names for row in range(count)]


@pytest.mark.parametrize(
    "paths",
    [
        [*classes_of("cat", "dog"), "cat/train_station_1.png", "dog/my test.png", "dog/x-eval-2.png"],
        classes_of("beach", "train_station"),
        classes_of("bus", "car", "train"),
        classes_of("train", "test", "car"),
        classes_of("dev", "eval room", "validation-hall", "kitchen"),
        classes_of("cat", "dog", prefix="photos/data/"),
        classes_of("cat", "dog", prefix="train_station/"),
        ["cat/A.PNG", "cat/b.png", "dog/c.JPG", "dog/d.Jpeg"],
        classes_of(
            "cat",
            "__other__",
            "a=b c#d%20e",
            "qu'o\"te",
            "ünï",
            "-dash",
            "x[1]",
            "a*b",
            "w?",
            "c::d",
            "{z}",
            "back\\slash",
        ),
        ["cat/train_1.png", "dog/train_2.png"],
    ],
    ids=lambda paths: paths[0] + " " + paths[-1],
)
def test_every_image_is_a_row_of_its_folder(tmp_path, paths):
    folder = write_images(tmp_path / "pets", paths)
    assert rows_of(load_source(str(folder))[0], folder) == by_folder(paths)


def test_real_splits_stay_splits(tmp_path):
    names = ["train", "validation", "test"]
    imagenet = {"train": "train", "val": "validation"}
    for case, folders in enumerate(
        [
            dict(zip(names, names, strict=True)),
            imagenet,
            {"train_images": "train", "test images": "test"},
            {"Training": "train", "Testing": "test"},
            {"data/train": "train", "data/dev": "validation"},
            {"train": "train"},
        ]
    ):
        paths = [path for folder in folders for path in classes_of("n0144", "test_tube", prefix=f"{folder}/")]
        root = write_images(tmp_path / str(case), paths)
        for folder, split in folders.items():
            mine = [path for path in paths if path.startswith(f"{folder}/")]
            assert rows_of(load_source(str(root), split=split)[0], root) == by_folder(mine)
        missing = next(split for split in [*names, "other"] if split not in folders.values())
        assert message_of(load_source, str(root), split=missing).endswith(
            f"has the splits {', '.join(split for split in names if split in folders.values())}."
        )
    # Where the names of all files tell a split, these are the splits, as `datasets` has it.
    paths = ["cat/train_1.png", "dog/train_2.png", "cat/test_3.png", "dog/test_4.png"]
    root = write_images(tmp_path / "names", paths)
    assert len(load_source(str(root))[0]) == len(load_source(str(root), split="test")[0]) == 2
    # A split without labels hinders none that has some.
    root = write_images(tmp_path / "kaggle", [*classes_of("a", "b", prefix="train/"), "test/1.png"])
    assert len(load_source(str(root))[0]) == 6
    assert "no class folders" in message_of(load_source, str(root), split="test")


def test_links_are_followed_and_loops_end(tmp_path):
    paths = classes_of("cat", "dog")
    store = write_images(tmp_path / "store", paths)
    linked, files, copies = tmp_path / "linked", tmp_path / "files", tmp_path / "copies"
    linked.mkdir()
    for name in ("cat", "dog"):
        (linked / name).symlink_to(store / name)
    for path in paths:
        (files / path).parent.mkdir(parents=True, exist_ok=True)
        (files / path).symlink_to(store / path)
    shutil.copytree(store, copies)
    (copies / "cat" / "again").symlink_to(copies)
    (copies / "cat" / "itself").symlink_to(copies / "cat")
    for folder in (linked, files, copies):
        assert rows_of(load_source(str(folder))[0], folder) == by_folder(paths)
    # Each name counts as people see it, whether it is a link, soft or hard, or not.
    os.link(store / "cat/0.png", files / "dog" / "hard.png")
    (linked / "lion").symlink_to(store / "cat")
    assert len(load_source(str(files))[0]) == 7
    assert len(load_source(str(linked))[0]) == 9
    # Links to each other come to an end, whatever they are taken for.
    (copies / "cat" / "again").unlink()
    for one, other in (("cat", "dog"), ("dog", "cat")):
        (copies / one / "other").symlink_to(copies / other)
    assert "cat/other" in message_of(load_source, str(copies))


def test_what_would_not_be_read_stops_the_run_unless_that_is_accepted(tmp_path, caplog):
    paths = classes_of("cat", "dog")
    folder = write_images(tmp_path / "pets", [*paths, "cover.png", "cat/more/1.png"])
    (folder / "dog" / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    shutil.copy(folder / "cat/0.png", folder / "cat" / "download")
    shutil.copy(folder / "cat/0.png", folder / "cat" / "0.png.bak")
    (folder / "dog" / "gone.png").symlink_to(tmp_path / "gone.png")
    (folder / "lion").symlink_to(tmp_path / "gone")
    os.mkfifo(folder / "dog" / "pipe.png")
    message = message_of(load_source, str(folder))
    assert message.startswith(f"8 of 14 image files in {folder} would not be read: ")
    assert message.endswith("Mend or move these, or pass --allow_unread_files to go on without them.")
    for told in [
        "dog/gone.png, lion (a link to nothing);",
        "dog/pipe.png (no file but a device, pipe or socket);",
        "dog/phone.HEIC (.heic can't be read here: convert it to PNG or JPEG);",
        "cat/0.png.bak (an image with the ending .bak: rename it);",
        "cat/download (an image with no ending: rename it);",
        "cover.png (beside the class folders)",
        "cat/more/1.png (in a folder inside a class folder)",
    ]:
        assert told in message
    dataset, _ = load_source(str(folder), allow_unread_files=True)
    assert rows_of(dataset, folder) == by_folder(paths)
    assert caplog.messages[0].startswith(f"8 of 14 image files in {folder} are not read: ")


def test_images_beside_splits_are_told(tmp_path):
    folder = write_images(tmp_path, [*classes_of("a", "b", prefix="train/"), *classes_of("a", "b", prefix="extra/")])
    assert "6 of 12 image files" in (message := message_of(load_source, str(folder)))
    assert "extra/a/0.png, extra/a/1.png, extra/a/2.png and 3 more (beside the splits train)" in message


def test_files_that_nobody_counts(tmp_path, caplog):
    paths = classes_of("cat", "dog")
    folder = write_images(tmp_path, [*paths, "__MACOSX/cat/._0.png", ".thumbs/cat/0.png", "cat/.hidden.png"])
    for name in ("Thumbs.db", "cat/notes.txt", "list.csv", ".DS_Store"):
        (folder / name).write_text("x")
    assert rows_of(load_source(str(folder))[0], folder) == by_folder(paths)
    assert not caplog.messages


def test_ambiguous_folders_say_how_to_say_which(tmp_path):
    folder = write_images(tmp_path / "flat", classes_of("train", "test"))
    message = message_of(load_source, str(folder))
    assert "names of splits" in message and f"--data_files '{folder}/*/*'" in message
    dataset, _ = load_source("", data_files=[f"{folder}/*/*"])
    assert rows_of(dataset, folder) == by_folder(classes_of("train", "test"))
    folder = write_images(
        tmp_path / "deep", [*classes_of("2020", "2021", prefix="cat/"), *classes_of("2020", prefix="dog/")]
    )
    message = message_of(load_source, str(folder))
    assert "holds folders in folders: cat/2020, dog/2020" in message and "metadata.csv" in message


def test_no_class_folders(tmp_path, images_dataset):
    for name, paths in {"flat": ["1.png", "2.png"], "one": ["images/1.png", "images/2.png"]}.items():
        folder = write_images(tmp_path / name, paths)
        message = message_of(load_source, str(folder))
        assert f"{folder} holds 2 images" in message and "no class folders" in message
        assert "metadata.csv with a column file_name" in message and "--caption_column" in message
    (folder / "labels.csv").write_text("id,label\n1.png,cat\n2.png,dog\n")
    message = message_of(load_source, str(folder))
    assert (
        "labels.csv is not read: a file of labels would have to be called metadata.csv, with a column file_name"
        in message
    )
    assert "--image_column_name" in message
    (tmp_path / "empty").mkdir()
    assert "doesn't contain any data files" in message_of(load_source, str(tmp_path / "empty"))
    (tmp_path / "phone" / "cat").mkdir(parents=True)
    (tmp_path / "phone" / "cat" / "1.heic").write_bytes(b"x")
    assert "1 of 1 image files" in message_of(load_source, str(tmp_path / "phone"))
    message = message_of(load_source, str(tmp_path / "phone"), allow_unread_files=True)
    assert message.endswith("holds no image that can be read.")


def test_metadata(tmp_path):
    paths = ["train_1.png", "x/2.png", "test/3.png"]
    folder = write_images(tmp_path / "told", paths)
    lines = [f"{path},{label}" for path, label in zip(paths, "aba", strict=True)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    dataset, _ = load_source(str(folder))
    assert dataset["label"][:] == ["a", "b", "a"]
    assert [image.getpixel((0, 0))[0] for image in dataset["image"]] == [0, 1, 2]
    (folder / "metadata.csv").write_text("\n".join(["file_name,label", *lines[:2]]))
    message = message_of(load_source, str(folder))
    assert "1 of 3 image files" in message and "test/3.png (no line in metadata.csv)" in message
    assert len(load_source(str(folder), allow_unread_files=True)[0]) == 2
    (folder / "metadata.csv").write_text("file_name,label\n")
    assert "has a split without rows" in message_of(load_source, str(folder))
    splits = write_images(tmp_path / "splits", ["train/1.png", "train/2.png", "test/1.png"])
    (splits / "train/metadata.jsonl").write_text(
        '{"file_name": "1.png", "label": 0}\n{"file_name": "2.png", "label": 1}\n'
    )
    (splits / "test/metadata.jsonl").write_text('{"file_name": "1.png", "label": 0}\n')
    assert [len(load_source(str(splits), split=split)[0]) for split in ("train", "test")] == [2, 1]
    (splits / "test/metadata.jsonl").unlink()
    assert "no metadata file for the images of its split test" in message_of(load_source, str(splits), split="test")
    # One file for all splits.
    (splits / "train/metadata.jsonl").unlink()
    lines = ["file_name,label", "train/1.png,a", "test/1.png,b", "train/2.png,b"]
    (splits / "metadata.csv").write_text("\n".join(lines))
    labels = [load_source(str(splits), split=split)[0]["label"][:] for split in ("train", "test")]
    assert labels == [["a", "b"], ["b"]]


def test_the_fingerprint_is_that_of_the_files(tmp_path):
    folder = write_images(tmp_path / "pets", classes_of("cat", "dog"))
    first = load_source(str(folder))[1]
    assert load_source(str(folder))[1] == first
    write_images(folder, ["cat/new.png"])
    assert load_source(str(folder))[1].fingerprint != first.fingerprint


@pytest.mark.parametrize(
    "name", ["photos[1]", "a*b", "w?", "c::d", "imagefolder", "parquet", "csv", "a=b", "-x", "%20 #1"]
)
def test_the_name_of_a_folder_is_no_pattern(tmp_path, name, images_dataset, monkeypatch):
    """datasets reads photos[1] as photos1, which lies beside it here."""
    for neighbour in ("photos1", "aab", "wx"):
        write_images(tmp_path / neighbour, classes_of("cat", "dog", count=1))
    folder = write_images(tmp_path / name / "images", classes_of("cat", "dog"))
    monkeypatch.chdir(tmp_path)
    assert rows_of(load_source(f"{name}/images")[0], folder) == by_folder(classes_of("cat", "dog"))
    shutil.move(folder / "cat", tmp_path / name / "cat")
    shutil.move(folder / "dog", tmp_path / name / "dog")
    folder.rmdir()
    assert rows_of(load_source(name)[0], tmp_path / name) == by_folder(classes_of("cat", "dog"))
    told = tmp_path / name / "told"
    (tmp_path / name / "cat").rename(told)
    (told / "metadata.csv").write_text("file_name,label\n0.png,x\n1.png,y\n2.png,x\n")
    assert load_source(f"{name}/told")[0]["label"][:] == ["x", "y", "x"]
    tables = tmp_path / name / "tables"
    images_dataset.to_parquet(tmp_path / "deep" / "train-0.parquet")
    images_dataset.select(range(5)).to_parquet(tmp_path / "deep" / "test-0.parquet")
    tables.mkdir()
    (tmp_path / "deep").rename(tables / "deep")
    assert len(load_source(f"{name}/tables")[0]) == 60
    assert len(load_source(f"{name}/tables", split="test")[0]) == 5
    card = (
        "---\nconfigs:\n- config_name: small\n  data_files:\n  - split: train\n    path: deep/test-*\n"
        "- config_name: big\n  data_files: deep/*\n---\n"
    )
    (tables / "README.md").write_text(card)
    assert len(load_source(f"{name}/tables", "small")[0]) == 5
    assert len(load_source(f"{name}/tables", "big")[0]) == 65
    assert "small" in message_of(load_source, f"{name}/tables", "other")
    images_dataset.save_to_disk(tmp_path / "disk")
    (tmp_path / "disk").rename(tmp_path / name / "disk")
    assert len(load_source(f"{name}/disk")[0]) == 60

"""Image columns as people have them: paths, bytes, structures of both."""

import os
import socket
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, IterableDatasetDict, Value, load_dataset
from folders import message_of, png, write_images

from hf_clipselect import SelectionResult, select_dataset
from hf_clipselect.data import one_split, read_images, with_image_column_undecoded
from hf_clipselect.data.image_values import with_images
from hf_clipselect.data.source import DatasetSource, describe_source, load_source
from hf_clipselect.encoder.images import UnreadableImageError, open_image
from hf_clipselect.runtime.files import LARGEST_FILE


QUICK = {"model_name_or_path": "embedded/tiny-clip", "adaptation": "off", "dataloader_num_workers": 0, "use_cpu": True}
LABELS = [row % 2 for row in range(8)]


PNGS = [png(shade) for shade in range(8)]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "im").mkdir(parents=True)
    for shade, data in enumerate(PNGS):
        (folder / "im" / f"{shade}.png").write_bytes(data)
    return folder


def below(folder: str, dataset: Dataset) -> DatasetSource:
    """The source of a dataset whose paths are relative to a folder or URL."""
    return replace(describe_source(dataset), paths_relative_to=folder)


def bytes_of(dataset: Dataset, column: str = "photo") -> list[bytes]:
    values = dataset.with_format(None).cast_column(column, Image(decode=False))[:][column]
    return [value["bytes"] if value["bytes"] is not None else Path(value["path"]).read_bytes() for value in values]


def column_of(kind: str, folder: Path) -> pa.Array:
    paths = [str(folder / "im" / f"{shade}.png") for shade in range(8)]
    pairs = [{"bytes": data, "path": None} for data in PNGS]
    alternating = [
        {"bytes": data, "path": "no.png"} if row % 2 else {"bytes": None, "path": path}
        for row, (data, path) in enumerate(zip(PNGS, paths, strict=True))
    ]
    struct = lambda data, path: pa.struct([("bytes", data), ("path", path)])  # noqa: E731
    return {
        "string": lambda: pa.array(paths, pa.string()),
        "large_string": lambda: pa.array(paths, pa.large_string()),
        "string_view": lambda: pa.array(paths, pa.string_view()),
        "file url": lambda: pa.array([f"file://{path}" for path in paths]),
        "binary": lambda: pa.array(PNGS, pa.binary()),
        "large_binary": lambda: pa.array(PNGS, pa.large_binary()),
        "binary_view": lambda: pa.array(PNGS, pa.binary_view()),
        "bytes alone": lambda: pa.array([{"bytes": data} for data in PNGS]),
        "large bytes alone": lambda: pa.array(
            [{"bytes": data} for data in PNGS], pa.struct([("bytes", pa.large_binary())])
        ),
        "path alone": lambda: pa.array([{"path": path} for path in paths]),
        "structure": lambda: pa.array(pairs, struct(pa.binary(), pa.string())),
        "without paths": lambda: pa.array(pairs, struct(pa.binary(), pa.null())),
        "large structure": lambda: pa.array(alternating, struct(pa.large_binary(), pa.large_string())),
        "bytes or path": lambda: pa.array(alternating, struct(pa.binary(), pa.string())),
    }[kind]()


KINDS = [
    "string",
    "large_string",
    "string_view",
    "file url",
    "binary",
    "large_binary",
    "binary_view",
    "bytes alone",
    "large bytes alone",
    "path alone",
    "structure",
    "without paths",
    "large structure",
    "bytes or path",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [None, [6, 1, 3, 0]])
def test_every_kind_becomes_a_column_of_images(kind: str, rows: list[int] | None, pictures: Path) -> None:
    dataset = Dataset(pa.table({"photo": column_of(kind, pictures), "label": LABELS}))
    dataset = dataset if rows is None else dataset.select(rows)
    images = read_images(dataset, image_column_name="photo")
    assert (images.image_column, images.label_column) == ("photo", "label")
    assert images.dataset.features == Features({"photo": Image(), "label": Value("int64")})
    assert bytes_of(images.dataset) == [PNGS[row] for row in rows or range(8)]
    opened = [open_image(value) for value in with_image_column_undecoded(images)[:]["photo"]]
    assert [image.getpixel((0, 0))[0] for image in opened] == list(rows or range(8))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["string", "binary", "path alone"])
def test_a_subset_has_the_columns_of_the_source_and_the_bytes_of_its_files(
    kind: str, pictures: Path, tmp_path: Path
) -> None:
    dataset = Dataset(pa.table({"photo": column_of(kind, pictures), "label": LABELS, "more": ["x"] * 8}))
    names = {"image_column_name": "photo", "label_column_name": "label"}
    result = select_dataset(dataset, **names, output_dir=tmp_path / "out", selection_count=5, **QUICK)
    expected = [PNGS[row] for row in result.selected]
    written = load_dataset(str(tmp_path / "out" / "subset"), "count_5", split="train")
    assert written.column_names[:3] == ["photo", "label", "more"] and written.features["photo"] == Image()
    assert bytes_of(written) == expected
    # The dataset as it was passed is known again, and `apply` leaves its own type.
    again = SelectionResult.from_folder(tmp_path / "out")
    applied = again.apply(DatasetDict(train=dataset))
    assert applied.features["photo"] == dataset.features["photo"] and applied[:]["label"] == written[:]["label"]
    again.save(tmp_path / "saved", dataset)
    assert bytes_of(load_dataset(str(tmp_path / "saved"), "count_5", split="train")) == expected


def test_relative_paths_start_at_the_file_that_names_them(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Dataset.from_dict({"photo": [f"im/{row}.png" for row in range(8)], "label": LABELS})
    for folder in (str(pictures), f"{pictures}/"):
        images = read_images(dataset, below(folder, dataset), image_column_name="photo")
        assert bytes_of(images.dataset) == PNGS
    assert bytes_of(with_images(dataset.select([7, 2]), "photo", str(pictures))) == [PNGS[7], PNGS[2]]
    monkeypatch.chdir(pictures)
    assert bytes_of(read_images(dataset, image_column_name="photo").dataset) == PNGS
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnreadableImageError, match=r"im/0\.png"):
        open_image(with_images(dataset, "photo").cast_column("photo", Image(decode=False))[0]["photo"])


def test_relative_paths_below_a_url_are_fetched() -> None:
    system = fsspec.filesystem("memory")
    for row, data in enumerate(PNGS):
        system.pipe(f"/set/im/{row}.png", data)
    names = [
        "im/0.png",
        "./im/1.png",
        "memory://set/im/2.png",
        *(f"im/{row}.png" for row in range(3, 7)),
        "im/none.png",
    ]
    dataset = Dataset.from_dict({"photo": names, "label": LABELS})
    images = read_images(dataset, below("memory://set", dataset), image_column_name="photo")
    values = with_image_column_undecoded(images)[:]["photo"]
    assert [value["bytes"] for value in values] == [*PNGS[:7], None]
    # Other files under the same names are other images.
    system.pipe("/set/im/3.png", png(9))
    other = with_images(dataset, "photo", "memory://set")
    assert bytes_of(other.select([3])) == [png(9)] and other._fingerprint != images.dataset._fingerprint
    assert with_images(dataset, "photo", "memory://set")._fingerprint == other._fingerprint
    one = with_images(dataset.select([4]), "photo", "memory://set/")
    assert bytes_of(one) == [PNGS[4]]
    # Labels of their own are rows of their own, whatever is cached of the images.
    relabelled = dataset.remove_columns("label").add_column("label", [1] * 8)
    assert with_images(relabelled, "photo", "memory://set")._fingerprint != other._fingerprint
    out = Dataset.from_dict({"photo": ["im/0.png", "../other/x.png"], "label": [0, 1]})
    message = message_of(read_images, out, below("memory://set", out), image_column_name="photo")
    assert message.startswith("source_index 1 of the dataset names the file '../other/x.png'")


@pytest.mark.parametrize(
    "url",
    [
        "http://x.org/a.png",
        "https://u:p@x.org/a.png?sig=secret",
        "HTTPS://x.org/a.png",
        "s3://bucket/a.png",
        "hf://datasets/a/b/c.png",
    ],
)
def test_urls_of_the_web_are_refused(url: str, pictures: Path) -> None:
    path = str(pictures / "im" / "0.png")
    for values, feature in (([path, url, url], Value("string")), ([path, url, url], Image())):
        dataset = Dataset.from_dict({"photo": values, "label": [0, 1, 0]})
        dataset = dataset.cast_column("photo", feature)
        message = message_of(read_images, dataset, image_column_name="photo")
        assert message.startswith("2 rows of --image_column_name photo hold a URL") and "source_index 1)" in message
        assert "img2dataset" in message and "secret" not in message and "u:p" not in message
        assert "source_index 0)" in message_of(read_images, dataset.select([2, 0]), image_column_name="photo")


def test_a_mode_of_the_column_stays(pictures: Path) -> None:
    dataset = Dataset.from_dict({"photo": ["im/0.png", "im/1.png"], "label": [0, 1]})
    dataset = dataset.cast_column("photo", Image(mode="RGB"))
    assert with_images(dataset, "photo", str(pictures)).features["photo"] == Image(mode="RGB")


def test_other_columns_are_no_images(images_dataset: Dataset) -> None:
    values = {
        "list": [[1], [2]],
        "number": [1.0, 2.0],
        "odd": [{"bytes": b"x", "size": 1}] * 2,
        "numbers": [{"bytes": 1, "path": "x"}] * 2,
    }
    dataset = Dataset.from_dict({"file": ["a", "b"], "label": [0, 1], **values})
    for name in [*values, "label", "missing"]:
        message = message_of(read_images, dataset, image_column_name=name)
        assert message.startswith(f"--image_column_name {name} is not an image column of the dataset.")
    assert "(file?) have to be named" in message_of(read_images, dataset)
    # Another structure beside the images is no image, and keeps its type.
    sound = [{"bytes": b"RIFF", "path": None}] * 60
    sounds = images_dataset.add_column(
        "sound", pa.array(sound, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    )
    images = read_images(sounds)
    assert images.dataset.features["sound"] == sounds.features["sound"]


def test_files_that_are_no_plain_files_are_unreadable_and_nobody_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    with (tmp_path / "large").open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, told in [
        (tmp_path / "pipe", "it is a pipe, not a plain file"),
        (tmp_path / "link", "it is a pipe"),
        ("/dev/zero", "it is a device"),
        ("/dev/stdin", "not a plain file|No such"),
        (tmp_path / "folder", "it is a folder"),
        (tmp_path / "socket", "it is a socket"),
        (tmp_path / "large", "it has 2 GB"),
        (tmp_path / "loop", "symbolic links"),
        ("/proc/self/environ", "no bytes"),
        ("a\0b", "null"),
        ("x" * 5000, "too long"),
    ]:
        with pytest.raises(UnreadableImageError, match=told):
            open_image({"bytes": None, "path": str(path)})
    server.close()
    good = {"bytes": PNGS[3], "path": None}
    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b"])})
    paths = [{"bytes": None, "path": str(tmp_path / name)} for name in ("pipe", "large", "socket", "folder")]
    dataset = Dataset.from_dict({"image": [good] * 4 + paths, "label": LABELS}, features=features)
    result = select_dataset(dataset, on_bad_image="drop", selection_count=3, **QUICK)
    assert set(result.selected) < {0, 1, 2, 3}
    message = message_of(select_dataset, dataset, **QUICK)
    assert "source_index 4 can't be read" in message and "it is a pipe" in message


def test_one_split_is_taken_and_what_else_may_be_passed_is_told(images_dataset: Dataset) -> None:
    one = DatasetDict(test=images_dataset)
    assert one_split(images_dataset) is images_dataset and one_split(one) is images_dataset
    several = message_of(one_split, DatasetDict(train=images_dataset, test=images_dataset))
    assert (
        "got DatasetDict of train, test." in several and "dataset['train']" in several and "split='train'" in several
    )
    for streamed in (images_dataset.to_iterable_dataset(), images_dataset.to_iterable_dataset().take(3)):
        message = message_of(one_split, streamed)
        assert "got IterableDataset." in message and "streaming=False" in message
    streamed = IterableDatasetDict(train=images_dataset.to_iterable_dataset())
    assert "got IterableDatasetDict" in message_of(one_split, streamed)
    for other, name in [
        (np.zeros(3), "ndarray"),
        ([1], "list"),
        ("x", "str"),
        (images_dataset.to_pandas(), "DataFrame"),
    ]:
        assert message_of(one_split, other).endswith(f"got {name}.")
    # What the sentence says works.
    split = images_dataset.to_iterable_dataset()
    collected = Dataset.from_list(list(split), features=split.features)
    assert collected.features == images_dataset.features and collected[:]["label"] == images_dataset[:]["label"]


@pytest.mark.parametrize("start", ["file://", "file://localhost", "file:"])
def test_urls_of_files_here(start: str, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "set", ["a b/0.png", "c%20d/1.png"])
    (tmp_path / "set" / "rows.csv").write_text(
        f"photo,label\n{start}{folder}/a%20b/0.png,x\n{start}{folder}/c%20d/1.png,y\n"
    )
    dataset, source = load_source(str(folder / "rows.csv"))
    images = read_images(dataset, source, image_column_name="photo")
    assert [row.size for row in images.dataset["photo"]] == [(6, 5)] * 2
    (folder / "out.csv").write_text(f"photo,label\n{start}{folder}/%2e%2e/other.png,x\na.png,y\n")
    dataset, source = load_source(str(folder / "out.csv"))
    assert "lies outside of the dataset's own folder" in message_of(
        read_images, dataset, source, image_column_name="photo"
    )


def test_texts_that_are_no_paths() -> None:
    dataset = Dataset.from_dict({"photo": ["a.png", "iVBORw0K" * 1000], "label": [0, 1]})
    message = message_of(read_images, dataset, image_column_name="photo")
    assert "1 rows of --image_column_name photo" in message and "source_index 1" in message and "base64" in message
    assert len(message) < 400

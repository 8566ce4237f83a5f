"""A run on a stream gives what a run on a dataset of the same rows gives, and says what it can't do."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from captioned import drawn_pairs
from datasets import (
    ClassLabel,
    Dataset,
    Features,
    Image,
    IterableDataset,
    IterableDatasetDict,
    Value,
    concatenate_datasets,
    load_dataset,
)
from loopback_hub.server import LoopbackHub
from preloaded import run_python
from torch.nn.modules.module import register_module_forward_pre_hook

from hf_clipselect import SelectionResult, load_pruned, select_dataset
from hf_clipselect.cli.commands import main
from hf_clipselect.data.decisions import Decision
from hf_clipselect.embedded import load_digits_dataset
from hf_clipselect.encoder.cache import whole_features
from hf_clipselect.errors import InputError
from hf_clipselect.results.source_images import source_dataset


SHARD_ROWS = 64
QUICK = {"objective": "clean", "adaptation": "off", "dataloader_num_workers": 0}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    for module in ("cache", "stream_features"):
        monkeypatch.setattr(f"hf_clipselect.encoder.{module}.SHARD_ROWS", SHARD_ROWS)


@pytest.fixture
def encoded_rows() -> Iterator[list[int]]:
    """How many images each pass of an image tower took."""
    counts: list[int] = []

    def note(module: Any, inputs: tuple) -> None:
        if type(module).__name__ == "Conv2d":
            counts.append(len(inputs[0]))

    handle = register_module_forward_pre_hook(note)
    yield counts
    handle.remove()


@pytest.fixture(scope="module")
def digits() -> Dataset:
    rows = load_digits_dataset("train").select(range(150))
    rows = rows.add_column("camera", [f"camera {i % 3}" for i in range(150)])
    return rows.add_column("first", [i < 4 for i in range(150)])


def assert_same_results(stream: Path, dataset: Path) -> None:
    """All that is written but the features' keys, and what tells where the results lie."""
    theirs = {path.relative_to(dataset).as_posix() for path in dataset.rglob("*")}
    assert {path.relative_to(stream).as_posix() for path in stream.rglob("*")} == theirs
    same = [
        name for name in theirs if name.endswith((".parquet", ".jpg")) or name == "adapter/adapter_model.safetensors"
    ]
    assert [name for name in same if (stream / name).read_bytes() != (dataset / name).read_bytes()] == []
    ours, others = (json.loads((folder / "report.json").read_text()) for folder in (stream, dataset))
    own = {"source", "seconds", "arguments", "compare_command"}
    assert {name for name in others if ours[name] != others[name]} <= own


def both(
    dataset: Dataset, clip_folder: Path, folder: Path, **settings: Any
) -> tuple[SelectionResult, SelectionResult]:
    """The results from a stream of several files, and from the dataset."""
    results = []
    for name, rows in (("stream", dataset.to_iterable_dataset(num_shards=4)), ("dataset", dataset)):
        results.append(
            select_dataset(rows, model_name_or_path=clip_folder, output_dir=folder / name, **{**QUICK, **settings})
        )
    assert results[0].selected.tolist() == results[1].selected.tolist()
    assert_same_results(folder / "stream", folder / "dataset")
    return results[0], results[1]


def test_a_stream_gives_the_same_scores_rows_and_files(digits, clip_folder, tmp_path):
    streamed, _ = both(
        digits,
        clip_folder,
        tmp_path,
        objective=None,
        selection_ratio=[0.3, 0.125],
        group_column="camera",
        must_keep="first",
        must_drop=[140, 149],
    )
    assert set(streamed.selected) >= {0, 1, 2, 3} and streamed.source.num_rows == 150
    subset = load_dataset(str(tmp_path / "stream" / "subset"), "ratio_30", split="train")
    assert subset["source_index"][:] == streamed.selected.tolist() and subset.features["image"] == Image()


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "robust", "adaptation": "always", "num_train_epochs": 2, "num_folds": 2},
        {
            "objective": "diverse",
            "redundancy_weight": 0.5,
            "class_balance": "uniform",
            "min_per_class": 3,
            "map": True,
        },
        {
            "objective": "robust",
            "decisions": {row: Decision(row, *told) for row, told in {3: ("relabel", "five"), 7: ("drop",)}.items()},
        },
    ],
    ids=lambda settings: settings["objective"] + ("-decisions" if "decisions" in settings else ""),
)
def test_every_objective_knob_and_stage_sees_the_same(settings, digits, clip_folder, tmp_path):
    streamed, plain = both(digits, clip_folder, tmp_path, **settings)
    assert streamed.objective == plain.objective and streamed.scores.column_names == plain.scores.column_names


@pytest.mark.slow
def test_captions_of_a_stream(clip_folder, tmp_path):
    pairs, _ = drawn_pairs(200)
    streamed, plain = both(pairs, clip_folder, tmp_path, objective="diverse", caption_column="text", num_clusters=3)
    assert streamed.scores["better_caption"][:] == plain.scores["better_caption"][:]


def test_without_a_folder_a_stream_is_read_once(digits, clip_folder):
    reads = []

    def rows() -> Iterator[dict[str, Any]]:
        reads.append("begun")
        yield from digits.cast_column("image", Image(decode=False))

    stream = IterableDataset.from_generator(rows, features=digits.features)
    result = select_dataset(stream, model_name_or_path=clip_folder, **QUICK)
    assert len(reads) == 2  # its first rows tell the columns
    assert [row["source_index"] for row in result.apply(digits.to_iterable_dataset())] == result.selected.tolist()
    assert "SelectionResult from 150 rows" in repr(result) and "<table" in result._repr_html_()


def test_a_run_that_was_stopped_encodes_what_is_missing(digits, clip_folder, tmp_path, encoded_rows):
    rows = list(digits.cast_column("image", Image(decode=False)))

    def until(last: int) -> IterableDataset:
        def read() -> Iterator[dict[str, Any]]:
            for number, row in enumerate(rows):
                if number == last:
                    raise ConnectionError("the line is down")
                yield row

        return IterableDataset.from_generator(read, features=digits.features)

    settings = {**QUICK, "model_name_or_path": clip_folder, "output_dir": tmp_path / "out"}
    with pytest.raises(Exception, match="the line is down"):
        select_dataset(until(140), **settings)
    # A shard is encoded when the first rows behind it are there.
    assert sum(encoded_rows) == 64 and not list((tmp_path / "out" / "features").glob(".*"))
    encoded_rows.clear()
    first = select_dataset(until(-1), **settings)
    assert sum(encoded_rows) == 150 - 64
    encoded_rows.clear()
    again = select_dataset(until(-1), **settings, selection_ratio=0.5)
    assert encoded_rows == [] and set(first.selected) < set(again.selected)
    features, unreadable = whole_features(tmp_path / "out" / "features")
    assert len(features) == 150 and unreadable == {}


@pytest.mark.slow
def test_another_stream_is_refused_before_it_replaces_anything(digits, clip_folder, tmp_path, encoded_rows):
    settings = {**QUICK, "model_name_or_path": clip_folder, "output_dir": tmp_path / "out"}
    select_dataset(digits.to_iterable_dataset(), **settings)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    order = [*range(100), *range(140, 150), *range(100, 140)]
    others = digits.select(order).to_iterable_dataset()
    encoded_rows.clear()
    with pytest.raises(InputError, match="other images from row 64 on.*overwrite_output_dir=True"):
        select_dataset(others, **settings)
    assert encoded_rows == []
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    result = select_dataset(others, **settings, overwrite_output_dir=True)
    assert sum(encoded_rows) == 150 - 64  # the first shard is the same
    expected = select_dataset(digits.select(order), **{**settings, "output_dir": tmp_path / "expected"})
    assert result.selected.tolist() == expected.selected.tolist()
    with pytest.raises(InputError, match="holds another run|made otherwise"):
        select_dataset(digits, **settings)
    with pytest.raises(InputError, match="made otherwise"):
        select_dataset(digits.to_iterable_dataset(), **{**settings, "output_dir": tmp_path / "expected"})


def test_more_or_fewer_shards_are_refused_before_anything_is_replaced(digits, clip_folder, tmp_path, encoded_rows):
    settings = {**QUICK, "model_name_or_path": clip_folder, "output_dir": tmp_path / "out"}

    def first(count: int) -> IterableDataset:
        return digits.select(range(count)).to_iterable_dataset()

    select_dataset(first(2 * SHARD_ROWS), **settings)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    encoded_rows.clear()
    for count, told in {150: "128 rows there, 150 now or more", SHARD_ROWS: "128 rows there, 64 now"}.items():
        with pytest.raises(InputError, match=rf"{told}.*overwrite_output_dir=True"):
            select_dataset(first(count), **settings)
        assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    assert encoded_rows == []
    result = select_dataset(first(SHARD_ROWS), **settings, overwrite_output_dir=True)
    assert result.source.num_rows == SHARD_ROWS and encoded_rows == []


def test_other_labels_of_the_same_images_replace_no_results(digits, clip_folder, tmp_path, encoded_rows):
    settings = {**QUICK, "model_name_or_path": clip_folder, "output_dir": tmp_path / "out"}
    select_dataset(digits.to_iterable_dataset(), **settings)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    turned = digits.map(lambda row: {"label": 9 - row["label"]}, features=digits.features)
    encoded_rows.clear()
    with pytest.raises(InputError, match=r"holds another run: dataset .*overwrite_output_dir=True"):
        select_dataset(turned.to_iterable_dataset(), **settings)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    result = select_dataset(turned.to_iterable_dataset(), **settings, overwrite_output_dir=True)
    assert result.scores["label"][:] == turned["label"][:] and encoded_rows == []


@pytest.mark.parametrize("change", ["images", "labels", "fewer", "more"])
def test_a_stream_that_gives_other_rows_the_second_time(change, digits, clip_folder, tmp_path):
    rows = list(digits.cast_column("image", Image(decode=False)))
    reads = []

    def read() -> Iterator[dict[str, Any]]:
        reads.append(change)
        given = rows
        if len(reads) == 3:  # after the first rows, and the reading for the features
            last = {**rows[100], "image": rows[0]["image"]} if change == "images" else {**rows[100], "label": 0}
            given = {"images": [*rows[:100], last, *rows[101:]], "labels": [*rows[:100], last, *rows[101:]]}.get(
                change, rows[:-3] if change == "fewer" else [*rows, rows[0]]
            )
        yield from given

    stream = IterableDataset.from_generator(read, features=digits.features)
    place = {"images": 64, "labels": 64, "fewer": 128, "more": 128}[change]
    with pytest.raises(InputError, match=f"other rows from row {place} on|other rows from row 147 on"):
        select_dataset(stream, model_name_or_path=clip_folder, output_dir=tmp_path / "out", **QUICK)
    assert not (tmp_path / "out" / "subset").exists() and not list((tmp_path / "out" / "features").glob(".*"))


@pytest.mark.slow
def test_images_that_cannot_be_read(digits, clip_folder, tmp_path):
    rows = digits.cast_column("image", Image(decode=False)).to_list()
    rows[100]["image"] = {"bytes": b"no image", "path": None}
    broken = Dataset.from_list(rows, features=digits.features)
    with pytest.raises(InputError, match="source_index 100 can't be read"):
        select_dataset(broken.to_iterable_dataset(), model_name_or_path=clip_folder, **QUICK)
    settings = {**QUICK, "model_name_or_path": clip_folder, "on_bad_image": "drop"}
    streamed = select_dataset(broken.to_iterable_dataset(), output_dir=tmp_path / "out", **settings)
    assert streamed.selected.tolist() == select_dataset(broken, **settings).selected.tolist()
    assert pq.read_table(tmp_path / "out" / "dropped.parquet")["source_index"].to_pylist() == [100]


@pytest.mark.parametrize(("column", "missing"), [("label", None), ("camera", None), ("camera", " \n")])
def test_a_missing_label_or_caption_is_told_before_all_is_encoded(column, missing, digits, clip_folder, encoded_rows):
    rows = digits.cast_column("image", Image(decode=False)).to_list()
    rows[70][column] = missing
    stream = IterableDataset.from_generator(lambda: iter(rows), features=digits.features)
    settings, what = dict(QUICK), "label"
    if column == "camera":
        settings, what = {**QUICK, "caption_column": column}, "caption"
    with pytest.raises(InputError, match=f"Row 70 of the stream has no {what} in column '{column}'. Leave such rows"):
        select_dataset(stream, model_name_or_path=clip_folder, **settings)
    assert sum(encoded_rows) <= SHARD_ROWS + 1


def test_rows_that_come_one_by_one_may_lack_values(digits, clip_folder):
    rows = digits.cast_column("image", Image(decode=False)).to_list()
    for number, row in enumerate(rows):
        row["note"] = None if number < 70 else "dark"
    rows[30]["image"] = None
    features = Features({**digits.features, "note": Value("string")})

    def stream() -> IterableDataset:
        return IterableDataset.from_generator(lambda: iter(rows), features=features)

    settings = {**QUICK, "model_name_or_path": clip_folder, "on_bad_image": "drop"}
    streamed, dataset = select_dataset(stream(), **settings), Dataset.from_list(rows, features=features)
    assert streamed.selected.tolist() == select_dataset(dataset, **settings).selected.tolist()
    for result in (streamed, streamed.at(0.9)):
        assert [row["note"] for row in result.apply(stream())] == result.apply(dataset)["note"][:]
    untyped = Features({**digits.features, "note": Value("null")})
    with pytest.raises(InputError, match="column note of the stream is empty in its first rows.*holds 'dark' later"):
        select_dataset(IterableDataset.from_generator(lambda: iter(rows), features=untyped), **settings)
    rows[100]["label"] = None
    with pytest.raises(InputError, match="Row 100 of the stream has no label"):
        select_dataset(stream(), **settings)


def test_what_a_stream_cannot_do_is_refused_with_the_way_out(digits, clip_folder, tmp_path):
    stream = digits.to_iterable_dataset(num_shards=2)
    settings = {**QUICK, "model_name_or_path": clip_folder}
    for shuffled in (stream.shuffle(seed=1), stream.shuffle(seed=1, buffer_size=2).map(dict).take(20)):
        with pytest.raises(InputError, match=r"shuffled.*before \.shuffle"):
            select_dataset(shuffled, **settings)
    with pytest.raises(InputError, match='quality_checks="report".*leave it out'):
        select_dataset(stream, **settings, quality_checks="report")
    with pytest.raises(InputError, match="the splits a, b. Pass one of them"):
        select_dataset(IterableDatasetDict({"a": stream, "b": stream}), **settings)
    with pytest.raises(InputError, match="has no rows"):
        select_dataset(stream.take(0), **settings)
    with pytest.raises(InputError, match="group_column lens is no column.*camera"):
        select_dataset(stream, **settings, group_column="lens")
    with pytest.raises(InputError, match="label_column_name camera_ is no column"):
        select_dataset(stream, **settings, label_column_name="camera_")
    opened = IterableDataset.from_generator(lambda: ({"image": row["image"], "label": 1} for row in digits))
    with pytest.raises(InputError, match="does not tell what its columns are.*features=Features"):
        select_dataset(opened, **settings)
    copies = select_dataset(stream, **settings, reference=digits.select(range(5)))
    assert np.flatnonzero(np.array(copies.scores["leak_of"][:]) >= 0).tolist()[:5] == [0, 1, 2, 3, 4]


def test_rows_with_ids_are_found_in_any_order_and_part(digits, clip_folder, tmp_path):
    ids = [f"row-{(i * 37) % 150}" for i in range(150)]
    named = digits.add_column("uid", ids).add_column("number", [1000 - i for i in range(150)])
    settings = {**QUICK, "model_name_or_path": clip_folder, "id_column": "uid"}
    result = select_dataset(named.to_iterable_dataset(), output_dir=tmp_path / "out", **settings)
    assert result.scores["row_id"][:] == ids and result.source.id_column == "uid"
    kept = {ids[row]: int(row) for row in result.selected}
    shuffled = named.to_iterable_dataset(num_shards=5).shuffle(seed=3, buffer_size=40)
    for found in (result, SelectionResult.from_folder(tmp_path / "out")):
        rows = list(found.apply(shuffled))
        assert {row["uid"]: row["source_index"] for row in rows} == kept and len(rows) == len(kept)
        assert [row["source_index"] for row in rows] != sorted(kept.values())
        assert all(row["label"] == digits[row["source_index"]]["label"] for row in rows)
    part = named.select(range(100, 150)).add_column("more", range(50))
    assert [row["uid"] for row in result.apply(part.to_iterable_dataset())] == [
        uid for uid, row in kept.items() if row >= 100
    ]
    relabelled = part.map(lambda row: {"label": 9 - row["label"]}, features=part.features)
    with pytest.raises(InputError, match="labels differ between row 0 and row 50"):
        list(result.apply(relabelled.to_iterable_dataset()))
    with pytest.raises(InputError, match="id_column uid is no column of the dataset"):
        result.apply(digits.to_iterable_dataset())
    lists = digits.add_column("uid", [[uid] for uid in ids])
    with pytest.raises(InputError, match="id_column uid is a column of List.*name a column of strings"):
        result.apply(lists.to_iterable_dataset())
    twice = concatenate_datasets([named.to_iterable_dataset(), named.select(range(100, 150)).to_iterable_dataset()])
    with pytest.raises(
        InputError, match=f"gives the row with uid '{ids[100]}' twice; pass one that has each row once"
    ):
        list(result.apply(twice))
    with pytest.raises(InputError, match="gives the row with uid 'row-0' twice"):
        list(result.apply(named.select([0, 1, 0]).to_iterable_dataset()))
    padded = named.map(lambda row: {"uid": f"0{row['uid']}"})
    with pytest.raises(InputError, match="None of the 150 rows .* the first has uid '0row-0', .* selection 'row-0'"):
        list(result.apply(padded.to_iterable_dataset()))
    by_number = select_dataset(named, **{**settings, "id_column": "number"})
    assert by_number.selected.tolist() == result.selected.tolist() and by_number.scores["row_id"][1] == "999"
    assert [row["number"] for row in by_number.apply(shuffled)] == [1000 - kept[row["uid"]] for row in rows]


def test_ids_that_name_no_row_alone_are_refused(digits, clip_folder, encoded_rows):
    settings = {**QUICK, "model_name_or_path": clip_folder}
    for rows in (digits, digits.to_iterable_dataset()):
        with pytest.raises(InputError, match=r"id_column uid is no column of the dataset; .*camera"):
            select_dataset(rows, **settings, id_column="uid")
        with pytest.raises(InputError, match="id_column label is a column of ClassLabel"):
            select_dataset(rows, **settings, id_column="label")
    assert encoded_rows == []
    with pytest.raises(InputError, match="id_column camera has 'camera 0' in row 0 and again in row 3, and 147 rows"):
        select_dataset(digits, **settings, id_column="camera")
    named = digits.add_column("uid", [None if i == 7 else str(i) for i in range(150)])
    with pytest.raises(InputError, match="id_column uid is empty in 1 row, first source_index 7"):
        select_dataset(named.to_iterable_dataset(), **settings, id_column="uid")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"class_names": ["a", "b"]}, "Got 2 class names, but column 'label' has 10 classes"),
        ({"prompt_template": "a digit"}, "has 0 placeholders"),
        ({"class_quotas": {"eleven": 3}}, "names eleven, which is no class of the stream; .*zero"),
        ({"must_keep": [3, -1]}, "must_keep lists -1"),
        ({"must_keep": "nowhere.txt"}, "must_keep nowhere.txt can't be read as a file"),
        ({"must_drop": "camera"}, "must_drop camera is a column of .*name a boolean column"),
        ({"must_keep": [3, 4], "must_drop": [4, 5]}, "1 row is in must_keep and must_drop, first 4"),
        ({"caption_column": "camera", "objective": "robust"}, "captions in place of labels"),
        ({"caption_column": "camera", "selection_ratio": "auto"}, "captions in place of labels"),
        ({"caption_column": "camera", "prompt_template": "{}, a photo"}, "captions are used as they are"),
        ({"caption_column": "camera", "class_names": ["a", "b"]}, "captions are used as they are"),
        ({"caption_column": "camera", "class_quotas": {"a": 3}}, "captions have none"),
    ],
    ids=str,
)
def test_what_no_rows_could_meet_is_refused_before_any_is_encoded(settings, told, digits, clip_folder, encoded_rows):
    settings = {**QUICK, "objective": "clean", "model_name_or_path": clip_folder, **settings}
    with pytest.raises(InputError, match=told):
        select_dataset(digits.to_iterable_dataset(), **settings)
    assert encoded_rows == []


def select_by_command(folder: Path, clip_folder: Path, *flags: str) -> int:
    own = "--adaptation off --objective clean --use_cpu --dataloader_num_workers 0 --selection_ratio 0.3".split()
    return main(["select", *own, "--model_name_or_path", str(clip_folder), "--output_dir", str(folder), *flags])


@pytest.fixture(scope="module")
def places(digits, tmp_path_factory) -> dict[str, list[str]]:
    """The same rows as class folders, a Parquet file, a saved dataset, and a table of paths."""
    folder = tmp_path_factory.mktemp("places")
    names, lines = digits.features["label"].names, ["file,label"]
    for number, row in enumerate(digits.select(range(100))):
        path = folder / "images" / names[row["label"]] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        row["image"].save(path)
        lines.append(f"{path.relative_to(folder)},{names[row['label']]}")
    (folder / "paths.csv").write_text("\n".join(lines))
    digits.to_parquet(folder / "rows.parquet")
    digits.save_to_disk(folder / "saved")
    return {
        "class folders": [str(folder / "images")],
        "parquet": [str(folder / "rows.parquet")],
        "saved": [str(folder / "saved"), "--group_column", "camera"],
        "paths": [str(folder / "paths.csv"), "--image_column_name", "file"],
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["class folders", "parquet", "saved", "paths"])
def test_streaming_by_name(kind, places, clip_folder, tmp_path, capsys):
    name = ["--dataset_name", *places[kind]]
    assert select_by_command(tmp_path / "dataset", clip_folder, *name) == 0
    assert select_by_command(tmp_path / "stream", clip_folder, *name, "--streaming") == 0
    assert_same_results(tmp_path / "stream", tmp_path / "dataset")
    printed = capsys.readouterr()
    assert printed.err.count("Finding images") <= 2  # those of the dataset, and none for each batch of the stream
    if kind == "saved":  # the folder tells where its images are, and takes its settings back
        assert main(["suspects", str(tmp_path / "stream"), "--output_dir", str(tmp_path / "suspects")]) == 0
        config = ["--config", str(tmp_path / "stream" / "config.yaml"), "--selection_ratio", "0.5"]
        assert main(["select", *config]) == 0
        assert SelectionResult.from_folder(tmp_path / "stream").ratios[0] == 0.5


@pytest.mark.slow
def test_the_subset_of_a_stream_is_pushed(places, tmp_path):
    flags = ["--dataset_name", places["parquet"][0], "--streaming", "--model_name_or_path", "embedded/tiny-clip"]
    flags += ["--use_cpu", "--adaptation", "off", "--push_to_hub", "--hub_dataset_id", "me/streamed"]
    with LoopbackHub(tmp_path / "hub") as hub:
        done = run_python("-m", "hf_clipselect", "select", *flags, env=hub.environment("hf_me_write"), cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        assert 'load_dataset("me/streamed", "ratio_30"' in done.stdout
        pushed = pq.read_table(io.BytesIO(hub.read("datasets/me/streamed", "ratio_30/train-00000-of-00001.parquet")))
    result = SelectionResult.from_folder(tmp_path / "clipselect_output")
    assert pushed["source_index"].to_pylist() == result.selected.tolist() and len(pushed) == 45
    assert all(image["bytes"] for image in pushed["image"].to_pylist())


@pytest.mark.slow
def test_max_train_samples_takes_the_first_rows(places, clip_folder, tmp_path, capsys):
    name = ["--dataset_name", places["parquet"][0], "--streaming", "--max_train_samples", "90"]
    assert select_by_command(tmp_path / "out", clip_folder, *name) == 0
    result = SelectionResult.from_folder(tmp_path / "out")
    stream = load_dataset("parquet", data_files=places["parquet"][0], split="train", streaming=True)
    kept = list(result.apply(stream.take(90)))
    assert result.source.num_rows == 90 and len(kept) == 27
    with pytest.raises(InputError, match=r"more than 90 rows.*of a run with --max_train_samples, \.take so many"):
        list(result.apply(stream))


def test_the_first_rows_of_a_stream_are_found_again(places, clip_folder, tmp_path):
    for name in ("embedded/digits", places["parquet"][0]):
        folder = tmp_path / Path(name).name
        flags = ["--dataset_name", name, "--streaming", "--max_train_samples", "100"]
        assert select_by_command(folder, clip_folder, *flags) == 0
        result = SelectionResult.from_folder(folder)
        assert len(source_dataset(result, str(folder))) == result.source.first_rows == 100
    pruned = load_pruned(tmp_path / "digits", ratio=0.5)  # another size than there are images of
    assert len(pruned) == 50 and max(pruned["source_index"]) < 100


def test_flags_that_streaming_rules_out(places, clip_folder, tmp_path, capsys):
    for flags, told in {
        ("--reference_split", "test"): "--reference_split test is loaded whole",
        ("--quality_checks", "drop"): "--quality_checks drop looks at all images once more",
        ("--train_split_name", "test"): "--train_split_name test",
        ("--dataset_name", "s3://bucket/rows.parquet"): "what a URL names is fetched whole first",
        ("--dataset_name", "no-such-folder/at/all"): "is neither a folder nor a Hub id",
    }.items():
        name = ["--dataset_name", places["parquet"][0], "--streaming"]
        assert select_by_command(tmp_path / "out", clip_folder, *name, *flags) == 2
        assert told in capsys.readouterr().err


def test_rows_of_a_stream_may_not_name_files_of_others(clip_folder, tmp_path, capsys):
    (tmp_path / "secret").mkdir()
    (tmp_path / "given").mkdir()
    load_digits_dataset("train")[0]["image"].save(tmp_path / "secret" / "key.png")
    images = [{"bytes": None, "path": str(tmp_path / "secret" / "key.png")}] * 100
    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b"])})
    table = pa.table({"image": images, "label": [i % 2 for i in range(100)]}).cast(features.arrow_schema)
    pq.write_table(table, tmp_path / "given" / "rows.parquet")
    name = ["--dataset_name", str(tmp_path / "given" / "rows.parquet"), "--streaming"]
    assert select_by_command(tmp_path / "out", clip_folder, *name) == 2
    assert "lies outside of the dataset's own folder" in capsys.readouterr().err


@pytest.mark.slow
def test_several_processes_are_refused(forking_client, tmp_path):
    flags = ["--use_cpu", "--streaming", "--output_dir", str(tmp_path / "out")]
    plan = {"runs": [flags], "shard_rows": SHARD_ROWS, "notes": str(tmp_path), "processes": 2}
    assert forking_client.run(plan) == [2, 2]
    told = "A stream is read by one process, and this run has 2; start it without a launcher"
    assert any(told in path.read_text() for path in tmp_path.glob("output-*.txt"))

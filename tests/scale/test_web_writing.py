"""What was selected as lists of uids, masks beside the scores, and shards of the kept samples."""

import argparse
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import dill
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.io import DataFolder
from made_shard_scores import (
    REFERENCE,
    MadeScores,
    made_scores,
    write_failed,
    write_score_file,
    write_scores,
)

from hf_clipselect.errors import InputError, RunError
from hf_clipselect.scale.masks import WriteMasks
from hf_clipselect.scale.select_commands import add_select, add_write
from hf_clipselect.scale.select_step import Cut, Rank, web_objective
from hf_clipselect.scale.shuffle import Layout, Shuffle
from hf_clipselect.scale.subset_shards import WriteSubsets, remove_others
from hf_clipselect.scale.uid_lists import MergeLists


def run(command: str, data: Path, work: Path, *flags: object) -> None:
    parser = argparse.ArgumentParser()
    steps = parser.add_subparsers()
    add_select(steps)
    add_write(steps)
    arguments = parser.parse_args([command, "--data_dir", str(data), "--work_dir", str(work), *map(str, flags)])
    arguments.run(arguments)


def select(data: Path, work: Path, *flags: object) -> None:
    run("select", data, work, "--workers", 1, "--selection_ratio", 0.3, 0.6, *flags)


def write(data: Path, work: Path, *flags: object) -> None:
    run("write", data, work, "--workers", 1, *flags)


def kept_rows(made: MadeScores, work: Path, config: str) -> np.ndarray:
    """The rows of a list, by DataComp's reading of it: each uid is its high and its low half."""
    uids = np.load(work / "lists" / f"{config}.npy")
    assert uids.dtype == np.dtype("u8,u8") and (uids == np.unique(uids)).all()
    hexadecimal = {f"{high:016x}{low:016x}" for high, low in uids.tolist()}
    return np.array([row for row, uid in enumerate(made.uids) if uid.hex() in hexadecimal])


def masked_rows(made: MadeScores, work: Path, column: str) -> np.ndarray:
    found = []
    for path in sorted((work / "masks").rglob("*.parquet")):
        mask = pq.read_table(path)
        mine = np.flatnonzero(made.shards == int(path.stem))
        assert mask.column("uid").to_pylist() == [made.uids[row] for row in mine]
        assert mask.column("row").to_pylist() == made.rows[mine].tolist()
        found.append(mine[mask.column(column).to_numpy()])
    return np.concatenate(found)


def write_shards(made: MadeScores, data: Path, *, num_shards: int, ending: str) -> None:
    """Shards in which the rows between the scored ones can't be read: a tar sample has two members and a dot file."""
    (data / "part").mkdir(parents=True)
    for shard in range(num_shards):
        path, count = data / "part" / f"{shard:04d}{ending}", 2 * int((made.shards == shard).sum())
        if ending == ".parquet":
            table = pa.table({"image": [b"%d" % row for row in range(count)], "n": pa.array(range(count), pa.int64())})
            pq.write_table(table.replace_schema_metadata({"own": "kept"}), path, row_group_size=7)
            continue
        with tarfile.open(path, "w") as archive:
            for row in range(count):
                for name in (f"{row:05d}.jpg", f"{row:05d}.seg.png", f".{row}", f"{row:05d}.json"):
                    member = tarfile.TarInfo(f"folder/{name}")
                    content = f"{shard} {name}".encode()
                    member.size, member.mtime = len(content), 1_700_000_000 + row
                    archive.addfile(member, io.BytesIO(content))


def rows_of(path: Path) -> list[int]:
    """The rows in a shard of kept samples, each of which is whole."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        assert table.schema.metadata[b"own"] == b"kept"
        assert table.column("image").to_pylist() == [b"%d" % row for row in table.column("n").to_pylist()]
        return table.column("n").to_pylist()
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        for member in members:
            assert archive.extractfile(member).read() == f"{int(path.stem)} {Path(member.name).name}".encode()
            assert member.mtime == 1_700_000_000 + int(Path(member.name).name[:5])
    rows = [int(Path(member.name).name[:5]) for member in members]
    assert rows[::3] == rows[1::3] == rows[2::3]
    return rows[::3]


@pytest.mark.parametrize("ending", [".tar", ".parquet"])
def test_lists_masks_and_shards_hold_the_same_rows(ending, tmp_path, capsys):
    made = made_scores(90, num_shards=4, num_clusters=3)
    write_shards(made, tmp_path / "data", num_shards=5, ending=ending)
    data, work = write_scores(made, tmp_path, num_shards=5, ending=ending)
    select(data, work, "--tasks", 3)
    write(data, work, "--write_subset", "--tasks", 2)
    assert capsys.readouterr().out.endswith("lists/ratio_30.npy: 27 uids\nlists/ratio_60.npy: 54 uids\n")
    for config, column, count in (("ratio_30", "selected_30", 27), ("ratio_60", "selected_60", 54)):
        kept = kept_rows(made, work, config)
        assert len(kept) == count and (masked_rows(made, work, column) == kept).all()
        shards = sorted((work / "subset" / config / "part").iterdir())
        assert [(int(path.stem), row) for path in shards for row in rows_of(path)] == [
            (made.shards[row], made.rows[row]) for row in kept
        ]


def test_of_rows_with_one_uid_the_mask_marks_the_best(tmp_path):
    made = made_scores(60)
    for row in (3, 45):
        made.uids[row], made.clusters[row] = made.uids[20], made.clusters[20]
    made.margin[20] = 2
    data, work = write_scores(made, tmp_path)
    select(data, work, "--selection_ratio", 1)
    write(data, work)
    assert np.setdiff1d(np.arange(60), masked_rows(made, work, "selected_100")).tolist() == [3, 45]
    assert len(np.load(work / "lists" / "ratio_100.npy")) == 58


def test_a_uid_of_two_clusters_is_named(tmp_path):
    made = made_scores(60, num_clusters=2)
    other = next(row for row in range(1, 60) if made.clusters[row] != made.clusters[0])
    made.uids[other] = made.uids[0]
    data, work = write_scores(made, tmp_path)
    select(data, work, "--selection_ratio", 1, "--tasks", 2)
    with pytest.raises(InputError, match=f"The uid {made.uids[0].hex()} stands at rows of different clusters"):
        write(data, work)


def test_steps_are_the_same_in_processes_of_their_own(tmp_path):
    """datatrove hands them over by dill."""
    made = made_scores(40, num_shards=2)
    write_shards(made, tmp_path / "data", num_shards=2, ending=".tar")
    data, work = write_scores(made, tmp_path, num_shards=2)
    select(data, work)
    folder, objective = str(work), web_objective(None, has_labels=False)
    layout, key = (json.loads((work / f"selection_{name}.json").read_text())["key"] for name in ("layout", "quotas"))
    steps = [Shuffle(folder, layout), Rank(folder, objective, layout)]
    steps += [Cut(folder, key), MergeLists(folder, key), WriteMasks(folder, key), WriteSubsets(str(data), folder, key)]
    for step in steps:
        dill.loads(dill.dumps(step)).run(None, 0, 1)
    assert len(list((work / "subset" / "ratio_60").rglob("*.tar"))) == 2


def test_late_tasks_of_another_selection_write_nothing(tmp_path):
    """A cluster may run what was handed over for one objective when select has begun with another."""
    data, work = write_scores(made_scores(60), tmp_path)
    folder = str(work)
    select(data, work)
    layout, key = (json.loads((work / f"selection_{name}.json").read_text())["key"] for name in ("layout", "quotas"))
    late = [Shuffle(folder, layout), Rank(folder, web_objective("diverse", has_labels=False), layout)]
    late += [Cut(folder, key), MergeLists(folder, key), WriteMasks(folder, key), WriteSubsets(str(data), folder, key)]
    select(data, work, "--objective", "clean")
    there = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}
    for step in late:
        with pytest.raises(RunError, match="Another select has begun in .* Run select again"):
            step.run(None, 0, 1)
    assert there == {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_another_selection_leaves_nothing_of_the_first_one(tmp_path):
    made = made_scores(80, num_shards=3)
    write_shards(made, tmp_path / "data", num_shards=3, ending=".tar")
    data, work = write_scores(made, tmp_path, num_shards=3)

    def written() -> dict[Path, bytes]:
        folders = (work / name for name in ("lists", "masks", "subset"))
        return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}

    select(data, work)
    write(data, work, "--write_subset")
    first = written()
    select(data, work, "--objective", "clean")
    write(data, work, "--write_subset")
    assert all((kept_rows(made, work, "ratio_30") == masked_rows(made, work, "selected_30")).tolist())
    select(data, work)
    (work / "masks" / "part" / "0001.parquet").unlink()
    write(data, work, "--write_subset")
    assert written() == first
    (data / "part" / "0002.tar").unlink()
    select(data, work)
    write(data, work, "--write_subset")
    assert sorted(path.name for path in (work / "masks" / "part").iterdir()) == ["0000.parquet", "0001.parquet"]
    assert sorted(path.name for path in (work / "subset" / "ratio_30" / "part").iterdir()) == ["0000.tar", "0001.tar"]


def test_lists_and_copies_of_an_earlier_selection_go(tmp_path):
    """Copies are not made by default, so those of another selection would stand beside its lists."""
    made = made_scores(80, num_shards=2)
    write_shards(made, tmp_path / "data", num_shards=2, ending=".tar")
    data, work = write_scores(made, tmp_path, num_shards=2)
    select(data, work)
    write(data, work, "--write_subset")
    (work / "lists" / "mine.npy").touch()
    (work / "subset" / "mine.txt").touch()
    write(data, work)
    assert len(list((work / "subset").rglob("*.tar"))) == 4
    run("select", data, work, "--workers", 1, "--objective", "clean", "--selection_ratio", 0.3)
    write(data, work)
    assert sorted(path.name for path in (work / "lists").iterdir()) == ["mine.npy", "ratio_30.key", "ratio_30.npy"]
    assert [path.name for path in (work / "subset").rglob("*") if path.is_file()] == ["mine.txt"]


@pytest.mark.slow
def test_object_storage_gets_the_same_files(tmp_path, monkeypatch):
    """fsspec's memory, whose files are there as soon as they are opened, stands for it; it tells no versions."""
    monkeypatch.setattr("hf_clipselect.scale.shards._VERSIONS", ())
    made = made_scores(60, num_shards=2)
    write_shards(made, tmp_path / "data", num_shards=2, ending=".tar")
    data, work = write_scores(made, tmp_path, num_shards=2, versions=False)
    storage = fsspec.filesystem("memory")
    storage.put(str(data), "/scale/data", recursive=True)
    storage.put(str(work), "/scale/work", recursive=True)
    for folder in ((data, work), ("memory://scale/data", "memory://scale/work")):
        select(*folder, "--tasks", 2)
        write(*folder, "--write_subset")
    storage.get("/scale/work", str(tmp_path / "there"), recursive=True)
    for name in ("lists", "masks", "subset"):
        files = [path.relative_to(work) for path in (work / name).rglob("*") if path.is_file()]
        assert len(files) >= 2
        assert all((tmp_path / "there" / path).read_bytes() == (work / path).read_bytes() for path in files)


def test_a_shard_that_changed_since_it_was_scored_is_told(tmp_path):
    made = made_scores(30, num_shards=1)
    write_shards(made, tmp_path / "data", num_shards=1, ending=".tar")
    data, work = write_scores(made, tmp_path, num_shards=1)
    select(data, work)
    shard = data / "part" / "0000.tar"
    whole, written = shard.read_bytes(), shard.stat()
    with tarfile.open(shard, "a") as archive:  # of the same size, since it fills the zeros at the end
        archive.addfile(tarfile.TarInfo("more.txt"))
    with pytest.raises(InputError, match=r"part/0000.tar was replaced since it was scored"):
        write(data, work, "--write_subset")
    os.utime(shard, ns=(written.st_atime_ns, written.st_mtime_ns))  # as where a storage tells no versions
    with pytest.raises(InputError, match=r"part/0000.tar has 61 rows, and had 60 when it was scored"):
        write(data, work, "--write_subset")
    shard.write_bytes(whole[:1024] + b"no header" + whole[1033:])
    os.utime(shard, ns=(written.st_atime_ns, written.st_mtime_ns))
    with pytest.raises(InputError, match=r"part/0000.tar can't be read: it is damaged: the header at byte 1024"):
        write(data, work, "--write_subset")
    assert not list((work / "subset").rglob("*.tar"))


def test_a_shard_that_was_replaced_by_as_many_rows_is_told(tmp_path):
    made = made_scores(30, num_shards=1)
    write_shards(made, tmp_path / "data", num_shards=1, ending=".parquet")
    data, work = write_scores(made, tmp_path, num_shards=1, ending=".parquet")
    select(data, work)
    shard = data / "part" / "0000.parquet"
    table = pq.read_table(shard)
    pq.write_table(table.set_column(0, "image", pa.array([b"another"] * len(table))), shard)
    with pytest.raises(InputError, match=r"part/0000.parquet was replaced since it was scored"):
        write(data, work, "--write_subset")
    assert not list((work / "subset").rglob("*.parquet"))


@pytest.mark.parametrize("change", ["scored anew", "replaced", "removed", "failed", "other reference"])
def test_a_selection_of_what_was_there_before_is_not_written(change, tmp_path):
    """Masks and copies go by row numbers, which those of other rows may be."""
    made = made_scores(60)
    data, work = write_scores(made, tmp_path)
    select(data, work)
    shard, path = data / "part" / "0001.tar", work / "scores" / "part" / "0001.parquet"
    if change == "removed":
        shard.unlink()
    elif change != "other reference":
        shard.write_bytes(b"other rows")
    if change == "failed":
        write_failed(work, "0001", reason="no tar")
    elif change == "scored anew":
        write_score_file(made, np.flatnonzero(made.shards == 1), path, shard="part/0001.tar", data=data)
    elif change == "other reference":
        (work / "reference" / "reference.json").write_text(json.dumps({**REFERENCE, "key": "0" * 64}))
    told = {
        "replaced": "The shard part/0001.tar was replaced since it was scored, or is gone",
        "other reference": "Since select 5 score files of 5 were removed, or made anew of another shard or reference",
        "scored anew": r"Since select 1 score file of 5 was removed, or made .*: scores/part/0001.parquet. Run score",
    }
    told |= {"removed": told["replaced"], "failed": told["scored anew"]}
    with pytest.raises(InputError, match=rf"{told[change]}.* and select again\."):
        write(data, work)
    assert not (work / "masks").exists()


def test_damage_between_the_steps_is_noticed(tmp_path):
    data, work = write_scores(made_scores(300, num_clusters=2), tmp_path)
    sizes = ("--selection_count", 250)
    run("select", data, work, "--workers", 1, *sizes)
    for name, later in (("sorted", "ranked"), ("ranked", "selected"), ("selected", None)):
        path = work / name / "00000.parquet"
        whole = path.read_bytes()
        path.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])  # in a column of the first row group
        if later is not None:
            next((work / later).glob("*.parquet")).unlink()
        with pytest.raises(RunError, match=rf"{name}/00000.parquet can't be read: .*remove it and run select again"):
            run("write" if later is None else "select", data, work, "--workers", 1, *(sizes if later else ()))
        path.unlink()
        run("select", data, work, "--workers", 1, *sizes)
        assert path.read_bytes() == whole
    (path,) = (work / "selected" / "count_250").iterdir()
    for content in (path.read_bytes()[:-16], path.read_bytes()[:5]):
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"selected/count_250/00000.npy can't be read"):
            (work / "lists" / "count_250.key").unlink(missing_ok=True)
            write(data, work)


def test_what_no_selection_wrote_stays(tmp_path):
    made = made_scores(80, num_shards=2)
    write_shards(made, tmp_path / "data", num_shards=2, ending=".tar")
    data, work = write_scores(made, tmp_path, num_shards=2)
    names = ["masks/mine.parquet", "masks/part/mine.parquet", "subset/mine/own.tar", "subset/ratio_30/part/own.tar"]
    names += ["subset/keys/own.json", "subset/keys/part/own.json", "lists/mine.npy", "lists/mine.key"]
    for name in names:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text('{"files": 7}' if name == "subset/keys/part/own.json" else "my own")
    select(data, work)
    write(data, work, "--write_subset")
    (data / "part" / "0001.tar").unlink()
    select(data, work, "--objective", "clean")
    write(data, work)
    assert all((work / name).is_file() for name in names)
    assert sorted(path.name for path in (work / "subset").rglob("*.tar")) == ["own.tar", "own.tar"]
    assert sorted(path.name for path in (work / "masks/part").iterdir()) == ["0000.parquet", "mine.parquet"]


def test_copies_that_broke_off_go_with_the_next_selection(tmp_path, monkeypatch):
    made = made_scores(80, num_shards=2)
    write_shards(made, tmp_path / "data", num_shards=2, ending=".tar")
    data, work = write_scores(made, tmp_path, num_shards=2)
    select(data, work)
    write(data, work, "--write_subset")
    select(data, work, "--objective", "clean")
    with monkeypatch.context() as patch:
        patch.setattr("hf_clipselect.scale.subset_shards._copy_tar", lambda *_: 1 / 0)
        with pytest.raises(InputError, match=r"part/0000.tar can't be read: division by zero"):
            write(data, work, "--write_subset")
    assert list((work / "subset").rglob("*.tar"))
    write(data, work)
    assert not list((work / "subset").rglob("*.*"))


def test_names_are_no_patterns_where_files_are_removed():
    """Object storage of fsspec takes them as such, also fsspec's memory."""
    work = DataFolder("memory://patterns/work")
    metadata = {b"hf_clipselect": b"{}"}
    for name in ("a1", "a[1]"):
        with work.open(f"masks/{name}.parquet", "wb") as file:
            pq.write_table(pa.table({"row": [1]}).replace_schema_metadata(metadata), file)
        copy = f"subset/ratio_30/{name}.tar"
        work.pipe_file(copy, b"")
        work.pipe_file(f"subset/keys/{name}.json", json.dumps({"key": "mine", "files": [copy]}).encode())
    layout = Layout("key", ("scores/a1.parquet",), ("",), (0,), (0,), with_embeddings=False)
    remove_others(work, layout, "mine")
    assert work.list_files() == ["masks/a1.parquet", "subset/keys/a1.json", "subset/ratio_30/a1.tar"]


def test_nothing_is_written_before_all_is_selected(tmp_path, monkeypatch):
    data, work = write_scores(made_scores(30), tmp_path)
    with pytest.raises(InputError, match="Nothing has been selected in .* Run select first"):
        write(data, work)
    select(data, work)
    next((work / "selected").glob("*.parquet")).unlink()
    with pytest.raises(InputError, match="has not been finished. Run select again"):
        write(data, work)
    select(data, work)
    monkeypatch.setattr(Shuffle, "run", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        select(data, work, "--objective", "clean")
    with pytest.raises(InputError, match="has not been finished. Run select again"):
        write(data, work)
    monkeypatch.undo()
    with pytest.raises(InputError, match="--push_to_hub needs --hub_dataset_id"):
        select(data, work)
        write(data, work, "--push_to_hub")


@pytest.mark.parametrize("name", ["reference/reference.json", "selection_quotas.json", "selection_layout.json"])
@pytest.mark.parametrize("change", ['{"key": "f', "[]", "{}", "\xff", "without", "another type"])
def test_a_damaged_file_of_the_selection_is_named(name, change, selected, tmp_path):
    data, work = tmp_path / "data", tmp_path / "work"
    for folder in ("data", "work"):
        shutil.copytree(selected / folder, tmp_path / folder)
    told = json.loads((work / name).read_text())
    changed = [change]
    if change == "without":
        changed = [json.dumps({key: value for key, value in told.items() if key != left}) for left in told]
    elif change == "another type":
        changed = [json.dumps({**told, key: 7 if isinstance(told[key], str) else "7"}) for key in told]
    for content in changed:
        (work / name).write_text(content, encoding="latin-1")
        with pytest.raises(InputError, match=rf"{name} in .* is damaged: .* again\."):
            write(data, work)


@pytest.fixture(scope="module")
def selected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("selected")
    select(*write_scores(made_scores(30), folder))
    return folder


def test_card_counts_what_was_kept_and_left_out(tmp_path):
    made = made_scores(200)
    made.uids[9], made.clusters[9] = made.uids[5], made.clusters[5]
    data, work = write_scores(made, tmp_path)
    write_failed(work, "0004", reason="no tar")
    select(data, work, "--accept_lost_shards", 1)
    write(data, work)
    with (work / "README.md").open("a") as file:
        file.write("\nMy own words.\n")
    write(data, work)
    card = (work / "README.md").read_text()
    assert card.endswith("-->\n\nMy own words.\n") and card.count("# Selection of image-text pairs") == 1
    rows = int((made.shards != 4).sum()) - 1
    assert f"scored {rows} rows of 4 shards" in card and "| `ratio_30` |" in card
    assert "counts: 1." in card and "none of whose rows is kept: 1 (`part/0004.tar`)" in card
    assert "adapters that were trained on the sample" in card and 'row["selected_30"]' in card

"""Files are there whole or not at all, and what killed writers left goes."""

import os
from pathlib import Path

import pytest
from datatrove.io import get_datafolder
from made_shard_scores import made_scores, write_scores

from hf_clipselect.scale import whole_files
from hf_clipselect.scale.scale_command import main
from hf_clipselect.scale.whole_files import remove_left, write_whole


def killed_writer(folder: Path, name: str) -> None:
    pid = os.fork()
    if pid == 0:
        with write_whole(get_datafolder(str(folder)), name) as file:
            file.write(b"half")
            os._exit(9)
    os.waitpid(pid, 0)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.tmp"))


def test_what_a_killed_writer_left_goes_and_nothing_else(tmp_path: Path) -> None:
    work = get_datafolder(str(tmp_path))
    for name in ("scores/a.parquet", "scores/part/b.parquet", "lists/c.npy"):
        killed_writer(tmp_path, name)
    assert len(left(tmp_path)) == 3
    own = tmp_path / "scores" / ".own.tmp"
    own.write_bytes(b"my own")
    with write_whole(work, "scores/d.parquet") as file:
        file.write(b"whole")
        remove_left(work, ["scores", "gone"])
        assert [name[:6] for name in left(tmp_path)] == [".c.npy", ".d.par", ".own.t"]
    assert (tmp_path / "scores" / "d.parquet").read_bytes() == b"whole" and own.exists()


def test_a_writer_whose_new_file_was_taken_for_a_left_one_takes_another(tmp_path: Path, monkeypatch) -> None:
    work = get_datafolder(str(tmp_path))
    (tmp_path / "scores").mkdir()
    lock, calls = whole_files._lock, []

    def late(file, **options):
        calls.append(options)
        if len(calls) == 1:  # between opening and locking
            remove_left(work, ["scores"])
        return lock(file, **options)

    monkeypatch.setattr(whole_files, "_lock", late)
    with write_whole(work, "scores/a.parquet") as file:
        file.write(b"whole")
    assert len(calls) == 3 and (tmp_path / "scores" / "a.parquet").read_bytes() == b"whole"


def test_where_a_disk_has_no_locks_nothing_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", no_locks)
    killed_writer(tmp_path, "scores/a.parquet")
    remove_left(get_datafolder(str(tmp_path)), ["scores"])
    assert len(left(tmp_path)) == 1


def test_every_step_removes_what_is_left_in_its_folders(tmp_path: Path) -> None:
    data, work = write_scores(made_scores(20), tmp_path)
    folders = ["--data_dir", str(data), "--work_dir", str(work)]
    for name in ("scores/part/0000.parquet", "sorted/00000.parquet", "ranked/00000.parquet", "selected/00000.parquet"):
        killed_writer(work, name)
    for name in ("masks/part/0000.parquet", "subset/ratio_30/a.tar", "lists/ratio_30.npy", "selection_layout.json"):
        killed_writer(work, name)
    for step, count in (("score", 7), ("select", 3), ("write", 0)):
        assert main([step, *folders, "--workers", "1"]) == (2 if step == "score" else 0)
        assert len(left(work)) == count

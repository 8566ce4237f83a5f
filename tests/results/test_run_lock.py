"""One run works in a folder at a time, whoever starts the others; a run that is gone leaves no lock."""

import errno
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from hf_clipselect import InputError, select_dataset
from hf_clipselect.results import run_lock
from hf_clipselect.results.run_folder import RunFolder
from hf_clipselect.results.run_lock import LOCK_NAME, locked


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(run_lock, "_PATIENCE", 0.2)


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as error, locked(folder):
        raise AssertionError("the folder was free")
    return str(error.value)


def forked(work) -> int:
    """The number of a process that has begun with the work; it ends when it is told to."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with work():
                os.write(writing, b"begun")
                time.sleep(60)
        finally:
            os._exit(1)
    assert os.read(reading, 5) == b"begun"
    os.close(reading)
    os.close(writing)
    return pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_second_one_is_told_who_works_there(tmp_path, impatient):
    pid = forked(lambda: locked(tmp_path))
    try:
        told = refusal(tmp_path)
    finally:
        end(pid)
    assert told.startswith(
        f"--output_dir {tmp_path} is in use by another run (process {pid} on {socket.gethostname()}, since 2"
    )
    assert told.endswith("). Wait until it has ended, or choose another --output_dir.")


def test_a_process_that_was_killed_leaves_no_lock(tmp_path, impatient):
    end(forked(lambda: locked(tmp_path)))
    assert (tmp_path / LOCK_NAME).exists()
    with locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / LOCK_NAME).read_text()
    assert list(tmp_path.iterdir()) == []


def test_who_waits_gets_the_folder_when_the_other_has_ended(tmp_path, caplog):
    caplog.set_level("INFO", "hf_clipselect")
    pid = forked(lambda: locked(tmp_path))
    threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
    with locked(tmp_path):
        pass
    os.waitpid(pid, 0)
    assert f"another run (process {pid} on" in caplog.text and "waiting 10 seconds" in caplog.text


def test_threads_of_one_process_and_other_spellings_are_kept_out_too(tmp_path, monkeypatch, impatient):
    folder, told = tmp_path / "out", []
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    with locked(folder):
        for spelling in (folder, Path("out"), tmp_path / "link", tmp_path / "out" / ".." / "out"):
            thread = threading.Thread(target=lambda spelling=spelling: told.append(refusal(spelling)))
            thread.start()
            thread.join()
        told.append(refusal(folder))
    assert len(told) == 5 and all(f"process {os.getpid()} on" in text for text in told)


def test_many_that_come_and_go_never_meet(tmp_path):
    inside, met, errors = [], [], []

    def work() -> None:
        try:
            for _ in range(10):
                with locked(tmp_path):
                    inside.append(1)
                    met.append(len(inside))
                    time.sleep(0.001)
                    inside.pop()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and met == [1] * 60
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_told_once(tmp_path, monkeypatch, caplog):
    def refuse(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked(tmp_path), locked(tmp_path):
        pass
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert f"The file system of {tmp_path} knows no locks (No locks available)" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_vanishes_is_no_second_error(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    with locked(folder):
        (folder / LOCK_NAME).unlink()
        folder.rmdir()
        folder.mkdir()
        (folder / LOCK_NAME).write_text("another run's")
    assert (folder / LOCK_NAME).read_text() == "another run's"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to(tmp_path):
    tmp_path.chmod(0o555)
    assert "can't be written to: Permission denied" in refusal(tmp_path)


def test_a_lock_that_was_left_makes_no_folder_somebody_elses(tmp_path):
    (tmp_path / LOCK_NAME).write_text("process 1 on here")
    RunFolder(tmp_path).check({"dataset": "abc"}, overwrite=False)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        RunFolder(tmp_path).check({"dataset": "abc"}, overwrite=False)


def test_a_run_from_python_is_refused_while_another_works_in_its_folder(
    images_dataset, clip_folder, tmp_path, impatient
):
    settings = {"model_name_or_path": clip_folder, "adaptation": "off", "dataloader_num_workers": 0}
    with RunFolder(tmp_path / "out").locked():
        with pytest.raises(InputError, match="is in use by another run"):
            select_dataset(images_dataset, **settings, output_dir=tmp_path / "out")
        assert select_dataset(images_dataset, **settings).selected.size == 18  # needs no folder
        assert [path.name for path in (tmp_path / "out").iterdir()] == [LOCK_NAME]
    result = select_dataset(images_dataset, **settings, output_dir=tmp_path / "out")
    assert result.selected.size == 18 and not (tmp_path / "out" / LOCK_NAME).exists()
    with pytest.raises(InputError, match="holds another run"):
        select_dataset(images_dataset.select(range(40)), **settings, output_dir=tmp_path / "out")
    assert not (tmp_path / "out" / LOCK_NAME).exists()

"""Folders that a run and people write into: ours goes, theirs stays, whenever the process is stopped."""

import os
from pathlib import Path

import pytest

from hf_clipselect.runtime.folders import remove_ours, replaced, restore


def is_ours(path: str) -> bool:
    return path in ("a.json", "data/ours.parquet")


def fill(folder: Path) -> dict[str, str]:
    """Files of ours and of people; returns these."""
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "far").write_text("far")
    for path in ("a.json", "data/ours.parquet", "data/mine.txt", "mine.txt", ".git/objects/ab/cd", "own/ours.parquet"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("mine.txt")
    (folder / "linked").symlink_to(elsewhere)
    return theirs(folder)


def theirs(folder: Path) -> dict[str, str]:
    found = {}
    for parent, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink():
                found[relative] = f"link to {os.readlink(path)}"
            elif path.is_file() and not is_ours(relative):
                found[relative] = path.read_text()
            elif path.is_dir() and not any(path.iterdir()):
                found[relative] = "empty"
    return found


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "subset"


def test_others_files_are_in_the_new_folder(folder):
    expected = fill(folder)
    with replaced(folder, is_ours=is_ours) as new:
        assert theirs(new) == theirs(folder) == expected
        assert not (new / "a.json").exists() and not (new / "data/ours.parquet").exists()
        (new / "a.json").write_text("new")
        (folder / "late.txt").write_text("put there meanwhile")
    assert theirs(folder) == {**expected, "late.txt": "put there meanwhile"}
    assert (folder / "a.json").read_text() == "new" and not (folder / "data/ours.parquet").exists()
    assert sorted(path.name for path in folder.parent.iterdir()) == ["elsewhere", "subset"]
    (folder / "mine.txt").write_text("changed")
    assert (folder / "mine.txt").stat().st_nlink == 1


@pytest.mark.parametrize("rename", [1, 2])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_that_ends_between_two_steps_loses_nothing(folder, rename, moment):
    expected = fill(folder)
    pid = os.fork()
    if pid == 0:
        real, calls = os.rename, []

        def rename_and_end(*paths: Path) -> None:
            calls.append(paths)
            if len(calls) == rename and moment == "before":
                os._exit(7)
            real(*paths)
            if len(calls) == rename:
                os._exit(7)

        os.rename = rename_and_end
        with replaced(folder, is_ours=is_ours) as new:
            (new / "a.json").write_text("new")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    restore(folder, is_ours=is_ours)
    assert theirs(folder) == expected
    assert (folder / "a.json").read_text() == ("new" if (rename, moment) == (2, "after") else "a.json")
    assert [path.name for path in folder.parent.iterdir() if path.name.endswith(".old")] == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_the_old_folder(folder, error):
    expected = fill(folder)
    with pytest.raises(error), replaced(folder, is_ours=is_ours) as new:
        (new / "a.json").write_text("half")
        raise error
    assert theirs(folder) == expected and (folder / "a.json").read_text() == "a.json"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["elsewhere", "subset"]


def test_a_folder_behind_a_link_stays_where_it_is(folder):
    real = folder.parent / "real"
    expected = fill(real)
    folder.symlink_to(real)
    with replaced(folder, is_ours=is_ours) as new:
        (new / "a.json").write_text("new")
    assert theirs(folder) == theirs(real) == expected
    assert (real / "a.json").read_text() == "a.json" and (folder / "a.json").read_text() == "new"


def test_where_files_can_have_no_second_name_they_are_copied(folder, monkeypatch):
    expected = fill(folder)

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    with replaced(folder, is_ours=is_ours):
        pass
    assert theirs(folder) == expected


def test_only_our_files_are_removed(folder):
    expected = fill(folder)
    remove_ours(folder, is_ours=is_ours)
    assert theirs(folder) == expected
    assert not (folder / "a.json").exists() and not (folder / "data/ours.parquet").exists()


def test_folders_that_held_nothing_else_go(tmp_path):
    for place in ("one", "two"):
        (tmp_path / place / "data").mkdir(parents=True)
        (tmp_path / place / "data" / "ours.parquet").touch()
    (tmp_path / "two" / "mine").mkdir()
    for place in ("one", "two", "absent"):
        remove_ours(tmp_path / place, is_ours=is_ours)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine", "two"]


def test_names_that_only_look_like_ours_are_left_alone(folder):
    folder.mkdir()
    backup = folder.parent / ".subset.2026.old"
    backup.mkdir()
    restore(folder, is_ours=is_ours)
    assert backup.is_dir()

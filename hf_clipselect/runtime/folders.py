"""Folders that hold files of ours and of other people: ours are replaced or removed, and theirs stay."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError
from .files import unused_name


# Whether a file of a folder is one that we write, by its path in the folder with "/" between the parts.
IsOurs = Callable[[str], bool]


@contextmanager
def replaced(folder: Path, *, is_ours: IsOurs) -> Iterator[Path]:
    """A folder to fill that takes the place of another one when the block ends well, and vanishes when it does not.

    Other people's files are in it from the beginning, as second names of the same content: at every moment all of them
    lie in the folder, or where [`restore`] finds them. The folder need not be there, but its parent is.
    """
    new, old = unused_name(folder), unused_name(folder, "old")
    new.mkdir()
    try:
        _carry_over(folder, new, is_ours)
        yield new
        if os.path.lexists(folder):
            os.rename(folder, old)
        os.rename(new, folder)
    finally:
        if new.exists():
            shutil.rmtree(new)
        restore(folder, is_ours=is_ours)


def check_kind(path: Path, *, folder: bool) -> None:
    """Raise `InputError` where a pipe, a link to nothing or the other kind takes the place of our file or folder."""
    if os.path.lexists(path) and not (path.is_dir() if folder else path.is_file()):
        kind = "folder" if folder else "file"
        raise InputError(f"{path} is no {kind}, and a {kind} of that name is to be written there. Move it away.")


def check_kinds(folder: Path, *, is_ours: IsOurs, is_our_folder: IsOurs) -> None:
    """[`check_kind`] of everything in a folder, which need not be there, that bears a name of ours."""
    for parent, folders, names in os.walk(folder):
        for path in (Path(parent, name) for name in sorted([*folders, *names])):
            place = path.relative_to(folder).as_posix()
            if is_ours(place):
                check_kind(path, folder=False)
            elif is_our_folder(place):
                check_kind(path, folder=True)


def restore(folder: Path, *, is_ours: IsOurs) -> None:
    """Repair what a process left that was killed while it replaced a folder; no other may replace it meanwhile."""
    name = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{16}}\.old")
    for old in sorted(path for path in folder.parent.iterdir() if name.fullmatch(path.name)):
        if os.path.lexists(folder):
            _merge_back(old, folder, is_ours)
        else:
            os.rename(old, folder)


def remove_ours(folder: Path, *, is_ours: IsOurs) -> None:
    """Remove our files of a folder, and the folders that are empty then; of a link to a folder the link."""
    if folder.is_symlink():
        folder.unlink()
    emptied = []
    for parent, _, names in os.walk(folder):
        ours = [name for name in sorted(names) if is_ours(Path(parent, name).relative_to(folder).as_posix())]
        for name in ours:
            Path(parent, name).unlink()
        if ours:
            emptied += [Path(parent)]
    for place in [*reversed(emptied), folder]:
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()


def _carry_over(source: Path, target: Path, is_ours: IsOurs) -> None:
    for parent, folders, names in os.walk(source):
        place = target / Path(parent).relative_to(source)
        theirs = [name for name in names if not is_ours(Path(parent, name).relative_to(source).as_posix())]
        theirs += [name for name in folders if Path(parent, name).is_symlink()]
        if theirs or not names and not folders:
            place.mkdir(parents=True, exist_ok=True)
        for name in theirs:
            if not os.path.lexists(place / name):
                _name_again(Path(parent, name), place / name)


def _name_again(path: Path, second: Path) -> None:
    try:
        os.link(path, second, follow_symlinks=False)
    except OSError:  # a file system without such links, or a file of somebody else's
        shutil.copy2(path, second, follow_symlinks=False)


def _merge_back(old: Path, folder: Path, is_ours: IsOurs) -> None:
    """Carry over what somebody put into the old folder until its last moment, and remove the old folder."""
    if old.is_symlink():
        old.unlink()
    elif old.exists():
        _carry_over(old, folder, is_ours)
        shutil.rmtree(old)

"""Files of a working folder, on a disk or in object storage, that are there whole or not at all."""

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from datatrove.io import DataFolder

from ..errors import InputError
from ..runtime.files import unused_name
from ..runtime.words import are, listed


# As `unused_name` makes them.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


@contextmanager
def write_whole(folder: DataFolder, path: str) -> Iterator[IO[bytes]]:
    """A file to write that takes its place when the block ends well, and leaves nothing when it does not.

    On a disk it is written under another name beside its place, locked, and moved. Elsewhere it is written to this
    machine first and sent by one call, since a file of object storage that is closed early counts as written.
    """
    if folder.is_local():
        target = Path(folder.resolve_paths(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary, opened = _locked(target)
    else:
        handle, name = tempfile.mkstemp()
        temporary, opened = Path(name), os.fdopen(handle, "wb")
    try:
        with opened as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if folder.is_local():
                os.replace(temporary, target)
        if not folder.is_local():
            folder.fs.makedirs(folder.fs._parent(folder._join(path)), exist_ok=True)
            folder.put_file(str(temporary), path)
    finally:
        temporary.unlink(missing_ok=True)


def _locked(target: Path) -> tuple[Path, IO[bytes]]:
    """A new file beside its place, whose lock tells that somebody writes it."""
    while True:
        temporary = unused_name(target)
        opened = temporary.open("wb")
        _lock(opened)
        if os.fstat(opened.fileno()).st_nlink:
            return temporary, opened
        opened.close()  # before it was locked, it was taken for one that is left


def _lock(file: IO[bytes], *, wait: bool = True) -> bool:
    """Lock a file until it is closed, or its process ends; false where somebody has the lock, or the disk has none."""
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def remove_left(folder: DataFolder, places: Sequence[str]) -> None:
    """Remove, of folders on a disk and all in them, what [`write_whole`] left there of files whose writers were
    killed; the empty name stands for the folder itself, without those in it.
    """
    if not folder.is_local():
        return
    for place in places:
        root = Path(folder.resolve_paths(place))
        for path in list(root.rglob(".*.tmp") if place else root.glob(".*.tmp")):
            if _TEMPORARY.fullmatch(path.name) and path.is_file():
                with suppress(OSError), path.open("r+b") as file:  # NFS locks only what may be written
                    if _lock(file, wait=False):
                        path.unlink()


def read_json(
    folder: DataFolder, path: str, *, remedy: str, needs: Mapping[str, type | tuple[type, ...]]
) -> dict[str, Any]:
    """What a JSON file tells, which are at least the names that it needs, each with a value of its type; raises
    `InputError`, which ends with the remedy, where it is damaged.
    """
    with folder.open(path) as file:
        content = file.read()
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise InputError(f"{path} in {folder.path} is damaged: it is no JSON that was written whole. {remedy}")
    if wrong := [name for name, kind in needs.items() if not isinstance(told.get(name, ...), kind)]:
        raise InputError(
            f"{path} in {folder.path} is damaged: {listed(wrong, limit=3)} {are(len(wrong))} not in it as written. "
            f"{remedy}"
        )
    return told

"""Files of a working folder, on a disk or in object storage, that are there whole or not at all."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from datatrove.io import DataFolder

from ..errors import InputError
from ..runtime.files import unused_name
from ..runtime.words import listed


@contextmanager
def write_whole(folder: DataFolder, path: str) -> Iterator[IO[bytes]]:
    """A file to write that takes its place when the block ends well, and leaves nothing when it does not.

    On a disk it is written under another name beside its place and moved. Elsewhere it is written to this machine
    first and sent by one call, since a file of object storage that is closed early counts as written.
    """
    if folder.is_local():
        target = Path(folder.resolve_paths(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = unused_name(target)
    else:
        handle, name = tempfile.mkstemp()
        os.close(handle)
        temporary = Path(name)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if folder.is_local():
            os.replace(temporary, target)
        else:
            folder.fs.makedirs(folder.fs._parent(folder._join(path)), exist_ok=True)
            folder.put_file(str(temporary), path)
    finally:
        temporary.unlink(missing_ok=True)


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
            f"{path} in {folder.path} is damaged: of {listed(wrong, limit=3)} it does not tell what was written. "
            f"{remedy}"
        )
    return told

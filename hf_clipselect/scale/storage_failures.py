"""Failures of the storage that folders are in, told in a sentence, whatever class its client raises."""

import errno
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb

from ..errors import InputError, RunError
from ..runtime.failures import is_of_the_machine
from ..runtime.words import in_one_line


logger = logging.getLogger(__name__)

_OURS = __name__.partition(".")[0]
# What all storages are called through.
_CALLED_THROUGH = "fsspec"
# What calls that are wrong themselves raise, and so bugs.
_OF_BUGS = (TypeError, AttributeError, NameError, AssertionError)
_FILE_OF_FRAME = re.compile(r'^ *File "([^"]+)", line', re.MULTILINE)
_IN_THE_WAY = {
    errno.EEXIST: "is in the way: it is no folder, and one has to be there",
    errno.ENOTDIR: "is in the way: it is no folder, and one has to be there",
    errno.EISDIR: "is in the way: it is a folder, and a file has to be there",
    errno.ENAMETOOLONG: "has a longer name than the disk takes",
    errno.ELOOP: "is a link to itself",
}


@contextmanager
def explained_storage(given: Mapping[str, str | None]) -> Iterator[None]:
    """Turn a failure of a storage inside a block into a `RunError`, and a file in the place of a folder, or the other
    way round, into an `InputError`; everything else passes through untouched.

    `given` are the folders by their flags. The `__cause__` of the error is what was raised.
    """
    try:
        yield
    except (InputError, RunError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _IN_THE_WAY and error.filename is not None:
            place = _in_the_way(Path(os.fsdecode(error.filename2 or error.filename)))
            told = f"{place} {_IN_THE_WAY[error.errno]}. Move or rename it, or choose another folder."
            raise InputError(told) from error
        remote = [f"--{flag} {folder}" for flag, folder in given.items() if folder is not None and _is_url(folder)]
        if not remote or isinstance(error, _OF_BUGS) or is_of_the_machine(error) or not is_of_storage(error):
            raise
        logger.debug("What the storage said:", exc_info=True)
        kind, said = type(error).__name__, in_one_line(error, 300).rstrip(". ")
        raise RunError(
            f"The storage of {' or '.join(remote)} failed: {kind}{f': {said}' if said else ''}. Check the URL, the "
            "network, and that the credentials of this machine may do this there; the same command goes on from "
            "what is there."
        ) from error


def _in_the_way(path: Path) -> Path:
    """The path, or what is no folder above it."""
    return next((place for place in path.parents if place.exists() and not place.is_dir()), path)


def is_of_storage(error: BaseException) -> bool:
    """Whether an error was raised inside of a call to a storage, in this process or in one of a pool."""
    files = (
        _FILE_OF_FRAME.findall(str(error.__cause__)) if type(error.__cause__).__name__ == "_RemoteTraceback" else []
    )
    rooms = [_room_of_file(file) for file in files]
    rooms += [str(frame.f_globals.get("__name__")).partition(".")[0] for frame, _ in walk_tb(error.__traceback__)]
    if files:  # what this process adds is only where it took the error from the pool
        rooms = rooms[: len(files)]
    return _CALLED_THROUGH in rooms and rooms[-1] != _OURS


def _room_of_file(file: str) -> str:
    parts = file.split(os.sep)
    return next((name for name in (_OURS, _CALLED_THROUGH) if name in parts[:-1]), "")


def _is_url(folder: str) -> bool:
    return ("://" in folder or "::" in folder) and not folder.startswith(("file://", "local://"))

"""Files that are written whole or not at all, and reading of files that may turn out to be pipes or devices."""

import hashlib
import os
import secrets
import stat
from pathlib import Path

from ..errors import InputError


# What a cell of a table can hold; no image comes near.
LARGEST_FILE = 2**31 - 1


def unused_name(path: Path, ending: str = "tmp") -> Path:
    """A hidden name beside a file or folder that no other process or machine takes: `.<name>.<16 digits>.<ending>`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.{ending}")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is either there whole or not there: a killed run leaves no torn file behind."""
    temporary = unused_name(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(path: str | Path, what: str) -> Path:
    """Create a folder if it is missing; raises `InputError`, which begins with `what`, where that can't be."""
    if "://" in str(path):
        raise InputError(f"{what} {str(path)[:200]} is a URL; give a folder of this machine.")
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{what} {str(path)[:200]} can't be made a folder: {error.strerror}.") from None
    return Path(path)


def write_text_atomically(path: Path, text: str) -> None:
    """[`write_atomically`] for UTF-8 text; parts of folder names that are not UTF-8 print as "?"."""
    write_atomically(path, text.encode("utf-8", errors="replace"))


def file_sha256(path: Path) -> str:
    """The hash of a file's content, in 64 hexadecimal digits; the file is not read into memory as a whole."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_plain_file(path: str | Path) -> bytes:
    """Read a file whose name comes from a dataset: a pipe, a socket or a device is refused before it can block.

    Raises `OSError` where it can't be read, `ValueError` where it is no plain file, or of more than 2 GB.
    """
    _check_is_plain(os.stat(path))  # first, since opening a device may already do something
    # Without waiting for the other end of a pipe that took its place since.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        _check_is_plain(status)
        return file.read(status.st_size)


def _check_is_plain(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise ValueError(f"it is {kinds.get(stat.S_IFMT(status.st_mode), 'a device')}, not a plain file")
    if status.st_size > LARGEST_FILE:
        raise ValueError(f"it has {status.st_size / 1e9:.0f} GB, and no image has more than 2")

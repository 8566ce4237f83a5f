"""One run, one folder: who works in an output folder holds a lock that the kernel gives back when the process ends."""

import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import InputError
from ..runtime.notices import NOT_IN_REPORT


logger = logging.getLogger(__name__)

# In the folder, where everyone who writes to it finds it, whatever its path; a killed run leaves it.
LOCK_NAME = ".hf_clipselect.lock"
# Decoding processes of a killed run have its lock too, and see after five seconds that it is gone.
_PATIENCE = 10.0
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other run out of a folder, which exists, during a block.

    Raises `InputError` where another process or thread works in it and does not end within some seconds, or it can't
    be written to.
    """
    path = folder / LOCK_NAME
    lock = FileLock(path, is_singleton=False, fallback_to_soft=False)
    try:
        _acquire(lock, folder)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise InputError(f"--output_dir {folder} can't be written to: {error.strerror}.") from None
        path.unlink(missing_ok=True)
        logger.warning(
            "The file system of %s knows no locks (%s): start no second run in it before this one has ended.",
            folder,
            error.strerror,
            extra=NOT_IN_REPORT,
        )
        yield
        return
    inode = path.stat().st_ino
    try:
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now():%Y-%m-%d %H:%M:%S}\n")
        yield
    finally:
        with suppress(OSError):  # of a folder that was removed, perhaps
            if path.stat().st_ino == inode:
                # While the lock is held: who waits for it sees that its file is gone, and makes a new one.
                path.unlink()
        lock.release()


def _acquire(lock: FileLock, folder: Path) -> None:
    try:
        lock.acquire(timeout=0)
        return
    except Timeout:
        logger.info("In %s %s is at work: waiting %.0f seconds for it to end.", folder, _holder(folder), _PATIENCE)
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        raise InputError(
            f"--output_dir {folder} is in use by {_holder(folder)}. Wait until it has ended, or choose another "
            "--output_dir."
        ) from None


def _holder(folder: Path) -> str:
    try:
        text = (folder / LOCK_NAME).read_text().strip()
    except (OSError, UnicodeDecodeError):  # of a run that has just ended
        text = ""
    return f"another run ({text})" if text else "another run"

"""Failures of the machine, told in a sentence: no memory, a disk that takes no more, a process that is gone."""

import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate.utils.memory import should_reduce_batch_size
from pyarrow import ArrowException
from safetensors import SafetensorError
from torch import OutOfMemoryError, distributed

from ..errors import InputError, RunError


logger = logging.getLogger(__name__)

_STAGE = "Stage of the run: "
_LESS = (
    "give the run more, end other programs, or lower --dataloader_num_workers, --train_batch_size or, in another "
    "--output_dir, --per_device_eval_batch_size."
)
_DISK = {
    errno.ENOSPC: "The disk is full",
    errno.EDQUOT: "The quota of the disk is used up",
    errno.EFBIG: "A file may not grow as large as is needed (ulimit -f)",
    errno.EROFS: "The file system is read-only",
    errno.EIO: "The disk fails",
}
_PLACES = {
    errno.ENOENT: "was removed, or can't be created",
    errno.ENOTDIR: "was replaced by something else, or can't be created",
    errno.ESTALE: "was removed on the machine that it lies on",
    errno.EACCES: "may not be read or written by this user",
    errno.EPERM: "may not be changed by this user",
}
_SHARED_MEMORY = re.compile(r"</torch_\w+>|out of shared memory")
# What the number of an error becomes in texts: of pyarrow, safetensors, and a DataLoader that hands on an error.
_ERROR_NUMBER = re.compile(r"\[errno (\d+)\]|\(os error (\d+)\)", re.IGNORECASE)
_WORKER_MEMORY = re.compile(r"Caught \w*MemoryError ")  # numpy's error can't be raised again, and becomes a plain one
# gloo raises plain errors that name its source files.
_LOST_PEER = re.compile(
    r"gloo.*(closed by peer|reset by peer|Timed out|Broken pipe|refused|unreachable)", re.IGNORECASE | re.DOTALL
)
_LOST_WORKER = re.compile(r"DataLoader worker \(pid.*(is killed by signal|exited unexpectedly)")


@contextmanager
def during(stage: str) -> Iterator[None]:
    """Note the stage on an error that ends the block: its traceback shows it, and [`explained_failures`] tells it."""
    try:
        yield
    except Exception as error:
        error.add_note(_STAGE + stage)
        raise


@contextmanager
def explained_failures(folder: Path | None) -> Iterator[None]:
    """Turn a failure of the machine inside a block into a `RunError`; everything else passes through untouched.

    That is no memory; a disk that is full, limited or broken; a file or folder that was removed or is closed to the
    user; a decoding process that was killed; another process of the launch that is gone or does not answer. The same
    command goes on from what is in the folder. The `__cause__` of the error is what was raised.
    """
    try:
        yield
    except (InputError, RunError):
        raise
    except Exception as error:
        told = _told(error) or _of_places(error)
        if told is None:
            raise
        logger.debug("What the machine said:", exc_info=True)
        goes_on = "" if folder is None else f" The same command goes on from what is in {folder}."
        raise RunError(told + goes_on) from error


def is_of_the_machine(error: BaseException) -> bool:
    """Whether [`explained_failures`] would explain an error: who takes errors for wrong input lets such a one pass."""
    return _told(error) is not None


def _stage(error: BaseException) -> str:
    notes = getattr(error, "__notes__", [])
    return next((f" in the stage {note.removeprefix(_STAGE)}" for note in notes if note.startswith(_STAGE)), "")


def _told(error: BaseException) -> str | None:
    """What to tell of the first failure of the machine among an error and what it was raised from."""
    stage = _stage(error)
    link: BaseException | None = error
    while link is not None:
        told = _of_memory(link, stage) or _of_disk(link, stage) or _of_processes(link, stage)
        if told is not None:
            return told
        link = link.__cause__  # not its context: an error in dealing with another one is a bug of its own
    return None


def _of_memory(error: BaseException, stage: str) -> str | None:
    said = str(error)
    if isinstance(error, RuntimeError) and _SHARED_MEMORY.search(said):
        return (
            f"The shared memory (/dev/shm) has no room for the batches that decoding processes hand over{stage} "
            f"({shortened(said)}). Enlarge it (docker run --shm-size), lower --per_device_eval_batch_size, or pass "
            "--dataloader_num_workers 0."
        )
    if isinstance(error, RuntimeError) and _LOST_WORKER.search(said):
        why = f" ({shortened(str(error.__cause__ or error))})"
        return f"The system ended a process that decodes images{stage}{why}. If that was for lack of memory: {_LESS}"
    if (
        isinstance(error, MemoryError | OutOfMemoryError)
        or _is_allocation(error)
        or (isinstance(error, RuntimeError) and _WORKER_MEMORY.search(said))
        or _number(error) == errno.ENOMEM
    ):
        return f"The memory does not suffice{stage} ({shortened(said) or type(error).__name__}): {_LESS}"
    return None


def _is_allocation(error: BaseException) -> bool:
    # Accelerate also counts a statement of cuDNN that is no lack of memory by its own text.
    return should_reduce_batch_size(error) and "CUDNN" not in str(error)


def _of_disk(error: BaseException, stage: str) -> str | None:
    number = _number(error)
    if number not in _DISK:
        return None
    return (
        f"{_DISK[number]}{stage} ({shortened(str(error))}). Make room, or choose another --output_dir; downloads and "
        "prepared datasets lie where HF_HOME says."
    )


def _of_places(error: BaseException) -> str | None:
    """What to tell of a file that is gone or closed to the user. Who reads an image tells of it, with its row."""
    if not isinstance(error, OSError) or error.errno not in _PLACES or error.filename is None:
        return None
    return f"{error.filename} {_PLACES[error.errno]}{_stage(error)}. Mend that, or choose another place."


def _of_processes(error: BaseException, stage: str) -> str | None:
    of_nccl = isinstance(error, distributed.DistError) and "invalid usage" not in str(error)
    if not of_nccl and not (isinstance(error, RuntimeError) and _LOST_PEER.search(str(error))):
        return None
    index, count = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    return (
        f"Process {index} of {count} lost another one{stage} ({shortened(str(error))}): see what it says itself; if "
        "nothing, the system ended it, mostly for lack of memory."
    )


def _number(error: BaseException) -> int | None:
    """The number of an operating system's error, also of one that only its text was handed on of."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if not isinstance(error, OSError | RuntimeError | SafetensorError | ArrowException):
        return None
    found = _ERROR_NUMBER.search(str(error))
    return int(found[1] or found[2]) if found else None


def shortened(said: str) -> str:
    """What an error says, in 200 characters at most: without places in code, tracebacks and guesses at causes."""
    lines = said.strip().splitlines() or [""]
    if lines[0].startswith("Caught "):  # by a DataLoader's worker, whose traceback ends with the kind and the text
        lines = [lines[-1].partition(": ")[2]]
    text = re.sub(r"^\[(/|enforce fail)[^\]]*\] (err == 0\. )?", "", lines[0])
    return text.partition(". This is typically")[0].rstrip(". ")[:200]

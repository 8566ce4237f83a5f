"""The uids that a size keeps, of all clusters, as one sorted list, in the format of DataComp's subset files.

That is a .npy of pairs of uint64, the high and the low half of each 128-bit uid, rising, each once
(https://github.com/mlfoundations/datacomp: its resharder reads them).
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import IO

import numpy as np
from datatrove.io import DataFolder, get_datafolder
from numpy.lib import format as npy

from ..errors import InputError, RunError
from ..runtime.words import in_one_line
from .keyed_step import KeyedStep
from .select_step import is_selected, read_selection, uids_path
from .shuffle import UID, changed, damaged, uid_text
from .storage_failures import is_of_storage
from .whole_files import write_whole


LISTS = "lists"
# Of a selection: that of its layout, and the configs.
_KEY = re.compile(rb"[0-9a-f]{64}( \w+)+")
# Uids that are read at a time: 64 MB of all files together, but not so few of one that a read is not worth its while.
_UIDS_AT_ONCE, _FEWEST_OF_ONE = 2**22, 2**12


class MergeLists(KeyedStep):
    """Merges the sorted uids of all groups of clusters into `lists/<config>.npy`, a config for each task.

    Raises `InputError` where a uid is kept twice: rows of the same uid, but in different clusters.
    """

    name = "lists"

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        work = get_datafolder(self.work)
        layout, summary = read_selection(work, self.key)
        if not is_selected(work, layout, summary):
            raise RunError(changed(work))
        config = list(summary["sizes"])[rank]
        paths = [uids_path(config, number) for number in range(len(layout.group_starts))]
        if work.exists(_key_path(config)):
            work.rm_file(_key_path(config))  # it vouches for the list, which now becomes another
        with write_whole(work, list_path(config)) as file:
            write_merged(work, paths, file, num_uids=summary["kept"][config])
        with write_whole(work, _key_path(config)) as file:
            file.write(summary["key"].encode())


def list_path(config: str) -> str:
    """The sorted uids that a size keeps."""
    return f"{LISTS}/{config}.npy"


def is_listed(work: DataFolder, config: str, key: str) -> bool:
    """Whether the list of a config is there, of this selection."""
    if not (work.isfile(list_path(config)) and work.isfile(_key_path(config))):
        return False
    with work.open(_key_path(config)) as file:
        return file.read() == key.encode()


def remove_other_lists(work: DataFolder, configs: Sequence[str]) -> None:
    """Remove the lists of an earlier selection with other configs; a file without a key of ours beside it stays."""
    ours = {_key_path(config) for config in configs}
    for path in work.list_files(LISTS) if work.isdir(LISTS) else ():
        if path.endswith(".key") and path not in ours and _is_key(work, path):
            for name in (str(PurePosixPath(path).with_suffix(".npy")), path):
                if work.exists(name):
                    work.rm_file(name)


def _is_key(work: DataFolder, path: str) -> bool:
    with work.open(path) as file:
        return _KEY.fullmatch(file.read()) is not None


def _key_path(config: str) -> str:
    return f"{LISTS}/{config}.key"


def write_merged(work: DataFolder, paths: Sequence[str], file: IO[bytes], *, num_uids: int) -> None:
    """Merge sorted .npy files of uids into one, in memory for one block of each.

    `num_uids` is how many there are together. Raises `InputError` where a uid comes twice, and `RunError` where a file
    is damaged or they are not so many.
    """
    npy.write_array_header_1_0(file, {"descr": npy.dtype_to_descr(UID), "fortran_order": False, "shape": (num_uids,)})
    last, count, block = None, 0, max(_FEWEST_OF_ONE, _UIDS_AT_ONCE // len(paths))
    for merged in _merge([_blocks(work, path, block) for path in paths]):
        repeats = np.flatnonzero(merged[1:] == merged[:-1])
        if len(repeats) or (last is not None and merged[0] == last):
            uid = uid_text(merged[repeats[0]] if len(repeats) else merged[0])
            raise InputError(
                f"The uid {uid} stands at rows of different clusters, so that a list of uids can't tell them apart. "
                "Give every row a uid of its own, or score without a column of uids: they then follow from shard and "
                "row."
            )
        last, count = merged[-1], count + len(merged)
        file.write(merged.tobytes())
    if count != num_uids:
        raise RunError(
            f"{PurePosixPath(paths[0]).parent} holds {count} uids instead of {num_uids}, so that files there are "
            "damaged. Remove it and run select again, which makes them anew."
        )


def _blocks(work: DataFolder, path: str, block: int) -> Iterator[np.ndarray]:
    try:
        with work.open(path) as file:
            npy.read_magic(file)
            shape, _, dtype = npy.read_array_header_1_0(file)
            for start in range(0, shape[0], block):
                count = min(block, shape[0] - start)
                yield np.frombuffer(file.read(count * dtype.itemsize), dtype=dtype, count=count)
    except (OSError, ValueError) as error:  # the latter of files that are too short
        if is_of_storage(error):
            raise
        raise RunError(damaged(path, in_one_line(error, 200))) from error


def _merge(sources: list[Iterator[np.ndarray]]) -> Iterator[np.ndarray]:
    """Sorted blocks of what is in sorted blocks of several sources."""
    heads = [(block, source) for source in sources if (block := next(source, None)) is not None]
    while heads:
        # What is at most the lowest of the blocks' last uids is followed by nothing that is lower.
        lasts = np.array([block[-1] for block, _ in heads], dtype=UID)
        limit = lasts[_order(lasts)[0]]
        taken, left = [], []
        for block, source in heads:
            end = _count_up_to(block, limit)
            taken.append(block[:end])
            rest: np.ndarray | None = block[end:]
            if rest is not None and not len(rest):
                rest = next(source, None)
            if rest is not None:
                left.append((rest, source))
        heads = left
        merged = np.concatenate(taken)
        yield merged[_order(merged)]


def _order(uids: np.ndarray) -> np.ndarray:
    return np.lexsort((uids["f1"], uids["f0"]))


def _count_up_to(block: np.ndarray, limit: np.void) -> int:
    """How many of the sorted uids are at most the limit."""
    start, end = (int(np.searchsorted(block["f0"], limit["f0"], side=side)) for side in ("left", "right"))
    return start + int(np.searchsorted(block["f1"][start:end], limit["f1"], side="right"))

"""What a selection costs: wall-clock seconds, CPU seconds and memory."""

import ctypes
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import nan
from pathlib import Path
from platform import libc_ver

import numpy as np


_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


@dataclass
class Cost:
    """Cost of a step, filled when its block ends.

    Args:
        wall_s (`float`): Seconds that passed.
        cpu_s (`float`): Seconds of all cores together, of this process and of the worker processes that ended.
        peak_mb (`float`): Most memory at one time above that at the start, in MB of 10^6 bytes; NaN where the system
            is not Linux.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        """Of one step after the other."""
        return Cost(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s, max(self.peak_mb, other.peak_mb))

    def as_array(self) -> np.ndarray:
        """The three in their order; `Cost(*array)` brings them back."""
        return np.array([self.wall_s, self.cpu_s, self.peak_mb])


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure a block.

    Returns:
        [`Cost`]: Filled when the block ends.
    """
    cost = Cost()
    memory = _reset_peak()
    wall, cpu = time.perf_counter(), cpu_seconds()
    yield cost
    cost.wall_s, cost.cpu_s = time.perf_counter() - wall, cpu_seconds() - cpu
    cost.peak_mb = max(0.0, _status_mb("VmHWM") - memory)


def cpu_seconds() -> float:
    """CPU time of this process with all its threads, and of its children that have ended."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in usage)


def _reset_peak() -> float:
    """Resident memory now, which becomes the peak so far."""
    if not os.access(_CLEAR, os.W_OK):
        return nan
    if libc_ver()[0] == "glibc":
        # What was freed goes back to the system, or the next block would use it again without being seen.
        ctypes.CDLL(None).malloc_trim(0)
    _CLEAR.write_text(_RESET_PEAK)
    return _status_mb("VmRSS")


def _status_mb(name: str) -> float:
    if not _STATUS.is_file():
        return nan
    [line] = [line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024 / 1e6

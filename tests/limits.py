"""Limits that the system puts on a process.

python limits.py SIZE SCRIPT [ARGUMENT ...]      runs a script whose files may not grow beyond SIZE bytes
"""

import resource
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: every library gets an error of the system, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


if __name__ == "__main__":
    size, *sys.argv = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size),) * 2)
    runpy.run_path(sys.argv[0], run_name="__main__")

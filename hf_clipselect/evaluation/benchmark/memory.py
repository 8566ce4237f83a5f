"""Memory of a block, and the images that it decodes."""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from PIL.ImageFile import ImageFile


@contextmanager
def decoded_images() -> Iterator[list[int]]:
    """Count the images whose pixels this process decodes; one that is opened for its header alone is none."""
    count, original = [0], ImageFile.load

    def load(image: ImageFile) -> Any:
        count[0] += bool(image.tile)  # what is still to be decoded
        return original(image)

    with patch.object(ImageFile, "load", load):
        yield count


class PeakMemory:
    """Anonymous memory of this process (RssAnon) while a block runs, in bytes; pages of mapped files do not count."""

    def __enter__(self) -> "PeakMemory":
        self.before = self._anonymous()
        self._samples = [(time.perf_counter(), self.before)]
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def peak(self) -> int:
        return max(value for _, value in self._samples)

    def peak_between(self, start: float, end: float) -> int:
        return max((value for moment, value in self._samples if start <= moment <= end), default=0)

    def _sample(self) -> None:
        while not self._done.wait(0.005):
            self._samples.append((time.perf_counter(), self._anonymous()))

    @staticmethod
    def _anonymous() -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("RssAnon:")[1].split()[0])


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Memory that was freed here would hide what a function takes.

    The process is forked from one that has imported this package and computed nothing.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__package__])
    with ProcessPoolExecutor(1, mp_context=context, initializer=be_quiet) as pool:
        return pool.submit(function, *arguments).result()


def be_quiet() -> None:
    """Progress bars, warnings and what peers print would tear the table apart; errors come back as exceptions."""
    sys.stdout = sys.stderr = open(os.devnull, "w")

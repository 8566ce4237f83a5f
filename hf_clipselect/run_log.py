"""What a run notes about itself on the way: how long its stages took, and what it warned about."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .failures import during
from .python_door import retold_messages
from .terminal import printable


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Put the wall-clock seconds of a block into `seconds[stage]`; an error that ends the block gets a note of the stage."""
    start = time.perf_counter()
    with during(stage):
        yield
    seconds[stage] = time.perf_counter() - start


@contextmanager
def logged_to_stderr(level: int) -> Iterator[None]:
    """Show the package's own messages during a block; a root handler would print those of other libraries a second time."""
    package_logger = logging.getLogger(__package__)
    before, handler = package_logger.level, logging.StreamHandler()
    package_logger.addHandler(handler)
    package_logger.setLevel(level)
    try:
        with retold_messages(printable):
            yield
    finally:
        package_logger.removeHandler(handler)
        package_logger.setLevel(before)


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """The package's warnings during a block: they belong into its report as well as into the log."""
    collector = _Collector(logging.WARNING)
    package_logger = logging.getLogger(__package__)
    package_logger.addHandler(collector)
    try:
        yield collector.messages
    finally:
        package_logger.removeHandler(collector)


class _Collector(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())

"""What a run notes about itself on the way: how long its stages took, and what it warned about."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Put the wall-clock seconds of a block into `seconds[stage]`."""
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start


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

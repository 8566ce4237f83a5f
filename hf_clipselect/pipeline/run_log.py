"""What a run notes about itself on the way: how long its stages took, and what it warned about."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..config.python_calls import retold_messages
from ..runtime.failures import during
from ..runtime.terminal import printable


_PACKAGE = __package__.partition(".")[0]


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the wall-clock seconds of a block to `seconds[stage]`; an error that ends it gets a note of the stage."""
    start = time.perf_counter()
    with during(stage):
        yield
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start


@contextmanager
def logged_to_stderr(level: int) -> Iterator[None]:
    """Show the package's own messages during a block; a root handler would repeat those of other libraries."""
    package_logger = logging.getLogger(_PACKAGE)
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
    collector = _Collector()
    package_logger = logging.getLogger(_PACKAGE)
    package_logger.addHandler(collector)
    try:
        yield collector.messages
    finally:
        package_logger.removeHandler(collector)


class _Collector(logging.Handler):
    """Keeps the warnings, and shows them as `logging` would without it: on stderr where nobody has set up logging."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        collectors = [it for it in logging.getLogger(_PACKAGE).handlers if isinstance(it, _Collector)]
        of_other_runs = {it._thread for it in collectors} - {self._thread}
        if getattr(record, "in_report", True) and record.thread not in of_other_runs:
            self.messages.append(record.getMessage())
        first = collectors[:1] == [self]
        if first and logging.lastResort is not None and not _has_handler(logging.getLogger(record.name)):
            logging.lastResort.handle(record)


def _has_handler(logger: logging.Logger | None) -> bool:
    """Whether anyone but collectors gets to see what this logger is given."""
    while logger is not None:
        if any(not isinstance(handler, _Collector) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False

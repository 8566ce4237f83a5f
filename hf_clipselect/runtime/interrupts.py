"""Ctrl-C and SIGTERM end a command in one line, at whatever moment they come."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# timeout(1) sends its signal to the command, and at once to its whole group: the second must not end the clean-up.
_SECONDS_APART = 1.0
_SECONDS_UNTIL_AGAIN = 0.01


class Interrupts:
    """A context manager in which both signals raise `KeyboardInterrupt`, once more where Python lost the first one.

    Python drops what is raised in a finalizer or right after a fork, and only reports it to `sys.unraisablehook`. What
    else is dropped after a signal is not shown: finalizers find that it has ended their processes too.
    Outside of the main thread, where no signals can be handled, this does nothing; so it does for a signal that the
    command was told to ignore (nohup). `received` is the first signal that came.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._raised_at = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        self._hook = sys.unraisablehook
        if _in_main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._stop)
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._stop_again)
            sys.unraisablehook = self._keep
        return self

    def __exit__(self, *error: object) -> None:
        sys.unraisablehook = self._hook
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def over(self) -> None:
        """The command has ended: what comes now is noted, and interrupts nothing."""
        self._raised_at = float("inf")
        if self._before:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number)
        if time.monotonic() - self._raised_at > _SECONDS_APART:
            self._raised_at = time.monotonic()
            raise KeyboardInterrupt

    def _stop_again(self, number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def _keep(self, dropped: Any) -> None:
        if self.received is None:
            self._hook(dropped)
        elif issubclass(dropped.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, _SECONDS_UNTIL_AGAIN)


@contextmanager
def held_back() -> Iterator[None]:
    """Let signals that Python would handle wait until the end of a block; processes forked inside never see them."""
    if not _in_main_thread():
        yield
        return
    held: list[int] = []
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


def ignore_from_here() -> None:
    """Ignore signals while Python itself ends, which takes a second: an exception would only be shown."""
    if _in_main_thread():
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()

"""stdout and stderr of a command never raise: closed, full, without a reader, or in an encoding of few characters."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class _Stream:
    """A stream that remembers its first error and discards what comes after it: the run has other results."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.error = self.error or error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())  # where what is still in the buffer goes when Python ends
        os.close(nowhere)

    @property
    def lost(self) -> str | None:
        """Why something that somebody waits for was not written; a reader that has gone waits for nothing."""
        self.flush()
        return None if self.error is None or self.error.errno == errno.EPIPE else self.error.strerror


@contextmanager
def lasting_streams() -> Iterator[_Stream]:
    """Make `sys.stdout` and `sys.stderr` such that writing to them never fails during a block.

    Characters that they do not know, and the bytes of file names that are no text, are written as backslash escapes.
    Yields the stream of stdout, which tells of what was lost.
    """
    for number in range(3):  # else the next file that is opened takes the number, and what is meant for stdout
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before, sys.stdout, sys.stderr = (sys.stdout, sys.stderr), _lasting(sys.stdout), _lasting(sys.stderr)
    try:
        yield sys.stdout
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _lasting(stream: TextIO | None) -> _Stream:
    if stream is None:
        stream = open(os.devnull, "w")  # noqa: SIM115
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return _Stream(stream)

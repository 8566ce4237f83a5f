"""Errors that a user can do something about, told in a sentence: wrong input, failures of the machine and the Hub."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Bad input. The message says what was given, what was expected, the valid choices and what to change.

    The command line prints the message alone and exits with 2; it exits with 1 for a [`RunError`]; every other
    exception keeps its traceback.
    """


class RunError(RuntimeError):
    """The machine failed, not the input: no memory, no disk, a lost process. What is on disk is whole, and the same
    run again goes on from there.

    The command line prints the message alone and exits with 1.
    """


class PushError(RunError):
    """The Hub could not be reached or refused a push."""


@contextmanager
def long_paths_refused() -> Iterator[None]:
    """Turn the `OSError` of a path with too long a part, which even `Path.exists` raises, into an `InputError`."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise InputError(f"The path {str(error.filename)[:100]!r}... is too long; give a shorter one.") from None

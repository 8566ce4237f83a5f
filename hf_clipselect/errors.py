"""The two errors that a person can mend, told in a sentence: wrong input, and a Hub that does not take a push."""


class InputError(ValueError):
    """Bad input. The message says what was given, what was expected, the valid choices and what to change.

    The command line prints the message alone and exits with 2; every other exception keeps its traceback.
    """


class PushError(RuntimeError):
    """The Hub could not be reached or refused a push; what is on disk is whole, and the same call again goes on from there."""

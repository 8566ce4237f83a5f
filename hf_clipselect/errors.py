"""The errors that a person can mend, told in a sentence: wrong input, and a machine or a Hub that let the run down."""


class InputError(ValueError):
    """Bad input. The message says what was given, what was expected, the valid choices and what to change.

    The command line prints the message alone and exits with 2; it exits with 1 for a [`RunError`]; every other exception
    keeps its traceback.
    """


class RunError(RuntimeError):
    """The machine failed, not the input: no memory, no disk, a lost process. What is on disk is whole, and the same run again
    goes on from there.

    The command line prints the message alone and exits with 1.
    """


class PushError(RunError):
    """The Hub could not be reached or refused a push."""

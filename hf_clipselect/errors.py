"""The one error that a person can mend: wrong input, told in a sentence."""


class InputError(ValueError):
    """Bad input. The message says what was given, what was expected, the valid choices and what to change.

    The command line prints the message alone and exits with 2; every other exception keeps its traceback.
    """

"""What `datasets` or a file system raises when it can't load something, as a sentence."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any

from datasets.exceptions import DatasetGenerationError

from ..errors import InputError
from ..runtime.failures import is_of_the_machine
from ..runtime.redaction import hide_secrets
from ..runtime.words import in_one_line


# What datasets says where the files of a split hold no rows.
_WITHOUT_ROWS = re.compile("corresponds to no data|Must pass at least one table")


@contextmanager
def explained(
    what: str, problem: str, options: Mapping[str, Any] | None = None, *, reads_rows: bool = True
) -> Iterator[None]:
    """Turn what is raised inside a block into an `InputError`; failures of the machine pass through.

    The message begins with the flag and the name that a user gave, and a problem such as "can't be loaded". It tells
    no value of the options of a file system.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # every file system and every decoder raises errors of its own
        if is_of_the_machine(error):
            raise
        if reads_rows and isinstance(error, IndexError):  # datasets takes the first of no rows, or of no files
            raise InputError(f"{what} has a split without rows, which can't be loaded.") from None
        cause = (isinstance(error, DatasetGenerationError) and error.__cause__) or error
        reason = hide_secrets(in_one_line(cause), options)[:400]
        if _WITHOUT_ROWS.search(reason):
            raise InputError(f"{what} {problem}: it holds no row.") from None
        if isinstance(cause, UnpicklingError):
            raise InputError(
                f"{what} {problem}: it holds a pickle that is torn, or could run code and is not opened."
            ) from None
        advice = ". Text must be UTF-8: save the file as that." if isinstance(cause, UnicodeDecodeError) else ""
        raise InputError(f"{what} {problem}: {type(cause).__name__}: {reason}{advice}") from None

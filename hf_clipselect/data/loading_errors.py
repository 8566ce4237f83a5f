"""What `datasets` says when it can't load something, as a sentence."""

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


# What datasets says where the files of a split have columns at most.
_WITHOUT_ROWS = re.compile("corresponds to no data|Must pass at least one table")


@contextmanager
def explained(what: str, problem: str, options: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Turn what `datasets` raises inside a block into an `InputError`; failures of the machine pass through.

    Args:
        what (`str`): The flag and the name that was given.
        problem (`str`): Such as `"can't be loaded"`.
        options (`Mapping[str, Any]`, *optional*): Options of a file system, whose values are not told.
    """
    try:
        yield
    except InputError:
        raise
    except IndexError:
        # datasets saves a split without rows as no file at all, and stumbles over that when it loads the dataset.
        raise InputError(f"{what} has a split without rows, which can't be loaded.") from None
    except Exception as error:  # datasets hands what files hold to decoders of every kind, each with errors of its own
        if is_of_the_machine(error):
            raise
        cause = (isinstance(error, DatasetGenerationError) and error.__cause__) or error
        reason = hide_secrets(in_one_line(cause), options)[:400]
        if _WITHOUT_ROWS.search(reason):
            raise InputError(f"{what} {problem}: it holds no row.") from None
        if isinstance(cause, UnpicklingError):
            raise InputError(
                f"{what} {problem}: it holds a pickle that is torn, or could run code and is not opened."
            ) from None
        advice = " Text must be UTF-8: save the file as that." if isinstance(cause, UnicodeDecodeError) else ""
        raise InputError(f"{what} {problem}: {type(cause).__name__}: {reason}{advice and f'.{advice}'}") from None

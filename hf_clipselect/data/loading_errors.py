"""What `datasets` says when it can't load something, as a sentence."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from datasets.exceptions import DatasetGenerationError, DatasetsError
from pyarrow import ArrowException

from ..errors import InputError
from ..failures import is_of_the_machine
from ..redaction import hide_secrets


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
    # A bare ValueError is what datasets raises for a missing or unknown configuration.
    except (DatasetsError, OSError, ValueError, KeyError, ArrowException) as error:
        if is_of_the_machine(error):
            raise
        cause = (isinstance(error, DatasetGenerationError) and error.__cause__) or error
        reason = hide_secrets(" ".join(str(cause).split()), options)[:400]
        raise InputError(f"{what} {problem}: {type(cause).__name__}: {reason}") from None

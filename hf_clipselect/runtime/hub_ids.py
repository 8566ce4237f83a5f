"""Names of datasets, models and files in cards: Hub ids in full, paths on the user's disk by their last part."""

import os
import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from huggingface_hub.utils import HFValidationError, validate_repo_id

from ..errors import InputError


EMBEDDED_PREFIX = "embedded/"
# What OpenCLIP writes before the Hub id of a model.
HUB_PREFIX = "hf-hub:"
# The full name of a commit.
COMMIT = re.compile("[0-9a-f]{40}")

# The name alone: a sentence may begin with it and name a path further on.
_EMBEDDED_NAME = re.compile(r"embedded/[\w.-]+")

_LOCAL_PREFIXES = ("~", "./", "../", ".\\", "..\\", "file:")
# The start of an absolute path; what stands before it tells it from "and/or", a URL or a closing HTML tag.
_PATH_START = r"(?:(?<![\w:/.<~])~?/|(?<!\w)[A-Za-z]:[/\\]|(?<!\\)\\\\)"
_PATH_IN_TEXT = re.compile(rf"""(?<='){_PATH_START}[^']+(?=')|(?<="){_PATH_START}[^"]+(?=")|{_PATH_START}[^\s'"<>]+""")


def is_hub_id(name: str, *, revision: str | None = None) -> bool:
    """Whether a name of a dataset or model means a repository on the Hub, of which a commit may be known.

    Never `embedded/...`, nor what exists on disk, nor a name without a namespace, unless its commit is known.
    """
    if name.startswith(EMBEDDED_PREFIX) or os.path.exists(name) or not _is_repo_id(name):
        return False
    return "/" in name or revision is not None


def check_repo_id(repo_id: str) -> None:
    """Raise `InputError` for an id that the Hub does not take."""
    if not _is_repo_id(repo_id):
        raise InputError(f"repo_id must be a Hub id such as user/name, got {repo_id!r}.")


def hide_paths(value: Any) -> Any:
    """Replace paths on the user's disk by their last component, in all texts of plain JSON types."""
    if isinstance(value, dict):
        return {key: hide_paths(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [hide_paths(item) for item in value]
    if not isinstance(value, str) or _EMBEDDED_NAME.fullmatch(value):
        return value
    return _last_part(value) if is_local_path(value) else _PATH_IN_TEXT.sub(lambda path: _last_part(path[0]), value)


def is_local_path(name: str) -> bool:
    """Whether a text as a whole is a path on the user's disk: absolute, from home, relative with dots, or existing."""
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute()
    return absolute or name.startswith(_LOCAL_PREFIXES) or os.path.exists(name)


def lasting_name(name: str) -> str:
    """A name as it is known from any working directory: the absolute path of what exists on disk; others stay, but
    for OpenCLIP's `hf-hub:`.
    """
    is_path = os.path.exists(name) and not name.startswith(EMBEDDED_PREFIX)
    return os.path.abspath(name) if is_path else name.removeprefix(HUB_PREFIX)


def plain_name(name: str) -> str:
    """The name of a dataset or a model for titles: the last part of an id or a path, empty if it has no name."""
    return _last_part(name) if name else ""


def _is_repo_id(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _last_part(path: str) -> str:
    # The Windows flavour takes both separators, whatever system the card is written on.
    return PureWindowsPath(path).name

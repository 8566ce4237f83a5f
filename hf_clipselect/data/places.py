"""What a name of a dataset or of a file can mean: a path on this machine, a repository on the Hub, or a URL."""

import json
import os
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from ..errors import InputError


_HUB_URL = re.compile(
    r"hf://datasets/(?P<repo>[^/@]+/[^/@]+)(@(?P<revision>refs/(?:convert|pr)/[^/]+|[^/]+))?(/(?P<path>.*))?"
)
_FILE_URL = re.compile("^file:(//(localhost(?=/))?|(?=/))")
# What `glob` reads as a pattern. datasets reads paths as patterns too
# (https://github.com/huggingface/datasets/issues/7468).
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class SourceFlags:
    """What errors call the name, configuration and split of a dataset, and what accepts that files are not read."""

    name: str = "--dataset_name"
    config: str = "--dataset_config_name"
    split: str = "--train_split_name"
    accept: str | None = "--allow_unread_files"


@dataclass(frozen=True)
class HubPlace:
    """A branch, tag or commit of a dataset repository, and a folder or file in it; an empty path means all of it."""

    repo: str
    revision: str | None
    path: str


def is_url(name: str) -> bool:
    """Whether a name is a URL of a file system other than this machine's."""
    return re.match(r"([A-Za-z][\w+.-]*::)*[A-Za-z][\w+.-]*://", name) is not None


def hub_place(name: str) -> HubPlace | None:
    """What `hf://datasets/...` means; `None` for every other name."""
    found = _HUB_URL.fullmatch(name)
    if found is None:
        return None
    revision = found["revision"]
    return HubPlace(found["repo"], revision and unquote(revision), (found["path"] or "").strip("/"))


def local_name(name: str) -> str:
    """The path that `file:///...` or `~/...` means; every other name as it is."""
    path = path_of_file_url(name)
    return os.path.expanduser(path) if path.startswith("~") else path


def path_of_file_url(name: str) -> str:
    """The path in `file:///...`, `file://localhost/...` or `file:/...`; every other name as it is.

    Percent codes, as `Path.as_uri` writes them, are decoded unless a file or folder has the very name.
    """
    path = _FILE_URL.sub("", name)
    if path == name or "%" not in path:
        return path
    magic = _MAGIC.search(path)
    place = path if magic is None else path[: magic.start()].rpartition("/")[0]
    return path if os.path.lexists(path) or os.path.lexists(place) else unquote(path)


def is_pattern(path: str) -> bool:
    """Whether a path holds characters that `glob`, and with it `datasets`, reads as a pattern."""
    return _MAGIC.search(path) is not None


def read_storage_options(text: str | None) -> dict[str, Any]:
    """The options in the JSON of `--storage_options`; the `InputError` for anything else tells no value."""
    if text is None:
        return {}
    try:
        options = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", "it is nested too deeply")
        raise InputError(
            "--storage_options must be a JSON object of options of the file system, such as "
            f"'{{\"anon\": true}}': {reason}."
        ) from None
    if not isinstance(options, dict):
        raise InputError(
            f"--storage_options must be a JSON object such as '{{\"anon\": true}}', got a {type(options).__name__}."
        )
    if missing := [key for key, value in options.items() if value is None]:
        raise InputError(
            f"--storage_options has no value for {', '.join(missing)}: a run keeps the names of the options alone. "
            "Give them again on the command line."
        )
    return options

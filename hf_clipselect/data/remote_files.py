"""Files of other file systems (s3, gs, http, ...), fetched into the cache of `datasets`.

They are fetched here, and not by `datasets`, because it would write the URLs with their signatures beside what it
caches.
"""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from ..errors import InputError
from ..runtime.failures import is_of_the_machine
from ..runtime.files import unused_name
from ..runtime.redaction import hide_secrets
from ..runtime.words import in_one_line
from .archives import cache_folder
from .places import is_pattern


# Protocol -> extra of this package that brings its file system.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_VERSIONS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")
_BATCH = 256


@dataclass(frozen=True)
class Fetched:
    """Files of a URL, here.

    Args:
        folder (`str`): Holds them under their paths below the URL.
        paths (`list[str]`): All of them, absolute, sorted.
        is_folder (`bool`): The URL is that of a folder.
    """

    folder: str
    paths: list[str]
    is_folder: bool


def fetch_urls(urls: Sequence[str], options: Mapping[str, Any], flag: str) -> Fetched:
    """Fetch what URLs name: files, all files of a folder, or those that a pattern matches.

    Args:
        urls (`Sequence[str]`): Such as `s3://bucket/folder` or `gs://bucket/train-*.parquet`, all of one file system.
        options (`Mapping[str, Any]`): Of this file system.
        flag (`str`): The flag that they were given with.

    Returns:
        `Fetched`: What was fetched before and has not changed is not fetched again.

    Raises:
        InputError: There is no such file, it can't be read, or a package is missing; the message tells no credentials.
    """
    shown, protocol = hide_secrets(" ".join(urls), options), urls[0].partition(":")[0].lower()
    if others := [url for url in urls if url.partition(":")[0].lower() != protocol]:
        raise InputError(
            f"{flag} {shown}: all URLs must be of one file system; {hide_secrets(others[0])} is of another."
        )
    try:
        return _fetch(urls, options, shown, is_http=protocol in ("http", "https"))
    except InputError:
        raise
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        needs = f"pip install 'hf_clipselect[{extra}]'" if extra else str(error)
        raise InputError(f"{flag} {shown} needs a package for {protocol}:// that is not installed: {needs}.") from None
    except Exception as error:  # every file system raises errors of its own
        if is_of_the_machine(error):
            raise
        reason = hide_secrets(in_one_line(error), options)[:400]
        raise InputError(f"{flag} {shown} can't be read: {type(error).__name__}: {reason}") from None


def _fetch(urls: Sequence[str], options: Mapping[str, Any], shown: str, *, is_http: bool) -> Fetched:
    infos: dict[str, Mapping[str, Any]] = {}
    folder_names: list[str] = []
    for url in urls:
        system, path = url_to_fs(url, **options)
        system.invalidate_cache()
        if is_http:  # whose folders are pages
            infos[path] = system.info(path)
        elif is_pattern(path):
            infos |= {name: info for name, info in system.glob(path, detail=True).items() if info["type"] == "file"}
        elif system.isdir(path):
            infos |= system.find(path, detail=True)
            folder_names.append(path)
        else:
            infos[path] = system.info(path)
    is_folder = len(urls) == len(folder_names) == 1
    base = folder_names[0].rstrip("/") if is_folder else _common_folder([_plain(name, is_http) for name in infos])
    below = {name: _plain(name, is_http)[len(base) :].strip("/") for name in infos}
    below = {name: path for name, path in below.items() if not re.search(r"(^|/)\.(?!\.)", path)}
    if not below:
        raise InputError(f"{shown} holds no files.")
    if escaping := [path for path in below.values() if ".." in path.split("/")]:
        raise InputError(f"{shown} holds {escaping[0]}, whose name leads out of the folder.")
    versions = [(path, infos[name].get("size"), _version(infos[name])) for name, path in sorted(below.items())]
    folder = cache_folder("remote", shown, *versions)
    _download(system, {name: folder / path for name, path in below.items()}, folder)
    return Fetched(str(folder), sorted(str(folder / path) for path in below.values()), is_folder)


def _plain(name: str, is_http: bool) -> str:
    """The path of a file, without the query of a URL."""
    return urlsplit(name)._replace(query="", fragment="").geturl() if is_http else name


def _common_folder(names: list[str]) -> str:
    return os.path.commonprefix([name.rpartition("/")[0] + "/" for name in names]).rpartition("/")[0]


def _version(info: Mapping[str, Any]) -> str:
    return next((str(info[key]) for key in _VERSIONS if info.get(key) is not None), "")


def _download(system: AbstractFileSystem, targets: Mapping[str, Path], folder: Path) -> None:
    """Fetch what is not there yet; a file that is there is whole."""
    missing = [name for name, target in targets.items() if not target.exists()]
    temporary = unused_name(folder)
    try:
        for start in range(0, len(missing), _BATCH):
            some = missing[start : start + _BATCH]
            temporary.mkdir(parents=True, exist_ok=True)
            parts = [str(temporary / str(number)) for number in range(len(some))]
            system.get(some, parts)
            for name, part in zip(some, parts, strict=True):
                # The same time wherever and whenever it is fetched: it is part of the fingerprint.
                os.utime(part, (0, 0))
                targets[name].parent.mkdir(parents=True, exist_ok=True)
                os.replace(part, targets[name])
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

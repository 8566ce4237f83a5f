"""Files of other file systems (s3, gs, http, ...), fetched into the cache of `datasets`.

`datasets` does not fetch them itself, because it would write the URLs with their signatures beside what it caches.
"""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from ..errors import InputError
from ..runtime.files import unused_name
from ..runtime.redaction import hide_secrets
from .archives import cache_folder
from .loading_errors import explained
from .places import is_pattern


# Protocol -> extra of this package that brings its file system.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
# Keys under which file systems tell which version of a file it is.
_VERSIONS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")
_BATCH = 256


def fetch_urls(urls: Sequence[str], options: Mapping[str, Any], flag: str) -> tuple[str | None, list[str]]:
    """Fetch what URLs of one file system name: files, all files of a folder, or those that a pattern matches.

    Gives the fetched folder, where the one URL is that of a folder, and the absolute paths of all files, sorted. What
    was fetched before and has not changed is not fetched again. Raises `InputError`, which begins with `flag` and
    tells no credentials, where there is no such file, it can't be read, or a package is missing.
    """
    shown, protocol = hide_secrets(" ".join(urls), options), urls[0].partition(":")[0].lower()
    if others := [url for url in urls if url.partition(":")[0].lower() != protocol]:
        raise InputError(
            f"{flag} {shown}: all URLs must be of one file system; {hide_secrets(others[0])} is of another."
        )
    with explained(f"{flag} {shown}", "can't be read", options, reads_rows=False):
        try:
            return _fetch(urls, options, shown, is_http=protocol in ("http", "https"))
        except ImportError as error:
            extra = _EXTRAS.get(protocol)
            needs = f"pip install 'hf_clipselect[{extra}]'" if extra else str(error)
            raise InputError(
                f"{flag} {shown} needs a package for {protocol}:// that is not installed: {needs}."
            ) from None


def _fetch(
    urls: Sequence[str], options: Mapping[str, Any], shown: str, *, is_http: bool
) -> tuple[str | None, list[str]]:
    infos: dict[str, Mapping[str, Any]] = {}
    folder_names: list[str] = []
    for url in urls:
        system, path = url_to_fs(url, **options)
        system.invalidate_cache()
        if is_http:  # folders of a web server are pages
            infos[path] = system.info(path)
        elif is_pattern(path):
            infos |= {name: info for name, info in system.glob(path, detail=True).items() if info["type"] == "file"}
        elif system.isdir(path):
            infos |= system.find(path, detail=True)
            folder_names.append(path)
        else:
            infos[path] = system.info(path)
    is_folder = len(urls) == len(folder_names) == 1
    plain = {name: urlsplit(name)._replace(query="", fragment="").geturl() if is_http else name for name in infos}
    base = folder_names[0].rstrip("/") if is_folder else _common_folder(list(plain.values()))
    below = {name: path[len(base) :].strip("/") for name, path in plain.items()}
    below = {name: path for name, path in below.items() if not re.search(r"(^|/)\.(?!\.)", path)}  # hidden files
    if not below:
        raise InputError(f"{shown} holds no files.")
    if escaping := [path for path in below.values() if ".." in path.split("/")]:
        raise InputError(f"{shown} holds {escaping[0]}, whose name leads out of the folder.")
    versions = [(path, infos[name].get("size"), _version(infos[name])) for name, path in sorted(below.items())]
    folder = cache_folder("remote", shown, *versions)
    _download(system, {name: folder / path for name, path in below.items()}, folder)
    return str(folder) if is_folder else None, sorted(str(folder / path) for path in below.values())


def _common_folder(names: list[str]) -> str:
    return os.path.commonprefix([name.rpartition("/")[0] + "/" for name in names]).rpartition("/")[0]


def _version(info: Mapping[str, Any]) -> str:
    return next((str(info[key]) for key in _VERSIONS if info.get(key) is not None), "")


def _download(system: AbstractFileSystem, targets: Mapping[str, Path], folder: Path) -> None:
    """Fetch the files that are not there yet; a file that is there is whole."""
    missing = [name for name, target in targets.items() if not target.exists()]
    temporary = unused_name(folder)
    try:
        for start in range(0, len(missing), _BATCH):
            some = missing[start : start + _BATCH]
            temporary.mkdir(parents=True, exist_ok=True)
            parts = [str(temporary / str(number)) for number in range(len(some))]
            system.get(some, parts)
            for name, part in zip(some, parts, strict=True):
                # The time is part of the fingerprint, which must not depend on when a file was fetched.
                os.utime(part, (0, 0))
                targets[name].parent.mkdir(parents=True, exist_ok=True)
                os.replace(part, targets[name])
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

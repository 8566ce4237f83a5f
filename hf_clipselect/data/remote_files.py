"""Files of other file systems (s3, gs, http, ...), fetched into the cache of `datasets`.

They are fetched here, and not by `datasets`, because it would write the URLs with their signatures beside what it caches.
"""

import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from ..errors import InputError
from ..failures import is_of_the_machine
from ..redaction import hide_secrets
from .archives import cache_folder


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


def fetch_url(url: str, options: Mapping[str, Any], flag: str) -> Fetched:
    """Fetch what a URL names: a file, all files of a folder, or those that a pattern matches.

    Args:
        url (`str`): Such as `s3://bucket/folder` or `gs://bucket/train-*.parquet`.
        options (`Mapping[str, Any]`): Of its file system.
        flag (`str`): The flag that it was given with.

    Returns:
        `Fetched`: What was fetched before and has not changed is not fetched again.

    Raises:
        InputError: There is no such file, it can't be read, or a package is missing; the message tells no credentials.
    """
    shown, protocol = hide_secrets(url, options), url.partition(":")[0].lower()
    try:
        system, path = url_to_fs(url, **options)
        system.invalidate_cache()
        return _fetch(system, path, shown, is_http=protocol in ("http", "https"))
    except InputError:
        raise
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        needs = f"pip install 'hf_clipselect[{extra}]'" if extra else str(error)
        raise InputError(f"{flag} {shown} needs a package for {protocol}:// that is not installed: {needs}.") from None
    except Exception as error:  # every file system raises errors of its own
        if is_of_the_machine(error):
            raise
        reason = hide_secrets(" ".join(str(error).split()), options)[:400]
        raise InputError(f"{flag} {shown} can't be read: {type(error).__name__}: {reason}") from None


def _fetch(system: AbstractFileSystem, path: str, shown: str, *, is_http: bool) -> Fetched:
    is_folder = False
    if is_http:  # whose folders are pages
        base, infos = path, {path: system.info(path)}
    elif has_magic(path):
        base = path[: next(i for i, sign in enumerate(path) if sign in "*?[")].rpartition("/")[0]
        infos = {name: info for name, info in system.glob(path, detail=True).items() if info["type"] == "file"}
    elif is_folder := system.isdir(path):
        base, infos = path, system.find(path, detail=True)
    else:
        base, infos = path.rpartition("/")[0], {path: system.info(path)}
    names = {
        name: urlsplit(name).path.rpartition("/")[2] if is_http else name[len(base) :].strip("/") for name in infos
    }
    names = {
        name: rel
        for name, rel in names.items()
        if rel and not any(p.startswith(".") for p in rel.split("/") if p != "..")
    }
    if not names:
        raise InputError(f"{shown} holds no files.")
    if escaping := [rel for rel in names.values() if ".." in rel.split("/")]:
        raise InputError(f"{shown} holds {escaping[0]}, whose name leads out of the folder.")
    versions = [(rel, infos[name].get("size"), _version(infos[name])) for name, rel in sorted(names.items())]
    folder = cache_folder("remote", shown, *versions)
    _download(system, {name: folder / rel for name, rel in names.items()}, folder)
    return Fetched(str(folder), sorted(str(folder / rel) for rel in names.values()), is_folder)


def _version(info: Mapping[str, Any]) -> str:
    return next((str(info[key]) for key in _VERSIONS if info.get(key) is not None), "")


def _download(system: AbstractFileSystem, targets: Mapping[str, Path], folder: Path) -> None:
    """Fetch what is not there yet; a file that is there is whole."""
    missing = [name for name, target in targets.items() if not target.exists()]
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.tmp")
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

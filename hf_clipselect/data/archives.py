"""Zip files, unpacked into the cache of `datasets`."""

import hashlib
import lzma
import os
import shutil
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import datasets

from ..errors import InputError
from ..runtime.failures import is_of_the_machine
from ..runtime.files import unused_name
from .folder_files import first_names


def cache_folder(*content: object) -> Path:
    """A folder in the cache of `datasets`, named by the hash of what its content follows from; it need not exist."""
    key = hashlib.sha256("\n".join(map(str, content)).encode(errors="surrogateescape")).hexdigest()[:32]
    return Path(datasets.config.HF_DATASETS_CACHE) / "clipselect" / key


def unpack(paths: Sequence[str]) -> str:
    """Unpack zip files, unless that was done before, and give the folder that holds one folder for each, named as the
    file without `.zip`.

    Raises `InputError` for one that is no zip file, is broken, needs a password or holds two files of one name.
    """
    states = [os.stat(path) for path in paths]
    folder = cache_folder(
        *((os.path.realpath(path), s.st_size, s.st_mtime_ns) for path, s in zip(paths, states, strict=True))
    )
    if folder.is_dir():
        return str(folder)
    temporary = unused_name(folder)
    try:
        for path in paths:
            _unpack_one(path, temporary / Path(path).stem)
        try:
            os.replace(temporary, folder)
        except OSError:
            if not folder.is_dir():  # another process was faster
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return str(folder)


def _unpack_one(path: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"Two zip files are called {folder.name}; unpack them, and give the folder.") from None
    try:
        with zipfile.ZipFile(path) as archive:
            names = Counter(name for name in archive.namelist() if not name.endswith("/"))
            if twice := [name for name, count in names.items() if count > 1]:
                raise InputError(
                    f"{path} holds {first_names(twice)} more than once, and one file would overwrite the other."
                )
            archive.extractall(folder)
    # zipfile raises RuntimeError for a password, NotImplementedError for a method that it does not know, and OSError
    # for a name that is too long, or that is one of a file and of a folder.
    except (zipfile.BadZipFile, RuntimeError, EOFError, lzma.LZMAError, zlib.error, OSError) as error:
        if is_of_the_machine(error):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} can't be unpacked ({reason}); unpack it yourself, and give the folder.") from None

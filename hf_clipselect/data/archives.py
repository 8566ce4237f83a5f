"""Zip files as the folders that they hold, unpacked beside what `datasets` caches."""

import hashlib
import lzma
import os
import shutil
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import datasets

from ..errors import InputError
from ..runtime.failures import is_of_the_machine
from ..runtime.files import unused_name
from .unread_files import first_names


def cache_folder(*what: object) -> Path:
    """A folder of the cache of `datasets` that stands for some content.

    Args:
        *what (`object`): What its content follows from.

    Returns:
        `Path`: The same for the same content; it need not exist yet.
    """
    key = hashlib.sha256("\n".join(map(str, what)).encode(errors="surrogateescape")).hexdigest()[:32]
    return Path(datasets.config.HF_DATASETS_CACHE) / "clipselect" / key


def unpack(paths: list[str]) -> str:
    """Unpack zip files, each into a folder of its name; one that holds a single folder of the same name is that
    folder.

    Args:
        paths (`list[str]`): The files.

    Returns:
        `str`: A folder with one for each of them. What was unpacked before is not unpacked again.

    Raises:
        InputError: One is no zip file, is broken, needs a password or holds two files of one name.
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
            if not folder.is_dir():  # by another process, meanwhile
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
    # zipfile raises RuntimeError for a password, NotImplementedError for a method that it does not know.
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"{path} can't be unpacked ({error}); unpack it yourself, and give the folder.") from None
    except OSError as error:  # a name that is too long, or one of a file and of a folder
        if is_of_the_machine(error):
            raise
        raise InputError(
            f"{path} can't be unpacked ({error.strerror}); unpack it yourself, and give the folder."
        ) from None

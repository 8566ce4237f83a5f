"""Which reader of `datasets` takes a file, and how files are handed to it without being read as patterns."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from datasets import DatasetBuilder, load_dataset_builder
from datasets.data_files import (
    ALL_DEFAULT_PATTERNS,
    ALL_SPLIT_PATTERNS,
    FILES_TO_IGNORE,
    DataFilesDict,
    DataFilesList,
    sanitize_patterns,
)
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder
from fsspec.utils import glob_translate
from huggingface_hub.repocard import metadata_load

from ..errors import InputError
from .archives import cache_folder
from .folder_files import FolderFiles, ending, name_of


# Ending -> reader of `datasets`.
READERS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".arrow": "arrow",
    ".tar": "webdataset",
}


def reader_name(path: str) -> str:
    """The name of the reader for a file; empty where there is none."""
    return READERS.get(_table_ending(path), "")


def builder_of_files(reader: str, splits: Mapping[str, Sequence[str]]) -> DatasetBuilder:
    """The builder for files here (split -> absolute paths), none of whose names is read as a pattern."""
    # `datasets` takes resolved lists as they are; the state of each file makes its cache see that the file changed.
    data_files = DataFilesDict()
    for split, paths in splits.items():
        paths = [_unchained_path(path) for path in paths]
        states = [os.stat(path) for path in paths]
        data_files[split] = DataFilesList(paths, [(str(state.st_size), str(state.st_mtime_ns)) for state in states])
    first = next((path for paths in splits.values() for path in paths), "")
    settings = {"sep": "\t"} if reader == "csv" and _table_ending(first) == ".tsv" else {}
    return load_dataset_builder(reader, data_files=data_files, **settings)


def unchained_folder(folder: str) -> str:
    """The folder itself, or a link to it where `datasets` would take its path for a chain of URLs, for its `::`."""
    return _unchained_path(f"{folder}/.")[: -len("/.")]


def splits_of_folder(files: FolderFiles, paths: Sequence[str]) -> dict[str, list[str]]:
    """The splits that `datasets` finds by the names of some files of a folder: split -> absolute paths, each once."""
    sharded = ALL_SPLIT_PATTERNS[0]
    if names := {name_of(path).partition("-")[0] for path in _matching(paths, [sharded.replace("{split}", "*")])}:
        return _matched(files, paths, {split: [sharded.replace("{split}", split)] for split in sorted(names)})
    for patterns in ALL_DEFAULT_PATTERNS:
        if found := _matched(files, paths, {str(split): globs for split, globs in patterns.items()}):
            return found
    return {}


def declared_configs(folder: str) -> list[dict]:
    """What the header of a folder's README.md says of its configs."""
    try:
        configs = (metadata_load(Path(folder) / "README.md") or {}).get("configs")
    except Exception:  # `datasets` tells what is wrong with a README.md when it reads it
        return []
    return configs if isinstance(configs, list) and all(isinstance(c, dict) for c in configs) else []


def splits_of_config(files: FolderFiles, config: Mapping) -> dict[str, list[str]]:
    """The splits that README.md declares for a config, of the files that there are."""
    base = f"{str(config['data_dir']).strip('/')}/" if config.get("data_dir") else ""
    paths = [path for path in files.found if name_of(path) not in FILES_TO_IGNORE]
    if "data_files" not in config:
        return splits_of_folder(files, [path for path in paths if path.startswith(base)])
    patterns = sanitize_patterns(config["data_files"])
    return _matched(files, paths, {split: [base + glob for glob in globs] for split, globs in patterns.items()})


def reader_of_files(paths: Sequence[str]) -> tuple[str, list[str]]:
    """The reader that most of the files are for, and the files that it takes: metadata is read with images."""
    images = [path for path in paths if ending(path) in ImageFolder.EXTENSIONS]
    kinds = Counter(filter(None, map(reader_name, paths)))
    if images and len(images) > max(kinds.values(), default=0):
        return "imagefolder", images + [path for path in paths if name_of(path) in ImageFolder.METADATA_FILENAMES]
    if not kinds:
        raise InputError(
            f"{name_of(paths[0])} is none of the files that can be read: {', '.join(READERS)}, .zip, or images."
        )
    reader = max(kinds, key=lambda kind: (kinds[kind], kind == "parquet"))
    return reader, [path for path in paths if reader_name(path) == reader]


def _table_ending(path: str) -> str:
    """The ending that tells the reader of a file: the last, or of a compressed file the one before that; else none."""
    endings = [f".{part}" for part in reversed(name_of(path).lower().split(".")[1:])]
    return next((suffix for suffix in endings if suffix in READERS), "")


def _unchained_path(path: str) -> str:
    """The path itself, or the same through a link where `datasets` would take it for a chain of URLs, for its `::`."""
    folder, _, rest = path.rpartition("::")
    if not folder:
        return path
    inside, _, below = rest.partition("/")
    if not below:
        raise InputError(
            f"{path} has '::' in the name of the file, which datasets reads as a chain of URLs; rename it."
        )
    target = f"{folder}::{inside}"
    link = cache_folder("link", target)
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        with suppress(FileExistsError):  # another process was faster
            link.symlink_to(target, target_is_directory=True)
    return f"{link}/{below}"


def _matched(files: FolderFiles, paths: Sequence[str], patterns: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    found = {split: [files.full(path) for path in _matching(paths, globs)] for split, globs in patterns.items()}
    return {split: matched for split, matched in found.items() if matched}


def _matching(paths: Sequence[str], globs: Sequence[str]) -> list[str]:
    """The paths that one of the patterns matches as a whole."""
    compiled = [re.compile(glob_translate(glob)) for glob in globs]
    return [path for path in paths if any(regex.fullmatch(path) for regex in compiled)]

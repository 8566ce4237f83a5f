"""Rows from a folder or from files on this machine; files that are left out are told."""

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from datasets import Dataset, DatasetBuilder, Image, IterableDataset, load_dataset_builder, load_from_disk

from ..errors import InputError
from ..runtime.words import are
from .archives import unpack
from .class_folders import class_folder_dataset, read_class_folders, read_split_folders
from .declared_files import check_builder, check_saved
from .folder_files import TABLE_ENDINGS, FolderFiles, ending, first_names, name_of, walk
from .places import SourceFlags, is_pattern
from .table_files import (
    READERS,
    builder_of_files,
    declared_configs,
    reader_name,
    reader_of_files,
    splits_of_config,
    splits_of_folder,
    unchained_folder,
)


logger = logging.getLogger(__name__)

_TEXT_TABLES = {".csv", ".tsv", ".json", ".jsonl", ".ndjson"}
_ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Wanted:
    """What a user wants of a place that messages call `shown`; `flags` is what errors call the parts of it."""

    shown: str
    config_name: str | None
    split: str
    allow_unread_files: bool
    flags: SourceFlags
    streaming: bool = False

    @property
    def flag_and_name(self) -> str:
        """What an error begins with: the flag, and the name that a user gave."""
        return f"{self.flags.name} {self.shown}"

    def open(self, builder: DatasetBuilder) -> Dataset | IterableDataset:
        """The split asked for, as a stream where that is wanted: nothing is prepared then."""
        if self.streaming:
            return self.pick(builder.as_streaming_dataset())
        builder.download_and_prepare()
        return self.pick(builder.as_dataset())

    def pick(self, splits: Any) -> Any:
        """The split asked for, a dataset or a stream, of those that were loaded."""
        if isinstance(splits, (Dataset, IterableDataset)):
            if splits.split is not None and str(splits.split) != self.split:
                raise InputError(
                    f"{self.flags.split} {self.split}: {self.shown} holds the split {splits.split} alone."
                )
            return splits
        self.check_split(splits)
        return splits[self.split]

    def check_split(self, splits: Collection[str]) -> None:
        """Raise `InputError` unless the split is one of these."""
        if self.split not in splits:
            raise InputError(f"{self.flags.split} {self.split}: {self.shown} has the splits {', '.join(splits)}.")

    def check_unread(self, unread: Mapping[str, str], total: int, kind: str = "image files") -> None:
        """Raise `InputError`, or warn where the user accepts that, if files would be left out.

        `unread` gives the reason for each path in a few words: "a link to nothing"; `total` counts these files too.
        """
        if not unread:
            return
        reasons: dict[str, list[str]] = {}
        for path, reason in unread.items():
            reasons.setdefault(reason, []).append(path)
        told = "; ".join(f"{first_names(paths)} ({reason})" for reason, paths in reasons.items())
        counts = f"{len(unread):,} of {total:,} {kind} in {self.shown}"
        if self.allow_unread_files:
            logger.warning("%s are not read: %s.", counts, told)
            return
        accept = self.flags.accept
        without = "" if accept is None else f", or pass {accept} to go on without them"
        raise InputError(f"{counts} would not be read: {told}. Mend or move these{without}.")


def load_folder(folder: str, wanted: Wanted) -> tuple[Dataset | IterableDataset, str | None]:
    """Load a split of a folder: class folders, images with a metadata file, tables, zip files or a saved dataset.

    Gives the rows, and the folder that paths in their columns are relative to, where there is one. Raises `InputError`
    where it holds nothing that can be read, or files that would not be read; and whatever `datasets` raises.
    """
    folder = os.path.abspath(folder)
    if any((Path(folder) / name).exists() for name in ("state.json", "dataset_dict.json")):
        check_saved(folder, wanted.shown)
        return wanted.pick(load_from_disk(unchained_folder(folder))), None
    files, configs = walk(folder), declared_configs(folder)
    if not files.found and not files.broken:
        raise InputError(f"{wanted.flag_and_name} can't be loaded: it doesn't contain any data files.")
    if files.hidden:
        logger.info("%s: hidden files and folders are left out: %s.", wanted.shown, first_names(sorted(files.hidden)))
    if any("data_files" in config or "data_dir" in config for config in configs):
        return _from_builder(_builder_of_configs(files, configs, wanted), wanted)
    binary = [path for path in files.tables if ending(path) not in _TEXT_TABLES]
    is_images = files.metadata or (len(files.images) > len(binary) and len(files.images) >= len(files.tables))
    if files.images and is_images or not (files.tables or files.zips) and (files.foreign_images or files.broken):
        return _from_images(files, wanted), None
    if files.zips and not files.tables:
        _tell_left_out("images beside zip files", files.images, wanted)
        broken = {path: reason for path, reason in files.broken.items() if ending(path) == ".zip"}
        wanted.check_unread(broken, len(files.zips) + len(broken), "zip files")
        return load_folder(unpack([files.full(path) for path in files.zips]), wanted)
    _tell_left_out("images beside tables", files.images, wanted)
    return _from_builder(_builder_of_tables(files, wanted), wanted)


def load_files(paths: Sequence[str], wanted: Wanted) -> tuple[Dataset | IterableDataset, str | None]:
    """Load files as one split, `train`, whatever they are called: files of rows, or images in class folders, all of
    one kind; or zip files. Returns and raises as [`load_folder`].
    """
    paths = [os.path.abspath(path) for path in dict.fromkeys(paths)]
    if all(ending(path) == ".zip" for path in paths):
        return _load_zips(paths, wanted)
    _check_no_config(wanted)
    reader, mine = reader_of_files(paths)
    known = set(mine)
    if others := [path for path in paths if path not in known]:
        raise InputError(
            f"{wanted.shown}: all files must be of one kind, got {name_of(mine[0])} and "
            f"{first_names(map(name_of, others))}."
        )
    if reader == "imagefolder":
        wanted.check_split(["train"])
        root = os.path.commonpath([os.path.dirname(path) for path in mine])
        files = FolderFiles(root)
        for path in sorted(mine):
            state = os.stat(path)
            files.found[os.path.relpath(path, root)] = state.st_size, state.st_mtime_ns
        return _from_images(files, wanted, with_splits=False), root
    return _from_builder(builder_of_files(reader, {"train": paths}), wanted)


def _load_zips(paths: Sequence[str], wanted: Wanted) -> tuple[Dataset | IterableDataset, str | None]:
    """The folder in one zip file, whatever the file is called; or several as one split, whose names may be classes."""
    folder = unpack(paths)
    if len(paths) == 1:
        return load_folder(f"{folder}/{Path(paths[0]).stem}", wanted)
    files = walk(folder)
    if files.tables and not files.metadata:
        return load_files([files.full(path) for path in files.tables], wanted)
    wanted.check_split(["train"])
    return _from_images(files, wanted, with_splits=False), None


def _from_builder(builder: DatasetBuilder, wanted: Wanted) -> tuple[Dataset | IterableDataset, str | None]:
    if builder.name == "parquet":
        # By default datasets takes the size of a file's first row group, and can't read a file without rows.
        builder.config.batch_size = builder.config.batch_size or _ROWS_AT_ONCE
    dataset = wanted.open(builder)
    folders = {os.path.dirname(path) for path in builder.config.data_files[wanted.split]}
    return dataset, folders.pop() if len(folders) == 1 else None


def _builder_of_configs(files: FolderFiles, configs: list[dict], wanted: Wanted) -> DatasetBuilder:
    """The files that README.md names are found by `datasets`, unless a name or a link keeps it from that."""
    if not _is_hard_for_datasets(files):
        return _builder_of_folder(files, wanted)
    names = [str(config.get("config_name", "default")) for config in configs]
    default = next((name for name, config in zip(names, configs, strict=True) if config.get("default")), None)
    name = wanted.config_name or default or (names[0] if len(names) == 1 else "default")
    if name not in names:
        raise InputError(
            f"{wanted.flags.config} {wanted.config_name}: {wanted.shown} has the configurations {', '.join(names)}."
        )
    splits = splits_of_config(files, configs[names.index(name)])
    wanted.check_split(splits)
    reader, _ = reader_of_files([path for paths in splits.values() for path in paths])
    return builder_of_files(reader, {split: reader_of_files(paths)[1] for split, paths in splits.items()})


def _builder_of_tables(files: FolderFiles, wanted: Wanted) -> DatasetBuilder:
    if not _is_hard_for_datasets(files) or not any(map(reader_name, files.tables)):
        builder = _builder_of_folder(files, wanted)
        read = {path for paths in builder.config.data_files.values() for path in paths}
    else:
        _check_no_config(wanted)
        reader, paths = reader_of_files(files.tables)
        splits = splits_of_folder(files, paths)
        builder = builder_of_files(reader, splits)
        read = {path for of_split in splits.values() for path in of_split}
    mine = [path for path in files.tables if reader_name(path) == builder.name]
    root = os.path.realpath(files.root)  # as `datasets` calls it
    unread = {
        path: "beside files that are named by a split"
        for path in mine
        if not read & {files.full(path), f"{root}/{path}"}
    }
    if unread and wanted.flags.accept is not None and not wanted.allow_unread_files:
        unread = {path: f"{reason}; --data_files names all that belong together" for path, reason in unread.items()}
    broken = {path: why for path, why in files.broken.items() if reader_name(path) == builder.name}
    wanted.check_unread(unread | broken, len(mine) + len(broken), "data files")
    return builder


def _builder_of_folder(files: FolderFiles, wanted: Wanted) -> DatasetBuilder:
    # `datasets` caches a folder whose README.md names its configs, as every clone of a Hub dataset does, under the
    # folder's name and what the README says, not under the files: a second folder of the same name would give the
    # first one's rows.
    builder = load_dataset_builder(files.root, wanted.config_name, description=files.state())
    check_builder(builder, files.root, wanted.shown)
    return builder


def _is_hard_for_datasets(files: FolderFiles) -> bool:
    return files.has_linked_folders or is_pattern(os.path.realpath(files.root)) or "::" in files.root


def _from_images(files: FolderFiles, wanted: Wanted, *, with_splits: bool = True) -> Dataset:
    _check_no_config(wanted)
    broken = {path: why for path, why in files.broken.items() if ending(path) not in TABLE_ENDINGS | {".zip"}}
    unread = broken | files.foreign_images
    total = len(files.images) + len(unread)
    if not files.images:
        wanted.check_unread(unread, total)
        raise InputError(f"{wanted.flag_and_name} holds no image that can be read.")
    if files.metadata:
        return _from_metadata(files, wanted, unread, with_splits=with_splits)
    classes, outside = read_class_folders(files.images, wanted.shown, with_splits=with_splits)
    wanted.check_split(classes)
    if not classes[wanted.split]:
        raise InputError(_no_class_folders(files, wanted))
    wanted.check_unread(unread | outside, total)
    left = [path for path in [*files.tables, *files.zips] if ending(path) not in _TEXT_TABLES]
    _tell_left_out("files beside class folders", left, wanted)
    return class_folder_dataset(files, classes, wanted.split)


def _from_metadata(files: FolderFiles, wanted: Wanted, unread: dict[str, str], *, with_splits: bool) -> Dataset:
    """Images that metadata files describe, in their split's folder or above the folders of all splits."""
    splits = (read_split_folders(files.images) if with_splits else {}) or {"train": ("",)}
    wanted.check_split(splits)
    mine = [path for path in files.images if path.startswith(splits[wanted.split])]
    of_others = tuple(folder for split, folders in splits.items() if split != wanted.split for folder in folders)
    metadata = [path for path in files.metadata if not path.startswith(of_others)]
    if not metadata:
        raise InputError(f"{wanted.shown} has no metadata file for the images of its split {wanted.split}.")
    builder = builder_of_files("imagefolder", {wanted.split: [files.full(path) for path in [*mine, *metadata]]})
    builder.download_and_prepare()
    dataset, root = builder.as_dataset(split=wanted.split), unchained_folder(files.root)
    rows = [[os.path.normpath(path).removeprefix(f"{root}/") for path in paths] for paths in _image_paths(dataset)]
    if of_others:
        kept = [row for row, paths in enumerate(rows) if not any(path.startswith(of_others) for path in paths)]
        dataset = dataset.select(kept) if len(kept) < len(rows) else dataset
    read = {path for paths in rows for path in paths}
    without_line = dict.fromkeys((path for path in mine if path not in read), f"no line in {first_names(metadata)}")
    unread = {path: reason for path, reason in unread.items() if not path.startswith(of_others)} | without_line
    wanted.check_unread(unread, len(mine) + len(unread) - len(without_line))
    return dataset


def _image_paths(dataset: Dataset) -> list[list[str]]:
    """The paths in the image columns of each row, alone or in lists."""
    rows: list[list[str]] = [[] for _ in range(len(dataset))]
    for column, feature in dataset.features.items():
        if isinstance(feature, Image):
            for row, path in zip(rows, pc.struct_field(dataset.data.column(column), "path").to_pylist(), strict=True):
                row += [path] if path else []
        elif isinstance(getattr(feature, "feature", None), Image):
            for row, images in zip(rows, dataset.data.column(column).to_pylist(), strict=True):
                row += [image["path"] for image in images or [] if image and image["path"]]
    return rows


def _check_no_config(wanted: Wanted) -> None:
    if wanted.config_name not in (None, "default"):
        raise InputError(
            f"{wanted.flag_and_name} can't be loaded: it has the configuration default alone, so no "
            f"{wanted.flags.config} {wanted.config_name}; leave it out."
        )


def _tell_left_out(what: str, paths: Sequence[str], wanted: Wanted) -> None:
    if paths:
        logger.warning("%s: %s are not read: %s.", wanted.shown, what, first_names(paths))


def _no_class_folders(files: FolderFiles, wanted: Wanted) -> str:
    flag = wanted.flags.name
    told = (
        f"{wanted.flag_and_name} holds {len(files.images):,} images ({first_names(files.images)}), but no "
        "class folders: expected a folder for each class, such as cat/1.png and dog/2.png, or beside the images a "
        "metadata.csv with a column file_name and one of labels, or of texts for --caption_column."
    )
    tables = [path for path in files.tables if ending(path) in TABLE_ENDINGS & set(READERS)]
    if tables:
        suffix = ending(tables[0]) if ending(tables[0]) in (".csv", ".jsonl", ".parquet") else ".csv"
        told += (
            f" {first_names(tables)} {are(len(tables))} not read: a file of labels would have to be called "
            f"metadata{suffix}, with a column file_name of paths relative to it; or give the file itself as "
            f"{flag}, and its column of paths as --image_column_name."
        )
    if files.zips:
        told += f" {first_names(files.zips)} {are(len(files.zips))} not read beside images: give it as {flag}."
    return told

"""Images in a folder per class: which folders are classes, which are splits, and which images are in neither.

The rules of `datasets` go by words in all names: an image called train_station_1.png makes it read that one alone, and a class
folder called train hides the others. Here the place of a folder decides. Folders next to each other are splits when their names
say so (train, val, test, train_images, ...) and they hold class folders; every other folder with images in it is a class.
"""

import hashlib
import logging
import os
import re
from collections import Counter
from dataclasses import dataclass

import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetInfo, Features, Image, NamedSplit

from ..errors import InputError
from .folder_files import FolderFiles
from .unread_files import first_names


logger = logging.getLogger(__name__)

# As in datasets.data_files.
_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT_OF_WORD = {word: split for split, words in _WORDS.items() for word in words}
_IN_FOLDER_NAME = re.compile(rf"(?:^|[-._ 0-9])({'|'.join(_SPLIT_OF_WORD)})(?:[-._ 0-9]|$)")
_IN_FILE_NAME = re.compile(rf"(?:^|[-._ 0-9])({'|'.join(_SPLIT_OF_WORD)})[-._ 0-9]")


@dataclass(frozen=True)
class ClassFolders:
    """What the places of images say.

    Args:
        splits (`dict[str, dict[str, str]]`): Split -> path of each image -> name of its class.
        outside (`dict[str, str]`): Images in no split or class, with the reason, as [`check_unread`] takes them.
    """

    splits: dict[str, dict[str, str]]
    outside: dict[str, str]


def read_class_folders(images: list[str], shown: str, *, with_splits: bool = True) -> ClassFolders:
    """Find the splits and the classes.

    Args:
        images (`list[str]`): Paths in the folder, sorted.
        shown (`str`): The folder, as a message may name it.
        with_splits (`bool`, *optional*, defaults to `True`): Folders may be splits; otherwise all images are of `train`.

    Returns:
        `ClassFolders`

    Raises:
        InputError: The places can be read in two ways.
    """
    outside: dict[str, str] = {}
    if with_splits:
        splits = _splits(images, _common_folder(images), shown, outside)
    else:
        splits = {"train": [(path, path.split("/")[:-1]) for path in images]}
    return ClassFolders({split: _classes(places, shown, outside) for split, places in splits.items()}, outside)


def class_folder_dataset(files: FolderFiles, classes: ClassFolders, split: str) -> Dataset:
    """The rows of one split, in the order of their paths; the classes are those of all splits, sorted.

    Args:
        files (`FolderFiles`): The folder.
        classes (`ClassFolders`): What it holds.
        split (`str`): One of its splits.

    Returns:
        `Dataset`: Columns `image` and `label`, with a fingerprint that changes with any of its files.
    """
    names = sorted({name for rows in classes.splits.values() for name in rows.values()})
    number = {name: index for index, name in enumerate(names)}
    rows = classes.splits[split]
    content = hashlib.sha256(f"{files.root} {names}".encode(errors="replace"))
    for path, name in rows.items():
        content.update(f"{path} {name} {files.found[path]}\n".encode(errors="replace"))
    features = Features({"image": Image(), "label": ClassLabel(names=names)})
    paths = pa.array([files.full(path) for path in rows], pa.string())
    image = pa.StructArray.from_arrays([pa.nulls(len(rows), pa.binary()), paths], names=["bytes", "path"])
    label = pa.array([number[name] for name in rows.values()], pa.int64())
    table = pa.table({"image": image, "label": label}).cast(features.arrow_schema)
    return Dataset(
        table, info=DatasetInfo(features=features), split=NamedSplit(split), fingerprint=content.hexdigest()[:16]
    )


def _common_folder(images: list[str]) -> str:
    """The innermost folder that all images lie in, with a `/`; but not a split's."""
    prefix = os.path.commonprefix([images[0], images[-1]])  # of all: they are sorted
    parts = prefix.split("/")[:-1]
    of_split = next((depth for depth, part in enumerate(parts) if _split_of(part) is not None), len(parts))
    return "".join(f"{part}/" for part in parts[:of_split])


def _splits(
    images: list[str], base: str, shown: str, outside: dict[str, str]
) -> dict[str, list[tuple[str, list[str]]]]:
    """The images of each split, with the folders that they lie in below it."""
    places = [(path, path[len(base) :].split("/")[:-1]) for path in images]
    deep = {folders[0] for _, folders in places if len(folders) > 1}
    tops = {folders[0] for _, folders in places if folders}
    named = {top for top in tops if _split_of(top) is not None}
    whole_words = {top for top in named if top.lower() in _SPLIT_OF_WORD}
    if not named & deep:
        if named and named == tops:
            raise InputError(
                f"{shown} holds its images in {first_names(sorted(named))}. These are names of splits, and splits need a folder for "
                f"each class in them. If they are the classes, name the images: --data_files '{shown}/{base}*/*'."
            )
        return _splits_by_file_names(places)
    if not whole_words and named != tops:
        return {"train": places}  # train_station/day beside beach/day
    splits: dict[str, list[tuple[str, list[str]]]] = {}
    for path, folders in places:
        split = _split_of(folders[0]) if folders else None
        if split is None:
            outside[path] = f"lie beside the splits {', '.join(sorted(named))}"
        else:
            splits.setdefault(split, []).append((path, folders[1:]))
    return {split: splits[split] for split in _WORDS if split in splits}


def _splits_by_file_names(places: list[tuple[str, list[str]]]) -> dict[str, list[tuple[str, list[str]]]]:
    """Names of files tell splits only where every one of them names one, and not all the same."""
    splits: dict[str, list[tuple[str, list[str]]]] = {}
    for path, folders in places:
        found = _IN_FILE_NAME.search(path.rpartition("/")[2])
        if found is None:
            return {"train": places}
        splits.setdefault(_SPLIT_OF_WORD[found[1]], []).append((path, folders))
    return splits if len(splits) > 1 else {"train": places}


def _split_of(folder: str) -> str | None:
    found = _IN_FOLDER_NAME.search(folder.lower())
    return found and _SPLIT_OF_WORD[found[1]]


def _classes(places: list[tuple[str, list[str]]], shown: str, outside: dict[str, str]) -> dict[str, str]:
    """The class of each image of a split: the innermost folder, at the depth that most images have."""
    while len({folders[0] if len(folders) > 1 else None for _, folders in places} - {None}) == 1 and all(
        len(folders) > 1 for _, folders in places
    ):
        places = [(path, folders[1:]) for path, folders in places]
    depths = Counter(len(folders) for _, folders in places)
    depth = max((count, depth) for depth, count in depths.items() if depth or len(depths) == 1)[1]
    if depth == 0:
        return {}
    classes, parents = {}, {}
    for path, folders in places:
        if len(folders) == depth:
            classes[path] = folders[-1]
            parents.setdefault(folders[-1], set()).add("/".join(folders[:-1]))
        else:
            where = "in a class folder's own folders" if len(folders) > depth else "beside the class folders"
            outside[path] = f"lie {where}"
    if depth > 1:
        twice = [(name, sorted(folders)) for name, folders in parents.items() if len(folders) > 1]
        if twice:
            name, folders = twice[0]
            raise InputError(
                f"{shown} holds folders in folders: {folders[0]}/{name}, {folders[1]}/{name}. Either could be the classes, "
                f"{name!r} or {folders[0]!r} and {folders[1]!r}. Put the images into one folder for each class, or give their classes in "
                "a metadata.csv with the columns file_name and label."
            )
        name, folders = next(iter(parents.items()))
        logger.warning(
            "%s holds folders in folders; the inner ones are taken for the classes, as %r in %s.",
            shown, name, next(iter(folders)),
        )  # fmt: skip
    return classes

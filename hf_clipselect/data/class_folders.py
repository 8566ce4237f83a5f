"""Images in a folder per class: which folders are classes, which are splits, and which images are in neither.

`datasets` looks for the names of splits in every path: an image called train_station_1.png makes it read that one
alone, and a class folder called train hides the others. Here the place of a folder decides. Folders side by side are
splits when their names say so (train, val, test, train_images, ...) and they hold class folders; every other folder
with images in it is a class.
"""

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetInfo, Features, Image, NamedSplit

from ..errors import InputError
from .folder_files import FolderFiles, first_names


logger = logging.getLogger(__name__)

# The words of datasets.data_files.
_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT_OF_WORD = {word: split for split, words in _WORDS.items() for word in words}
_IN_FOLDER_NAME = re.compile(rf"(?:^|[-._ 0-9])({'|'.join(_SPLIT_OF_WORD)})(?:[-._ 0-9]|$)")
_IN_FILE_NAME = re.compile(rf"(?:^|[-._ 0-9])({'|'.join(_SPLIT_OF_WORD)})[-._ 0-9]")


# Split -> path of each image in the folder -> name of its class.
SplitClasses = dict[str, dict[str, str]]


def read_class_folders(
    images: Sequence[str], shown: str, *, with_splits: bool = True
) -> tuple[SplitClasses, dict[str, str]]:
    """The splits with their classes, and path -> reason for images in no split or class.

    `images` are paths in the folder, sorted; messages call it `shown`. Without `with_splits` all images are of
    `train`. Raises `InputError` where the places can be read in two ways.
    """
    sizes = Counter(path.rpartition("/")[0] for path in images)
    places = {"train": {folder: folder.split("/") if folder else [] for folder in sizes}}
    beside: dict[str, str] = {}
    if with_splits:
        places = _splits(places["train"], _common_folder(images), shown, beside)
    class_of: dict[str, str] = {}
    split_of: dict[str, str] = {}
    for split, folders in places.items():
        class_of |= _classes(folders, sizes, shown, beside)
        split_of |= dict.fromkeys(folders, split)
    by_name = _split_of_each(images) if with_splits and list(places) == ["train"] else None
    names = places if by_name is None else sorted(set(by_name), key=list(_WORDS).index)
    splits: SplitClasses = {split: {} for split in names}
    outside: dict[str, str] = {}
    for number, path in enumerate(images):
        folder = path.rpartition("/")[0]
        if folder in class_of:
            split = split_of[folder] if by_name is None else by_name[number]
            splits[split][path] = class_of[folder]
        elif folder in beside:
            outside[path] = beside[folder]
    return splits, outside


def read_split_folders(images: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The folders (`a/b/`) of each split; none unless all images, sorted paths, lie in folders of several splits."""
    base = _common_folder(images)
    tops = {tuple(path.split("/")[:-1][: len(base) + 1]) for path in images}
    splits: dict[str, tuple[str, ...]] = {}
    for top in sorted(tops):
        split = _split_of(top[-1]) if len(top) > len(base) else None
        if split is None:
            return {}
        splits[split] = (*splits.get(split, ()), "/".join(top) + "/")
    return {split: splits[split] for split in _WORDS if split in splits} if len(splits) > 1 else {}


def class_folder_dataset(files: FolderFiles, classes: SplitClasses, split: str) -> Dataset:
    """The rows of one split, in the order of their paths, as columns `image` and `label`.

    The classes are those of all splits, sorted. The fingerprint changes with any of the files.
    """
    names = sorted({name for rows in classes.values() for name in rows.values()})
    number = {name: index for index, name in enumerate(names)}
    rows = classes[split]
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


def _common_folder(images: Sequence[str]) -> list[str]:
    """The parts of the innermost folder that all images lie in and that is not in a split's."""
    parts = os.path.commonprefix([images[0], images[-1]]).split("/")[:-1]  # of all: they are sorted
    return parts[: next((depth for depth, part in enumerate(parts) if _split_of(part) is not None), len(parts))]


def _splits(
    folders: Mapping[str, list[str]], base: list[str], shown: str, beside: dict[str, str]
) -> dict[str, dict[str, list[str]]]:
    """Split -> its folders, with the parts of their paths below the split's; the reason of others goes to `beside`."""
    folders = {folder: parts[len(base) :] for folder, parts in folders.items()}
    tops = {parts[0] for parts in folders.values() if parts}
    deep = {parts[0] for parts in folders.values() if len(parts) > 1}
    named = {top for top in tops if _split_of(top) is not None}
    if not named & deep:
        if named and named == tops:
            raise InputError(
                f"{shown} holds its images in {first_names(sorted(named))}. These are names of splits, and splits "
                "need a folder for each class in them. If they are the classes, name the images: --data_files "
                f"'{'/'.join([shown, *base])}/*/*'."
            )
        return {"train": folders}
    if named != tops and not any(top.lower() in _SPLIT_OF_WORD for top in named):
        return {"train": folders}  # train_station/day beside beach/day
    splits: dict[str, dict[str, list[str]]] = {}
    for folder, parts in folders.items():
        split = _split_of(parts[0]) if parts else None
        if split is None:
            beside[folder] = f"beside the splits {', '.join(sorted(named))}"
        else:
            splits.setdefault(split, {})[folder] = parts[1:]
    return {split: splits[split] for split in _WORDS if split in splits}


def _split_of_each(images: Sequence[str]) -> list[str] | None:
    """The split that each file's name tells; `None` unless every name tells one, and not all the same."""
    splits = []
    for path in images:
        found = _IN_FILE_NAME.search(path.rpartition("/")[2])
        if found is None:
            return None
        splits.append(_SPLIT_OF_WORD[found[1]])
    return splits if len(set(splits)) > 1 else None


def _split_of(folder: str) -> str | None:
    found = _IN_FOLDER_NAME.search(folder.lower())
    return found and _SPLIT_OF_WORD[found[1]]


def _classes(
    folders: Mapping[str, list[str]], sizes: Mapping[str, int], shown: str, beside: dict[str, str]
) -> dict[str, str]:
    """The class of each folder of a split: its name, at the depth of most images; other folders go to `beside`."""
    while all(len(parts) > 1 for parts in folders.values()) and len({parts[0] for parts in folders.values()}) == 1:
        folders = {folder: parts[1:] for folder, parts in folders.items()}
    depths: Counter[int] = Counter()
    for folder, parts in folders.items():
        depths[len(parts)] += sizes[folder]
    depth = max((count, depth) for depth, count in depths.items() if depth or len(depths) == 1)[1]
    if depth == 0:
        return {}
    classes: dict[str, str] = {}
    parents: dict[str, list[str]] = {}
    for folder, parts in folders.items():
        if len(parts) == depth:
            classes[folder] = parts[-1]
            parents.setdefault(parts[-1], []).append("/".join(parts[:-1]))
        else:
            beside[folder] = "in a folder inside a class folder" if len(parts) > depth else "beside the class folders"
    if depth > 1:
        _check_inner_folders(parents, shown)
    return classes


def _check_inner_folders(parents: Mapping[str, list[str]], shown: str) -> None:
    """Refuse folders in folders whose inner names occur twice, and warn that the inner ones are the classes."""
    for name, outer in parents.items():
        if len(outer) > 1:
            raise InputError(
                f"{shown} holds folders in folders: {outer[0]}/{name}, {outer[1]}/{name}. Either could be the "
                f"classes, {name!r} or {outer[0]!r} and {outer[1]!r}. Put the images into one folder for each class, "
                "or give their classes in a metadata.csv with the columns file_name and label."
            )
    name, outer = next(iter(parents.items()))
    logger.warning(
        "%s holds folders in folders; the inner ones are taken for the classes, as %r in %s.", shown, name, outer[0]
    )

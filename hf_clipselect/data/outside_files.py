"""Which files the rows of a dataset may name: those of its own folder, as somebody else may have written the rows."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, config
from datasets.features.features import require_storage_embed
from huggingface_hub import constants

from ..errors import InputError
from ..runtime.hub_ids import COMMIT
from .image_values import lone_paths, rows_stored_at, with_images
from .source import DatasetSource


_WAY_OUT = " If you trust whoever wrote the dataset, pass --allow_outside_files."


def check_files_stay_inside(
    dataset: Dataset,
    name: str = "",
    folder: str | None = None,
    *,
    caches: Sequence[str] = (),
    way_out: str = _WAY_OUT,
) -> None:
    """Raise `InputError` for the first row that names a file outside of the dataset's own folder.

    All columns whose files a subset would publish are checked, and no file is read. A link in the folder may lead
    anywhere, since the owner of the folder made it. The caches of `datasets` and of the Hub belong to every dataset.
    `name` is the Hub id, folder or file that the dataset was loaded from; `folder` the local folder or fsspec URL that
    its paths are relative to. A dataset that was made in memory has neither and may name any file, but for one whose
    rows were taken from the Hub, as `caches` of it tell, or the dataset itself. `way_out` ends the sentence, for who
    can allow such files.
    """
    caches = [*caches, *caches_of_hub_data(dataset)]
    if not name and folder is None and not caches:
        return
    inside = _own_places(name, folder, caches)
    for column, feature in dataset.features.items():
        if not require_storage_embed(feature):
            continue
        found = _outside(dataset.data.column(column), feature, inside)
        rows = rows_stored_at(dataset, np.array(list(found), dtype=np.int64))
        if rows:
            row, stored = rows[0]
            raise InputError(
                f"source_index {row} of the dataset{f' {name}' if name else ''} names the file {found[stored]!r} in "
                f"column {column!r}, which lies outside of the dataset's own folder and would go into the "
                f"subset.{way_out}"
            )


def with_own_images(
    dataset: Dataset,
    image_column: str,
    source: DatasetSource,
    *,
    storage_options: Mapping[str, Any] | None = None,
    allow_outside_files: bool = False,
    caches: Sequence[str] = (),
) -> Dataset:
    """[`with_images`] with relative paths that start from the folder of the source, and with `storage_options` for
    fsspec if that is a URL; then [`check_files_stay_inside`] unless all files are allowed. Raises what these do.
    """
    folder = source.paths_relative_to or _folder_of(source.name)
    dataset = with_images(dataset, image_column, folder, storage_options=storage_options)
    if not allow_outside_files:
        check_files_stay_inside(dataset, source.name, folder, caches=caches)
    return dataset


def caches_of_hub_data(dataset: Dataset) -> list[str]:
    """The caches that hold rows from the Hub: <cache>/<repository>/<config>/<version>/<commit>/<file>."""
    files = [Path(file["filename"]) for file in dataset.cache_files]
    return [str(file.parents[4]) for file in files if len(file.parents) > 5 and COMMIT.fullmatch(file.parent.name)]


def _folder_of(name: str) -> str | None:
    """The local folder that a dataset of this name lies in; None for one of the Hub, or in memory."""
    if not name or not os.path.exists(name):
        return None
    return os.path.abspath(name if os.path.isdir(name) else os.path.dirname(name))


def _own_places(name: str, folder: str | None, caches: list[str]) -> tuple[str, ...]:
    """What the paths of the dataset's own files begin with."""
    # Names in caches are hashes and commits, which only someone who was given the files can know.
    caches = [*caches, config.HF_DATASETS_CACHE, config.DOWNLOADED_DATASETS_PATH, config.EXTRACTED_DATASETS_PATH]
    places = [f"{constants.HF_HUB_CACHE}/datasets--", *(f"{cache}/" for cache in caches)]
    if folder is not None and "://" in folder:
        places.append(folder.rstrip("/") + "/")
    else:
        places += [f"{place.rstrip('/')}/" for place in (folder, _folder_of(name)) if place is not None]
    places = [os.path.expanduser(place) for place in places]
    # datasets resolves links to the folder itself in some cases.
    resolved = [
        f"{os.path.realpath(os.path.dirname(place))}/{os.path.basename(place)}" for place in places if place[0] == "/"
    ]
    return tuple(places + resolved)


def _outside(values: pa.ChunkedArray, feature: Any, inside: tuple[str, ...]) -> dict[int, str]:
    """Stored row -> the first path of it that leads out."""
    found: dict[int, str] = {}
    start = 0
    for chunk in values.chunks:
        for paths, rows in _lone_paths_below(feature, chunk, np.arange(start, start + len(chunk))):
            climbs = pc.match_substring_regex(paths, r"(^|/)\.\.(/|$)")
            begins = reduce(pc.or_, (pc.starts_with(paths, place) for place in inside))
            is_suspect = pc.fill_null(pc.or_(climbs, pc.invert(begins)), False)
            for place in pc.indices_nonzero(is_suspect).to_pylist():
                path = paths[place].as_py()
                if "://" in path or not (os.path.abspath(path) + "/").startswith(inside):
                    found.setdefault(int(rows[place]), path)
        start += len(chunk)
    return found


def _lone_paths_below(feature: Any, values: pa.Array, rows: np.ndarray) -> Iterator[tuple[pa.Array, np.ndarray]]:
    """The paths that values without bytes have, wherever they are nested, and the row of each."""
    if hasattr(feature, "embed_storage"):
        yield lone_paths(values), rows
    elif isinstance(feature, dict):
        for name, inner in feature.items():
            if require_storage_embed(inner):
                yield from _lone_paths_below(inner, pc.struct_field(values, name), rows)
    else:
        inner = feature[0] if isinstance(feature, (list, tuple)) else feature.feature
        parents = pc.list_parent_indices(values).to_numpy()
        yield from _lone_paths_below(inner, pc.list_flatten(values), rows[parents])

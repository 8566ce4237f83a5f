"""Image columns of paths, bytes or both, brought into the form of `datasets.Image`: `{"bytes", "path"}`."""

import hashlib
import posixpath
import re
from collections.abc import Mapping
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Image, Value

from ..errors import InputError
from ..runtime.redaction import hide_secrets
from .places import path_of_file_url


_URL = r"^[A-Za-z][A-Za-z0-9+.-]*://"
_BYTES = re.compile("(large_)?binary(_view)?")
_PATHS = re.compile("(large_)?string(_view)?")
# In bytes; neither Linux nor macOS opens a longer one.
_LONGEST_PATH = 4095


def is_image(feature: Any) -> bool:
    """Whether a column holds images even if nobody names it: as `Image`, or as the structures of other programs."""
    return isinstance(feature, Image) or (isinstance(feature, dict) and len(feature) == 2 and _is_structure(feature))


def can_become_images(feature: Any) -> bool:
    """Whether a column that is named as the image column may hold images: paths, bytes, or structures of these."""
    if isinstance(feature, Value):
        return bool(_BYTES.fullmatch(feature.dtype) or _PATHS.fullmatch(feature.dtype))
    return isinstance(feature, Image) or (isinstance(feature, dict) and _is_structure(feature))


def with_images(
    dataset: Dataset, column: str, folder: str | None = None, *, storage_options: Mapping[str, Any] | None = None
) -> Dataset:
    """Make a column one of images, each with its bytes or with the path of a file.

    The type of the column becomes `Image()`, in the subset too; one that is `Image` already keeps its mode. Nothing is
    decoded, and bytes stay as they are. Relative paths start from `folder`, the local folder of the file that names
    them; if it is an fsspec URL, the files are fetched. A column that is missing or can't hold images is left alone.
    Raises `InputError` for an image that is given by a URL of the web or by a text that can be no path, or a file that
    can't be fetched.
    """
    feature = dataset.features.get(column)
    if not can_become_images(feature):
        return dataset
    if not isinstance(feature, Image):
        if isinstance(feature, Value) and _PATHS.fullmatch(feature.dtype):
            _check_for_long_texts(dataset, column)
        if isinstance(feature, Value) and feature.dtype.endswith("_view"):
            dataset = dataset.cast_column(column, Value(feature.dtype.removesuffix("_view")))
        dataset = dataset.cast_column(column, Image())
    paths = lone_paths(dataset.data.column(column))
    url = folder if folder is not None and "://" in folder else None
    _check_for_urls(dataset, paths, column, url or "file:/")
    if url is not None and pc.any(pc.is_valid(paths)).as_py():
        return _with_fetched_images(dataset, column, url, storage_options or {})
    if pc.any(pc.starts_with(paths, "file:/")).as_py() or (folder and pc.any(_is_relative(paths)).as_py()):
        return _mapped(dataset, column, _as_local, folder=folder)
    return dataset


def lone_paths(images: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """The path of each image that has no bytes; null for one that has. Reads no bytes."""
    has_bytes = pc.is_valid(pc.struct_field(images, "bytes"))
    paths = pc.struct_field(images, "path")
    return pc.if_else(has_bytes, pa.scalar(None, paths.type), paths)


def stored_rows(dataset: Dataset) -> np.ndarray:
    """The place of each row in the table that a dataset is stored in, which may hold more rows, in another order."""
    return np.arange(len(dataset)) if dataset._indices is None else dataset._indices.column(0).to_numpy()


def rows_stored_at(dataset: Dataset, stored: np.ndarray) -> list[tuple[int, int]]:
    """The rows, in order, that are stored in these places, each with its place."""
    if len(stored) == 0:
        return []
    places = stored_rows(dataset)
    rows = np.flatnonzero(np.isin(places, stored))
    return list(zip(rows.tolist(), places[rows].tolist(), strict=True))


def _is_structure(feature: dict) -> bool:
    kinds = {"bytes": _BYTES, "path": _PATHS}
    found = [
        name in kinds and isinstance(value, Value) and (value.dtype == "null" or kinds[name].fullmatch(value.dtype))
        for name, value in feature.items()
    ]
    return bool(found) and all(found) and any(value.dtype != "null" for value in feature.values())


def _is_relative(paths: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(pc.invert(pc.match_substring_regex(paths, f"^/|{_URL}")), False)


def _check_for_urls(dataset: Dataset, paths: pa.ChunkedArray, column: str, folder: str) -> None:
    is_url = pc.match_substring_regex(paths, _URL)
    elsewhere = pc.and_(is_url, pc.invert(pc.starts_with(paths, folder.rstrip("/") + "/")))
    rows = rows_stored_at(dataset, pc.indices_nonzero(pc.fill_null(elsewhere, False)).to_numpy())
    if rows:
        row, stored = rows[0]
        raise InputError(
            f"{len(rows)} rows of --image_column_name {column} hold a URL (first: "
            f"{hide_secrets(paths[stored].as_py())} at source_index {row}), and images are not downloaded. Download "
            "them first, for example with img2dataset, or use a column of bytes or of paths of local files."
        )


def _check_for_long_texts(dataset: Dataset, column: str) -> None:
    long = pc.greater(pc.binary_length(dataset.data.column(column).cast(pa.large_string())), _LONGEST_PATH)
    rows = rows_stored_at(dataset, pc.indices_nonzero(pc.fill_null(long, False)).to_numpy())
    if rows:
        raise InputError(
            f"{len(rows)} rows of --image_column_name {column} hold a text that is too long for a path (first: "
            f"source_index {rows[0][0]}). Images that are written as base64 must be decoded first, for example with "
            "dataset.map and base64.b64decode."
        )


def _with_fetched_images(dataset: Dataset, column: str, folder: str, storage_options: Mapping[str, Any]) -> Dataset:
    # The cache of an earlier call is not used: the files may be others now.
    dataset = _mapped(dataset, column, _fetched, cached=False, folder=folder, storage_options=dict(storage_options))
    content = hashlib.sha256(dataset._fingerprint.encode())
    for chunk in pc.struct_field(dataset.data.column(column), "bytes").chunks:
        for image in chunk:
            content.update(image.as_buffer() or b"")
    # The features of these images must not be taken for those of others.
    dataset._fingerprint = content.hexdigest()[:16]
    return dataset


def _mapped(dataset: Dataset, column: str, change: Any, *, cached: bool = True, **settings: Any) -> Dataset:
    """The dataset with one column changed; the others are copied, which costs little where images are paths."""
    rows, settings = dataset.with_format("arrow"), {**settings, "column": column}
    rows = rows.map(change, batched=True, fn_kwargs=settings, load_from_cache_file=cached, desc="Finding images")
    return rows.with_format(None)


def _as_local(batch: pa.Table, *, column: str, folder: str | None) -> pa.Table:
    """Strip `file:` from the paths, and join relative ones to the folder."""
    images = batch.column(column)
    paths, alone = pc.struct_field(images, "path"), lone_paths(images)
    found = alone
    if pc.any(pc.starts_with(alone, "file:/")).as_py():
        found = pa.chunked_array([[path and path_of_file_url(path) for path in alone.to_pylist()]], alone.type)
    if folder is not None:
        joined = pc.binary_join_element_wise(folder.rstrip("/"), found, "/")
        found = pc.if_else(_is_relative(found), joined, found)
    return _with_column(batch, column, pc.struct_field(images, "bytes"), pc.coalesce(found, paths))


def _fetched(batch: pa.Table, *, column: str, folder: str, storage_options: Mapping[str, Any]) -> pa.Table:
    """Fetch the files that paths below a URL name, in parallel; other values stay as they are."""
    images, folder = batch.column(column), folder.rstrip("/") + "/"
    system, root = fsspec.url_to_fs(folder, **storage_options)
    data, names = pc.struct_field(images, "bytes").to_pylist(), pc.struct_field(images, "path").to_pylist()
    places = {}
    for row, path in enumerate(lone_paths(images).to_pylist()):
        below = posixpath.normpath((path or "..").removeprefix(folder))
        # A path that leads out of the folder is left for `check_files_stay_inside` to refuse.
        if not below.startswith(("/", "..")):
            places[row], names[row] = f"{root.rstrip('/')}/{below}", folder + below
    found = system.cat(sorted(set(places.values())), on_error="return") if places else {}
    found = found if isinstance(found, dict) else dict.fromkeys(places.values(), found)  # of one file, its bytes alone
    for row, place in places.items():
        content = found.get(place, found.get(system._strip_protocol(place)))
        if isinstance(content, bytes):
            data[row] = content
        elif not isinstance(content, FileNotFoundError):  # a missing file is an unreadable image, as it is locally
            raise InputError(
                f"{names[row]}, an image of --image_column_name {column}, can't be fetched: {type(content).__name__}."
            )
    return _with_column(batch, column, pa.array(data, pa.binary()), pa.array(names, pa.string()))


def _with_column(
    batch: pa.Table, column: str, data: pa.ChunkedArray | pa.Array, paths: pa.ChunkedArray | pa.Array
) -> pa.Table:
    is_null, data, paths = (
        pa.concat_arrays(part.chunks) if isinstance(part, pa.ChunkedArray) else part
        for part in (batch.column(column).is_null(), data, paths)
    )
    values = pa.StructArray.from_arrays([data, paths], ["bytes", "path"], mask=is_null)
    place = batch.column_names.index(column)
    return batch.set_column(place, batch.schema.field(place), values)

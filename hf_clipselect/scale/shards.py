"""Shards of images with texts, read into memory: WebDataset's tar files, and Parquet.

Legend: n rows of a shard.
"""

import hashlib
import json
import logging
import os
import re
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import PurePosixPath
from typing import IO, Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datatrove.io import DataFolder

from ..errors import InputError
from ..runtime.failures import is_of_the_machine
from ..runtime.words import in_one_line, listed
from .scale_reference import ShardColumns
from .score_files import Shard


logger = logging.getLogger(__name__)

ENDINGS = (".tar", ".parquet")
_LIKE_SHARDS = re.compile(r"\.(tar|tgz|parquet)(\.(gz|bz2|xz|zst|lz4))?$", re.IGNORECASE)
# What fsspec's storages call the version of a file: S3, Google and Azure, the Hub, disks and other ones.
_VERSIONS = ("ETag", "etag", "blob_id", "mtime")
_IMAGES = {"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"}
_UID_BYTES = 16
_ZEROS_AT_ONCE = 2**20
# Pauses between the attempts to read a shard, in seconds.
_PAUSES = (0.5, 2.0)
_ROWS_AT_ONCE = 1024
_NO_END = "it ends without the zeros that end a tar, so a part of it is missing."


@dataclass
class ShardRows:
    """The rows of a shard, in its order, each list of length `n`.

    `images` are encoded images, None where a row has none; `texts` captions or labels as they stand there, of tars as
    bytes or as values of JSON, None where a row has none; `uids` 16 bytes each.
    """

    images: list[bytes | None] = field(default_factory=list)
    texts: list[Any] = field(default_factory=list)
    uids: list[bytes] = field(default_factory=list)


class UnreadableShardError(InputError):
    """A shard that could not be read in several attempts; the message is the reason of the last one."""


def list_shards(data: DataFolder, work: DataFolder) -> list[Shard]:
    """All shards under a data folder, by name; hidden files and those in hidden folders are none. Links are followed.

    A tar wins over a Parquet file of its name, in which img2dataset and DataComp keep the rows' metadata. That, and
    files whose names look like shards but are not read, are told in the log. Raises `InputError` where there are no
    shards, or the working folder lies in the data folder, where score files would be taken for shards.
    """
    if f"{_real_path(work)}/".startswith(f"{_real_path(data)}/"):
        raise InputError(f"--work_dir {work.path} lies in --data_dir {data.path}; choose a folder outside of it.")
    if not data.isdir(""):
        raise InputError(f"--data_dir {data.path} is not there; give a folder of .tar or .parquet files.")
    found = {
        path: shard_of(path, info)
        for path, info in sorted(_files_of(data))
        if not any(part.startswith(".") for part in PurePosixPath(path).parts)
    }
    by_scores: dict[str, Shard] = {}
    # A tar comes behind a Parquet file of its name, and takes its place.
    for path, shard in found.items():
        if path.endswith(ENDINGS):
            by_scores[shard.scores_path] = shard
    shards = sorted(by_scores.values(), key=lambda shard: shard.path)
    taken = {shard.path for shard in shards}
    beside = [path for path in found if path.endswith(ENDINGS) and path not in taken]
    unread = [path for path in found if _LIKE_SHARDS.search(path) and not path.endswith(ENDINGS)]
    if not shards:
        hint = f"; {listed(unread, limit=3)} would have to end in one of these" if unread else ""
        raise InputError(f"--data_dir {data.path} holds no shards; give a folder of .tar or .parquet files{hint}.")
    if beside:
        logger.info("Not read, since beside each lies a .tar of its name: %s", listed(beside, limit=3))
    if unread:
        logger.warning("Not read, since shards end in .tar or .parquet: %s", listed(unread, limit=3))
    return shards


def _files_of(data: DataFolder) -> Iterator[tuple[str, dict[str, Any]]]:
    """All files with what the storage tells of them, on this machine also those of linked folders that lie outside."""
    folders, seen = [""], [_real_path(data)]
    for folder in folders:
        for path, info in data.find(folder, detail=True).items():
            if not (info.get("islink") and data.isdir(path)):
                yield path, info
                continue
            real = _real_path(data, path)
            if not any(f"{real}/".startswith(f"{other}/") for other in seen):
                folders.append(path)
                seen.append(real)


def _real_path(folder: DataFolder, path: str = "") -> str:
    """The path of a folder or of one below it; links on this machine are followed."""
    whole = folder.resolve_paths(path).rstrip("/")
    return os.path.realpath(whole) if folder.is_local() else whole


def shard_of(path: str, info: dict[str, Any]) -> Shard:
    """A shard by what its storage tells of the file: its version is a hash, or else when it was written."""
    version = next((f"{name} {info[name]}" for name in _VERSIONS if info.get(name)), "")
    return Shard(path, int(info["size"]), version)


def read_shard(data: DataFolder, shard: Shard, columns: ShardColumns, *, has_captions: bool) -> ShardRows:
    """Read a shard into memory, in up to three attempts.

    Raises `UnreadableShardError` where none succeeds; failures of this machine, such as a lack of memory, pass.
    """
    for pause in (*_PAUSES, None):
        try:
            with data.open(shard.path) as file:
                if shard.path.endswith(".tar"):
                    return _read_tar(file, shard, has_captions=has_captions)
                return _read_parquet(file, shard, columns)
        except InputError as error:  # another attempt would find the same
            raise UnreadableShardError(str(error)) from error
        except Exception as error:  # of a storage's client, and of damaged files, which raise anything
            if is_of_the_machine(error):
                raise
            if pause is None:
                raise UnreadableShardError(in_one_line(error, 400) or type(error).__name__) from error
            time.sleep(pause)
    raise AssertionError("unreachable")


def fallback_uid(shard: Shard, row_key: str) -> bytes:
    """The uid of a row that comes without one: by the path of its shard in the data folder, and its key there."""
    return hashlib.sha256(f"{shard.path}:{row_key}".encode()).digest()[:_UID_BYTES]


def numbered_members(archive: tarfile.TarFile) -> Iterator[tuple[int, str, str, tarfile.TarInfo]]:
    """The files of a tar, each with the number of its row, from 0, the row's name, and the ending in small letters.

    Neighbours with the same name before the first dot of the file's name are one row, as in WebDataset; hidden files
    are of none. The archive has been opened for reading once, with `r|*`, and nothing of it was read.

    Raises `InputError` for damage that `tarfile` takes for the end of the archive: a header that is no header, an end
    without the zeros that end a tar, and anything but zeros behind these; and where a row has two files of one ending,
    since these are two samples of one name.
    """
    archive.tarinfo = _CheckedHeader
    row, name = -1, None
    endings: set[str] = set()
    for member in archive:
        path = PurePosixPath(member.name)
        if not member.isfile() or path.name.startswith("."):
            continue
        stem, _, ending = path.name.partition(".")
        own = str(path.with_name(stem))
        if own != name:
            row, name, endings = row + 1, own, set()
        if ending.lower() in endings:
            raise InputError(
                f"it holds {in_one_line(member.name, 200)} in one row twice; give each sample a name of its own."
            )
        endings.add(ending.lower())
        yield row, own, ending.lower(), member
    _check_end_of_tar(archive)


class _CheckedHeader(tarfile.TarInfo):
    """A header whose damage is an error behind other files too, where `tarfile` ends the archive without a word."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_CheckedHeader":
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            raise InputError(_NO_END) from None
        except tarfile.HeaderError as error:
            raise InputError(
                f"it is damaged: the header at byte {archive.offset} of the tar is no header, {error}."
            ) from None


def _check_end_of_tar(archive: tarfile.TarFile) -> None:
    """Of the two blocks of zeros that end a tar, the first one has been read."""
    length = 0
    while zeros := archive.fileobj.read(_ZEROS_AT_ONCE):
        if zeros.count(0) < len(zeros):
            raise InputError("it holds more behind the zeros that end a tar; is it several tars, or damaged there?")
        length += len(zeros)
    if length < tarfile.BLOCKSIZE:
        raise InputError(_NO_END)


def _read_tar(file: IO[bytes], shard: Shard, *, has_captions: bool) -> ShardRows:
    rows = ShardRows()
    with tarfile.open(fileobj=file, mode="r|*") as archive:
        for (_, name), members in groupby(numbered_members(archive), key=lambda numbered: numbered[:2]):
            parts: dict[str, bytes] = {}
            for *_, ending, member in members:
                content = archive.extractfile(member)
                parts[ending] = b"" if content is None else content.read()
            _add_sample(rows, shard, name, parts, has_captions=has_captions)
    return rows


def _add_sample(rows: ShardRows, shard: Shard, name: str, parts: dict[str, bytes], *, has_captions: bool) -> None:
    told, is_told = _facts_of(parts.get("json", b"{}"))
    text = parts.get("txt" if has_captions else "cls")
    given = told.get("caption" if has_captions else "label") if text is None else text
    if not is_told:  # a uid that can't be read may have been in it
        given = None
    rows.images.append(next((content for ending, content in parts.items() if ending in _IMAGES), None))
    rows.texts.append(given)
    rows.uids.append(_uid_of(told.get("uid"), shard, name))


def _facts_of(content: bytes) -> tuple[dict[str, Any], bool]:
    """What the JSON of a sample tells, nothing where it is no object, as of boxes; and whether it can be read."""
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):  # also of bytes that are no UTF-8
        return {}, False
    return (told if isinstance(told, dict) else {}), True


def text_of(content: bytes) -> str | None:
    """A text in UTF-8; None where the bytes are none."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def is_unicode(text: str) -> bool:
    """Whether UTF-8 has all signs of a text; a tokenizer takes no other ones."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_parquet(file: IO[bytes], shard: Shard, columns: ShardColumns) -> ShardRows:
    rows, parquet = ShardRows(), pq.ParquetFile(file)
    wanted = [name for name in (columns.image, columns.text, columns.uid) if name is not None]
    if absent := [name for name in wanted if name not in parquet.schema_arrow.names]:
        raise InputError(
            f"it has no column {listed(absent)}; its columns are {listed(parquet.schema_arrow.names, limit=20)}. Name "
            "the columns when you run prepare."
        )
    for batch in parquet.iter_batches(_ROWS_AT_ONCE, columns=wanted):
        start = len(rows.uids)
        rows.images.extend(_image_bytes(batch.column(columns.image)))
        rows.texts.extend(batch.column(columns.text).to_pylist())
        given = [None] * len(batch) if columns.uid is None else batch.column(columns.uid).to_pylist()
        rows.uids.extend(_uid_of(uid, shard, str(start + place)) for place, uid in enumerate(given))
    return rows


def _image_bytes(column: pa.Array) -> list[bytes | None]:
    """The bytes of encoded images, of a column of them or of structures as `datasets` writes them."""
    if pa.types.is_struct(column.type):
        names = [field.name for field in column.type]
        if "bytes" not in names:
            raise InputError(f"its image column holds structures of {listed(names)}, and no bytes of images.")
        column = pc.struct_field(column, "bytes")
    if pa.types.is_null(column.type):
        raise InputError("its image column holds no bytes of images, but their places at most.")
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    if not any(is_kind(column.type) for is_kind in kinds):
        raise InputError(f"its image column is of type {column.type}, and not of the bytes of images.")
    return column.to_pylist()


def _uid_of(given: Any, shard: Shard, row_key: str) -> bytes:
    """A uid of 16 bytes or of 32 hexadecimal digits, as DataComp has them, also with dashes; one of its own where
    there is none.
    """
    if given is None:
        return fallback_uid(shard, row_key)
    uid = given
    if isinstance(given, (str, UUID)):
        try:
            uid = bytes.fromhex(str(given).replace("-", ""))
        except ValueError:
            uid = b""
    if not isinstance(uid, bytes) or len(uid) != _UID_BYTES:
        raise InputError(
            f"the uid {in_one_line(given, 80)!r} of row {row_key}, of type {type(given).__name__}, is not of 128 "
            "bits; expected are 16 bytes, or a text of 32 hexadecimal digits with or without dashes."
        )
    return uid

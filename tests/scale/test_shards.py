"""Reading of shards: rows in their order with images, texts and uids, and why one can't be read."""

import bz2
import gzip
import hashlib
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.io import DataFolder, get_datafolder
from fsspec.implementations.local import LocalFileSystem
from sharded import write_tar

from hf_clipselect.errors import InputError
from hf_clipselect.scale.scale_reference import ShardColumns
from hf_clipselect.scale.score_files import Shard
from hf_clipselect.scale.shards import (
    ShardRows,
    UnreadableShardError,
    list_shards,
    numbered_members,
    read_shard,
    text_of,
)


COLUMNS = ShardColumns("image", "text", "uid")


def read(path: Path, *, columns: ShardColumns = COLUMNS, has_captions: bool = True) -> ShardRows:
    data = get_datafolder(str(path.parent))
    return read_shard(data, Shard(path.name, path.stat().st_size), columns, has_captions=has_captions)


def own_uid(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


def test_members_of_a_tar_are_grouped_by_their_names(tmp_path: Path) -> None:
    uid = "0123456789abcdef0123456789abcdef"
    shard = write_tar(
        tmp_path / "a.tar",
        [
            ("x/1.jpg", b"one"),
            ("x/1.txt", b"ein Wort"),
            ("x/1.json", f'{{"uid": "{uid}", "caption": "not this"}}'.encode()),
            ("y/1.json", b'{"caption": "from json"}'),
            ("y/1.PNG", b"two"),
            ("y/._hidden.png", b"no row"),
            ("z/3.json", b"{}"),
            ("z/4.mask.png", b"no image"),
            ("z/4.webp", b"three"),
        ],
    )
    rows = read(shard)
    assert rows.images == [b"one", b"two", None, b"three"]
    assert rows.texts == [b"ein Wort", "from json", None, None]
    assert rows.uids == [bytes.fromhex(uid), own_uid("a.tar:y/1"), own_uid("a.tar:z/3"), own_uid("a.tar:z/4")]


def test_labels_of_a_tar(tmp_path: Path) -> None:
    shard = write_tar(
        tmp_path / "a.tar", [("1.png", b"i"), ("1.cls", b"7"), ("2.png", b"i"), ("2.json", b'{"label": "cat"}')]
    )
    assert read(shard, has_captions=False).texts == [b"7", "cat"]


def test_a_tar_that_was_cut_between_two_files_is_not_read(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "a.tar", [("1.png", b"i"), ("1.txt", b"one"), ("2.png", b"i"), ("2.txt", b"two")])
    shard.write_bytes(shard.read_bytes()[: 4 * tarfile.BLOCKSIZE])  # a header and a block for each of two files
    with pytest.raises(UnreadableShardError, match="a part of it is missing"):
        read(shard)


def compressed(content: bytes, kind: str) -> bytes:
    return {"plain": bytes, "gz": gzip.compress, "bz2": bz2.compress}[kind](content)


@pytest.mark.parametrize("kind", ["plain", "gz", "bz2"])
def test_damage_to_a_tar_loses_no_row_without_a_word(tmp_path: Path, kind: str) -> None:
    """A bit of any header, a cut anywhere, and two tars in one."""
    whole = write_tar(tmp_path / "a.tar", [("1.png", b"i"), ("2.png", b"i"), ("3.png", b"i")]).read_bytes()
    rows = read(tmp_path / "a.tar")
    damaged = [whole + whole]
    for header in range(0, 6 * tarfile.BLOCKSIZE, 2 * tarfile.BLOCKSIZE):
        damaged.append(whole[: header + 100] + bytes([whole[header + 100] ^ 1]) + whole[header + 101 :])
    damaged += [whole[:length] for length in range(300, 7 * tarfile.BLOCKSIZE, 450)]
    for number, content in enumerate(damaged):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(compressed(content, kind))
        with pytest.raises(InputError):
            read_once(path)
    (tmp_path / "a.tar").write_bytes(compressed(whole, kind))
    assert read(tmp_path / "a.tar") == rows


def read_once(path: Path) -> list:
    """The numbers of the rows, read without another attempt, for which there would be pauses."""
    try:
        with tarfile.open(path, "r|*") as archive:
            return [row for row, *_ in numbered_members(archive)]
    except tarfile.ReadError as error:  # what `tarfile` itself finds
        raise InputError(str(error)) from error


def test_a_compressed_tar_is_read(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "a.tar", [("1.png", b"i"), ("1.txt", b"one")])
    shard.write_bytes(gzip.compress(shard.read_bytes()))
    assert read(shard).texts == [b"one"]


def test_an_empty_tar_has_no_rows(tmp_path: Path) -> None:
    assert read(write_tar(tmp_path / "a.tar", [])) == ShardRows()


def test_one_odd_sample_costs_no_other(tmp_path: Path) -> None:
    """JSON that is torn is a row without text, since its uid is not known; JSON of another kind tells nothing."""
    uid = "01234567-89ab-cdef-0123-456789abcdef"
    shard = write_tar(
        tmp_path / "a.tar",
        [
            ("1.txt", b"one"),
            ("1.json", f'{{"uid": "{uid}"}}'.encode()),
            ("2.txt", b"two"),
            ("2.json", b'{"uid": "0123'),
            ("3.txt", b"three"),
            ("3.json", b'[{"box": 1}]'),
            ("4.txt", "fünf".encode("latin-1")),
        ],
    )
    rows = read(shard)
    assert rows.texts == [b"one", None, b"three", "fünf".encode("latin-1")] and text_of(rows.texts[3]) is None
    assert rows.uids == [bytes.fromhex(uid.replace("-", "")), *(own_uid(f"a.tar:{name}") for name in "234")]


@pytest.mark.parametrize("kind", ["struct", "binary", "large_binary", "binary_view"])
def test_rows_of_parquet(tmp_path: Path, kind: str) -> None:
    images = [b"one", None, b"three"]
    column = (
        pa.array([image and {"bytes": image, "path": None} for image in images])
        if kind == "struct"
        else pa.array(images, kind)
    )
    uids = pa.array([bytes(range(16)), b"\xff" * 16, None], pa.binary(16))
    pq.write_table(pa.table({"image": column, "text": ["a", "b", None], "uid": uids}), tmp_path / "a.parquet")
    rows = read(tmp_path / "a.parquet")
    assert rows.images == images and rows.texts == ["a", "b", None]
    assert rows.uids == [bytes(range(16)), b"\xff" * 16, own_uid("a.parquet:2")]
    assert read(tmp_path / "a.parquet", columns=ShardColumns("image", "text")).uids[0] == own_uid("a.parquet:0")


def test_what_is_wrong_with_a_shard(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole.tar", [("1.png", b"i" * 5000), ("1.txt", b"t")]).read_bytes()
    (tmp_path / "torn.tar").write_bytes(whole[:3000])
    with pytest.raises(UnreadableShardError, match="unexpected end of data"):
        read(tmp_path / "torn.tar")
    for uid in ('"abcd"', "17", '"%s"' % ("x" * 32), "[]"):
        path = write_tar(tmp_path / "uid.tar", [("1.png", b"i"), ("1.json", f'{{"uid": {uid}}}'.encode())])
        with pytest.raises(UnreadableShardError, match="of row 1, of type .* with or without dashes"):
            read(path)
    pq.write_table(pa.table({"text": ["a"], "uid": [b"u" * 16]}), tmp_path / "columns.parquet")
    with pytest.raises(UnreadableShardError, match="no column image; its columns are text, uid"):
        read(tmp_path / "columns.parquet")
    for images, told in (
        ([{"path": "1.png"}], "holds structures of path, and no bytes of images"),
        ([{"path": "1.png", "bytes": None}], "holds no bytes of images, but their places at most"),
        (["1.png"], "is of type string, and not of the bytes of images"),
    ):
        pq.write_table(pa.table({"image": images, "text": ["a"], "uid": [b"u" * 16]}), tmp_path / "images.parquet")
        with pytest.raises(UnreadableShardError, match=told):
            read(tmp_path / "images.parquet")


def test_samples_of_one_name_are_not_taken_for_one_row(tmp_path: Path) -> None:
    for second in ("sample.png", "sample.TXT"):
        shard = write_tar(tmp_path / "a.tar", [("sample.png", b"1"), ("sample.txt", b"a"), (second, b"2")])
        with pytest.raises(UnreadableShardError, match=r"holds .*sample\.(png|TXT) in one row twice"):
            read(shard)


class Shaky(LocalFileSystem):
    """A disk that fails to open its files so many times."""

    cachable = False
    failures = 2

    def open(self, *args, **kwargs):
        if self.failures:
            self.failures -= 1
            raise ConnectionError("no answer")
        return super().open(*args, **kwargs)


def test_reading_is_tried_again(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("1.png", b"i"), ("1.txt", b"t")])
    data = DataFolder(str(tmp_path), fs=Shaky())
    assert read_shard(data, Shard("a.tar", 1), COLUMNS, has_captions=True).texts == [b"t"]


def test_shards_are_listed(tmp_path: Path) -> None:
    data, work = get_datafolder(str(tmp_path / "data")), get_datafolder(str(tmp_path / "work"))
    with pytest.raises(InputError, match="is not there"):
        list_shards(data, work)
    (tmp_path / "data" / "b").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no shards"):
        list_shards(data, work)
    for name in ("b/1.tar", "a.parquet", "notes.txt"):
        (tmp_path / "data" / name).write_bytes(b"1234")
    assert list_shards(data, work) == [Shard("a.parquet", 4), Shard("b/1.tar", 4)]
    with pytest.raises(InputError, match="lies in --data_dir"):
        list_shards(data, get_datafolder(str(tmp_path / "data" / "work")))


def test_links_are_followed(tmp_path: Path) -> None:
    """Each file once, and without end where a link leads back."""
    data, work = get_datafolder(str(tmp_path / "data")), get_datafolder(str(tmp_path / "work"))
    for name in ("data/a.tar", "data/own/b.tar", "far/c.tar", "far/deep/d.tar"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    for link, place in [("far", "far"), ("again", "data/own"), ("own/up", "data"), ("e.tar", "far/c.tar")]:
        (tmp_path / "data" / link).symlink_to(tmp_path / place)
    (tmp_path / "far" / "back").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "home").symlink_to(tmp_path / "data")
    assert [shard.path for shard in list_shards(data, work)] == [
        "a.tar",
        "e.tar",
        "far/c.tar",
        "far/deep/d.tar",
        "own/b.tar",
    ]
    (tmp_path / "alias").symlink_to(tmp_path / "data")
    with pytest.raises(InputError, match="lies in --data_dir"):
        list_shards(data, get_datafolder(str(tmp_path / "alias" / "work")))


def test_a_shard_that_is_written_anew_has_another_version(tmp_path: Path) -> None:
    """The tar of another caption mostly has the same size, since files in it are padded."""
    data, work = get_datafolder(str(tmp_path / "data")), get_datafolder(str(tmp_path / "work"))
    shard = write_tar(tmp_path / "data" / "a.tar", [])
    versions = []
    for seconds in (1, 1, 2):
        os.utime(shard, (seconds, seconds))
        versions += [found.version for found in list_shards(data, work)]
    assert versions == ["mtime 1.0", "mtime 1.0", "mtime 2.0"]


def test_shards_as_img2dataset_leaves_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Metadata in a Parquet file beside each tar, and what copying to and from other systems adds."""
    caplog.set_level("INFO")
    data, work = get_datafolder(str(tmp_path / "data")), get_datafolder(str(tmp_path / "work"))
    names = "0.tar 0.parquet 0_stats.json b.parquet ._0.tar .cache/1.tar c.TAR d.tar.gz".split()
    for name in names[-2:]:
        data.makedirs(".cache", exist_ok=True)
        data.pipe_file(name, b"1234")
    with pytest.raises(InputError, match=r"c\.TAR, d\.tar\.gz would have to end in"):
        list_shards(data, work)
    for name in names:
        data.pipe_file(name, b"1234")
    assert list_shards(data, work) == [Shard("0.tar", 4), Shard("b.parquet", 4)]
    assert "beside each lies a .tar of its name: 0.parquet" in caplog.text
    assert "shards end in .tar or .parquet: c.TAR, d.tar.gz" in caplog.text

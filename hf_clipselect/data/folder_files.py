"""All files under a local folder, found in one walk that follows links and ends at loops of them."""

import hashlib
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder
from PIL import Image

from ..errors import InputError
from ..runtime.words import listed


# What operating systems and Python leave in folders.
_OF_THE_SYSTEM = {"__MACOSX", "__pycache__"}
_METADATA = set(ImageFolder.METADATA_FILENAMES)
TABLE_ENDINGS = set(".parquet .arrow .csv .tsv .json .jsonl .ndjson .tar .h5 .hdf5 .lance".split())
# Files with these endings are not opened to see whether they are images.
_NO_IMAGES = TABLE_ENDINGS.union(
    ".txt .md .xml .yaml .yml .html .htm .py .ipynb .log .npy .npz .pt .pth .pkl .pdf .db .ini .lock".split(),
    ".zip .gz .tgz .bz2 .xz .zst .7z .rar .mp4 .avi .mov .wav .mp3".split(),
)
# Image formats of cameras, phones and browsers that Pillow does not read.
_FOREIGN_IMAGES = set(".heic .heif .heics .hif .avif .jxl .dng .cr2 .cr3 .nef .arw .orf .rw2 .raf .svg".split())
_MAGIC_BYTES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"\xff\x0a")
_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis")
# What Python makes of the bytes of a name that is not UTF-8.
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass
class FolderFiles:
    """Files under a folder, whose absolute path is `root`, by their paths in it, with `/` between the parts, sorted.

    `found` gives size and time of change (ns) of every file that can be read, and `broken` the reason for what can't
    be. `hidden` are images and folders whose names begin with a dot, which are passed by.
    """

    root: str
    found: dict[str, tuple[int, int]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    has_linked_folders: bool = False

    @cached_property
    def images(self) -> list[str]:
        """Files whose endings are those of images that can be read."""
        readable = _readable_endings()
        return [path for path in self.found if ending(path) in readable]

    @cached_property
    def tables(self) -> list[str]:
        """Files that hold rows, but for those that describe images."""
        return [path for path in self.found if ending(path) in TABLE_ENDINGS and name_of(path) not in _METADATA]

    @cached_property
    def metadata(self) -> list[str]:
        """Files that describe images: metadata.csv, metadata.jsonl or metadata.parquet."""
        return [path for path in self.found if name_of(path) in _METADATA]

    @cached_property
    def zips(self) -> list[str]:
        return [path for path in self.found if ending(path) == ".zip"]

    @cached_property
    def foreign_images(self) -> dict[str, str]:
        """Images that are not read, with the reason; a file of an unknown ending is opened to see what it is."""
        readable, foreign = _readable_endings(), {}
        for path in self.found:
            suffix = ending(path)
            if suffix in readable or suffix in _NO_IMAGES or name_of(path) in _METADATA:
                continue
            if suffix in _FOREIGN_IMAGES:
                foreign[path] = f"{suffix} can't be read here: convert it to PNG or JPEG"
            elif _is_image(self.full(path)):
                foreign[path] = f"an image with {suffix and f'the ending {suffix}' or 'no ending'}: rename it"
        return foreign

    def full(self, path: str) -> str:
        """The absolute path of a file."""
        return f"{self.root}/{path}"

    def state(self) -> str:
        """A hash that changes with the name, size or time of any file."""
        files = hashlib.sha256(os.path.realpath(self.root).encode(errors="replace"))
        for path, (size, changed) in self.found.items():
            files.update(f"{path} {size} {changed}\n".encode(errors="replace"))
        return files.hexdigest()[:16]


def walk(root: str) -> FolderFiles:
    """Find all files under a folder; raises `InputError` where one in it can't be opened.

    Hidden files and folders (`.name`), `__MACOSX` and `__pycache__` are passed by. A link to a file counts as a file.
    A link to a folder is followed, unless that folder is one that the link lies in. A folder that is linked to from
    inside a linked folder is entered once, so that links to each other come to an end.
    """
    files = FolderFiles(os.path.abspath(root))
    entered: set[tuple[int, int]] = set()
    of_images = _readable_endings() | _FOREIGN_IMAGES
    # A name without an ending may be that of a class folder that is gone.
    of_data = of_images | TABLE_ENDINGS | {".zip", ""}
    top = os.stat(files.root)
    waiting: list[tuple[str, tuple[tuple[int, int], ...], bool]] = [("", ((top.st_dev, top.st_ino),), False)]
    while waiting:
        folder, above, in_link = waiting.pop()
        try:
            entries = list(os.scandir(files.full(folder) if folder else files.root))
        except OSError as error:
            raise InputError(f"The folder {files.full(folder)} can't be opened: {error.strerror}.") from None
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith(".") or entry.name in _OF_THE_SYSTEM:
                if ending(path) in of_images or entry.is_dir():
                    files.hidden.append(path)
                continue
            try:
                status = entry.stat()
            except OSError as error:  # a link to nothing, or to itself
                files.broken[path] = "a link to nothing" if entry.is_symlink() else f"can't be read: {error.strerror}"
                continue
            if _SURROGATE.search(entry.name):
                files.broken[path] = "its name is not UTF-8: rename it"
            elif stat.S_ISREG(status.st_mode):
                files.found[path] = status.st_size, status.st_mtime_ns
            elif not stat.S_ISDIR(status.st_mode):
                files.broken[path] = "no file but a device, pipe or socket"
            else:
                this, is_link = (status.st_dev, status.st_ino), entry.is_symlink()
                if this in above or (is_link and in_link and this in entered):
                    continue
                if is_link:
                    entered.add(this)
                    files.has_linked_folders = True
                waiting.append((path, (*above, this), in_link or is_link))
    files.found = dict(sorted(files.found.items()))
    files.broken = {path: why for path, why in sorted(files.broken.items()) if ending(path) in of_data}
    return files


def ending(path: str) -> str:
    """The ending of a file's name in small letters: `.png`."""
    return os.path.splitext(path)[1].lower()


def name_of(path: str) -> str:
    """The last part of a path."""
    return path.rpartition("/")[2]


def first_names(paths: Iterable[str]) -> str:
    """The first three of some names, and how many more there are."""
    return listed(list(paths), limit=3)


def _readable_endings() -> set[str]:
    """The endings of images that `datasets`, Pillow or one of its plugins reads."""
    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    return set(ImageFolder.EXTENSIONS) | known - TABLE_ENDINGS - {".hdf"}


def _is_image(path: str) -> bool:
    with open(path, "rb") as file:
        head = file.read(16)
    return (
        head.startswith(_MAGIC_BYTES)
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and head[8:12] in _BRANDS)
    )

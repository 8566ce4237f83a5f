"""Repositories on disk: content-addressed blobs, one JSON file for each commit, refs as files.

A folder of a repository holds `objects/` (regular files by git blob id), `lfs/` (large files by sha256), `commits/`,
`refs/` and `settings.json`. A commit writes all it needs and then replaces the file of its ref, as the very last step:
a server killed at any moment leaves the old state or the new one.
"""

import hashlib
import json
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import quote, unquote

from .gitids import blob_id, commit_id, lfs_pointer, split, tree_ids
from .lfs import GITATTRIBUTES, REGULAR_FILE_LIMIT, upload_mode


class StoreError(Exception):
    """A request that the state of the repository does not allow; `code` is one of the names below."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # "revision", "entry", "conflict", "parent", "bad"


@dataclass(frozen=True)
class Entry:
    """One file of a tree: git blob id (of the pointer for large files), size in bytes, sha256 for large files."""

    oid: str
    size: int
    sha256: str | None = None

    @property
    def pointer_size(self) -> int:
        """Size in bytes of the pointer of a large file."""
        return len(lfs_pointer(self.sha256 or "", self.size))


@dataclass(frozen=True)
class Commit:
    """A commit and its whole tree: `files` maps every path to its entry."""

    oid: str
    tree: str
    parents: list[str]
    author: str
    seconds: int
    title: str
    message: str
    files: dict[str, Entry]


@dataclass(frozen=True)
class Change:
    """One line of a commit: add a file (with `content` or `sha256`), or delete a file or a folder."""

    action: str  # "add", "delete_file", "delete_folder"
    path: str
    content: bytes | None = None
    sha256: str | None = None
    size: int | None = None


def write_file(path: Path, content: bytes, temporary: Path) -> None:
    """Writes a file whole or not at all; `temporary` is a folder on the same disk."""
    part = temporary / uuid.uuid4().hex
    part.write_bytes(content)
    os.replace(part, path)


class Repository:
    """One repository. Branches are `refs/heads/*`, tags `refs/tags/*`, pull requests `refs/pr/*`."""

    def __init__(self, folder: Path, lock: threading.RLock) -> None:
        self.folder = folder
        self.lock = lock
        self.temporary = folder / "tmp"

    @property
    def settings(self) -> dict:
        """What was given at creation: `private`, `created` (seconds)."""
        return json.loads((self.folder / "settings.json").read_text())

    def change_settings(self, **values: object) -> None:
        """Writes some of the settings anew."""
        with self.lock:
            self._write("settings.json", json.dumps(self.settings | values).encode())

    def refs(self) -> dict[str, str]:
        """Every ref with the commit that it points to."""
        return {unquote(path.name): path.read_text() for path in sorted((self.folder / "refs").iterdir())}

    def full_ref(self, revision: str) -> str | None:
        """The ref that a revision names, branches first, or None."""
        names = (f"refs/heads/{revision}", f"refs/tags/{revision}", revision)
        return next((name for name in names if name.startswith("refs/") and self._ref_file(name).is_file()), None)

    def resolve(self, revision: str) -> str:
        """The commit id of a branch, a tag, a `refs/...` name or a commit id."""
        ref = self.full_ref(revision)
        if ref is not None:
            return self._ref_file(ref).read_text()
        if re.fullmatch(r"[0-9a-f]{40}", revision) and (self.folder / "commits" / f"{revision}.json").is_file():
            return revision
        raise StoreError("revision", f"Invalid rev id: {revision}")

    def commit_at(self, revision: str) -> Commit:
        """The commit of a revision."""
        data = json.loads((self.folder / "commits" / f"{self.resolve(revision)}.json").read_text())
        return Commit(**data | {"files": {path: Entry(**entry) for path, entry in data["files"].items()}})

    def history(self, revision: str = "main") -> list[Commit]:
        """The commit of a revision and its ancestors, newest first."""
        commits = [self.commit_at(revision)]
        while commits[-1].parents:
            commits.append(self.commit_at(commits[-1].parents[0]))
        return commits

    def content_path(self, entry: Entry) -> Path:
        """The file on disk that holds the content of an entry."""
        return self.folder / "lfs" / entry.sha256 if entry.sha256 else self.folder / "objects" / entry.oid

    def has_large_file(self, sha256: str, size: int | None = None) -> bool:
        """Whether a large file was uploaded whole (and has this size)."""
        path = self.folder / "lfs" / sha256
        return path.is_file() and size in (None, path.stat().st_size)

    def receive_large_file(self, sha256: str, size: int, copy_to: Callable[[Path], None]) -> None:
        """Takes in a large file; `copy_to` writes it to a path. Refused if the sha256 or the size differ."""
        part = self.temporary / uuid.uuid4().hex
        try:
            copy_to(part)
            with part.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if (found, part.stat().st_size) != (sha256, size):
                raise StoreError(
                    "bad", f"Expected {size} bytes with sha256 {sha256}, got {part.stat().st_size}, {found}"
                )
            os.replace(part, self.folder / "lfs" / sha256)
        finally:
            part.unlink(missing_ok=True)

    def upload_mode(self, path: str, size: int, sample: bytes, files: dict[str, Entry]) -> str:
        """`lfs` or `regular`, for a file that is to join these files."""
        attributes = files.get(".gitattributes")
        return upload_mode(path, size, sample, self.content_path(attributes).read_text() if attributes else "")

    def commit(
        self,
        ref: str,
        changes: Iterable[Change],
        *,
        author: str,
        title: str,
        message: str = "",
        parent: str | None = None,
        base: str | None = None,
    ) -> tuple[Commit, str]:
        """Adds one commit to a ref, whole or not at all.

        Args:
            ref: Full name of the ref to move, or `refs/pr/new` for a pull request numbered by the store.
            changes: Additions and deletions, applied in order.
            parent: The commit that the client believes is the head; another head is refused.
            base: The revision to start from; the ref itself if None.

        Returns:
            `tuple[Commit, str]`: The commit and the full name of the ref that points to it.
        """
        with self.lock:
            head = self.commit_at(base or ref)
            if parent is not None and parent != head.oid:
                raise StoreError("parent", "A commit has happened since. Please refresh and try again.")
            files = dict(head.files)
            for change in changes:
                self._apply(change, files)
            _check_no_file_is_a_folder(files)
            commit = self._write_commit(files, [head.oid], author, title, message)
            if ref == "refs/pr/new":
                numbers = [int(name.removeprefix("refs/pr/")) for name in self.refs() if name.startswith("refs/pr/")]
                ref = f"refs/pr/{max(numbers, default=0) + 1}"
            self._write(self._ref_file(ref), commit.oid.encode())
            return commit, ref

    def add_ref(self, ref: str, oid: str) -> None:
        """Creates a branch or a tag; one that exists is refused."""
        with self.lock:
            if self._ref_file(ref).exists():
                raise StoreError("conflict", f"Reference already exists: {ref}")
            self._write(self._ref_file(ref), oid.encode())

    def delete_ref(self, ref: str) -> None:
        """Deletes a branch or a tag."""
        with self.lock:
            if not self._ref_file(ref).exists():
                raise StoreError("revision", f"Reference does not exist: {ref}")
            self._ref_file(ref).unlink()

    def start(self, private: bool, author: str) -> None:
        """Fills an empty folder: settings and a first commit with .gitattributes, as the Hub makes it."""
        for name in ("objects", "lfs", "commits", "refs", "tmp"):
            (self.folder / name).mkdir(parents=True)
        self._write("settings.json", json.dumps({"private": private, "created": int(time.time())}).encode())
        files: dict[str, Entry] = {}
        self._apply(Change("add", ".gitattributes", content=GITATTRIBUTES.encode()), files)
        commit = self._write_commit(files, [], author, "initial commit", "")
        self._write(self._ref_file("refs/heads/main"), commit.oid.encode())

    def _apply(self, change: Change, files: dict[str, Entry]) -> None:
        if change.action == "add":
            files[_clean(change.path)] = self._entry(change)
        elif change.action == "delete_file":
            if files.pop(change.path, None) is None:
                raise StoreError("entry", f"A file with this name doesn't exist: {change.path}")
        else:
            inside = [path for path in files if path.startswith(change.path.rstrip("/") + "/")]
            if not inside:
                raise StoreError("entry", f"A folder with this name doesn't exist: {change.path}")
            for path in inside:
                del files[path]

    def _entry(self, change: Change) -> Entry:
        if change.sha256 is not None:
            if not self.has_large_file(change.sha256, change.size):
                raise StoreError("bad", f"LFS pointer pointed to a file that does not exist: {change.path}")
            size = (self.folder / "lfs" / change.sha256).stat().st_size
            return Entry(blob_id(lfs_pointer(change.sha256, size)), size, change.sha256)
        content = change.content or b""
        if len(content) > REGULAR_FILE_LIMIT:
            raise StoreError("bad", f"Files larger than 10 MiB must be uploaded with LFS: {change.path}")
        entry = Entry(blob_id(content), len(content))
        self._write(self.content_path(entry), content)
        return entry

    def _write_commit(
        self, files: dict[str, Entry], parents: list[str], author: str, title: str, message: str
    ) -> Commit:
        tree = tree_ids({path: entry.oid for path, entry in files.items()})[""]
        commit = Commit("", tree, parents, author, int(time.time()), title, message, dict(sorted(files.items())))
        text = f"{title}\n\n{message}" if message else title
        commit = replace(commit, oid=commit_id(tree, parents, author, commit.seconds, text))
        self._write(f"commits/{commit.oid}.json", json.dumps(asdict(commit)).encode())
        return commit

    def _write(self, path: str | Path, content: bytes) -> None:
        write_file(self.folder / path, content, self.temporary)

    def _ref_file(self, ref: str) -> Path:
        return self.folder / "refs" / quote(ref, safe="")


class Store:
    """All repositories under one folder; a repository is named `models/owner/name` or `datasets/owner/name`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True, exist_ok=True)

    def get(self, name: str) -> Repository | None:
        """The repository of this name, or None."""
        folder = self.folder / name
        return Repository(folder, self.lock) if (folder / "settings.json").is_file() else None

    def create(self, name: str, *, private: bool, author: str) -> Repository:
        """A new repository; one that exists is refused."""
        with self.lock:
            if self.get(name) is not None:
                raise StoreError("conflict", "You already created this repo")
            part = self.temporary / uuid.uuid4().hex
            Repository(part, self.lock).start(private, author)
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.rename(part, self.folder / name)
            return Repository(self.folder / name, self.lock)

    def delete(self, name: str) -> None:
        """Removes a repository."""
        part = self.temporary / uuid.uuid4().hex
        os.rename(self.folder / name, part)
        shutil.rmtree(part)


def _clean(path: str) -> str:
    parts = path.split("/")
    if any(part in ("", ".", "..", ".git") for part in parts):
        raise StoreError("bad", f"Invalid path in repo: {path}")
    return path


def _check_no_file_is_a_folder(files: dict[str, Entry]) -> None:
    for path in files:
        folder = split(path)[0]
        while folder:
            if folder in files:
                raise StoreError("bad", f"{folder} is a file and cannot hold {path}")
            folder = split(folder)[0]

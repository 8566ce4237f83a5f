"""Repositories on disk: content-addressed blobs, one JSON file for each commit, refs as files.

A folder of a repository holds `objects/` (regular files by git blob id), `lfs/` (large files by sha256), `commits/`,
`discussions/`, `refs/` and `settings.json`. A commit writes all it needs and then replaces the file of its ref, as the
very last step: a server killed at any moment leaves the old state or the new one.
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
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import quote, unquote

from .gitids import blob_id, commit_id, lfs_pointer, split, tree_ids
from .lfs import GITATTRIBUTES, REGULAR_FILE_LIMIT, upload_mode
from .objects import Change, Commit, Discussion, Entry, StoreError, write_file


SPACE_CARD = """\
---
title: App
emoji: 🐨
colorFrom: blue
colorTo: gray
sdk: {sdk}
sdk_version: 5.0.0
app_file: app.py
pinned: false
---

Check out the configuration reference at https://huggingface.co/docs/hub/spaces-config-reference
"""
KINDS = ("models", "datasets", "spaces")


class Repository:
    """One repository. Branches are `refs/heads/*`, tags `refs/tags/*`, pull requests `refs/pr/*`."""

    def __init__(self, folder: Path, lock: threading.RLock, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.lock = lock
        self.clock = clock
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
            commit = self.write_commit(files, [head.oid], author, title, message)
            if ref == "refs/pr/new":
                branch = self.full_ref(base or "main")
                num = self.new_number()
                self.write_discussion(Discussion(num, title, author, commit.seconds, base=branch, start=head.oid))
                ref = f"refs/pr/{num}"
            self.move_ref(ref, commit.oid)
            return commit, ref

    def write_commit(
        self, files: dict[str, Entry], parents: list[str], author: str, title: str, message: str
    ) -> Commit:
        """Writes a commit that no ref points to yet."""
        _check_no_file_is_a_folder(files)
        tree = tree_ids({path: entry.oid for path, entry in files.items()})[""]
        commit = Commit("", tree, parents, author, int(self.clock()), title, message, dict(sorted(files.items())))
        text = f"{title}\n\n{message}" if message else title
        commit = replace(commit, oid=commit_id(tree, parents, author, commit.seconds, text))
        self._write(f"commits/{commit.oid}.json", json.dumps(asdict(commit)).encode())
        return commit

    def move_ref(self, ref: str, oid: str) -> None:
        """Points a ref to a commit, which is what makes a change of the repository seen."""
        self._write(self._ref_file(ref), oid.encode())

    def discussions(self) -> list[Discussion]:
        """Discussions and pull requests, newest first."""
        rows = [json.loads(path.read_text()) for path in (self.folder / "discussions").iterdir()]
        found = [Discussion(**row) for row in rows]
        # A server killed while it opened a pull request leaves one without a ref: it is not there.
        whole = [d for d in found if d.base is None or self._ref_file(f"refs/pr/{d.num}").is_file()]
        return sorted(whole, key=lambda discussion: -discussion.num)

    def new_number(self) -> int:
        """The number of the next discussion or pull request."""
        return max((discussion.num for discussion in self.discussions()), default=0) + 1

    def write_discussion(self, discussion: Discussion) -> None:
        """Writes a discussion, new or changed; a new pull request is there when its ref is."""
        self._write(f"discussions/{discussion.num}.json", json.dumps(asdict(discussion)).encode())

    def add_ref(self, ref: str, oid: str) -> None:
        """Creates a branch or a tag; one that exists is refused."""
        with self.lock:
            if self._ref_file(ref).exists():
                raise StoreError("conflict", f"Reference already exists: {ref}")
            self.move_ref(ref, oid)

    def delete_ref(self, ref: str) -> None:
        """Deletes a branch or a tag."""
        with self.lock:
            if not self._ref_file(ref).exists():
                raise StoreError("revision", f"Reference does not exist: {ref}")
            self._ref_file(ref).unlink()

    def start(self, private: bool, author: str, sdk: str | None = None) -> None:
        """Fills an empty folder: settings and a first commit with .gitattributes, as the Hub makes it; that of a Space
        has a README.md too.
        """
        for name in ("objects", "lfs", "commits", "discussions", "refs", "tmp"):
            (self.folder / name).mkdir(parents=True)
        self._write("settings.json", json.dumps({"private": private, "created": int(self.clock())}).encode())
        files: dict[str, Entry] = {}
        self._apply(Change("add", ".gitattributes", content=GITATTRIBUTES.encode()), files)
        if sdk is not None:
            self._apply(Change("add", "README.md", content=SPACE_CARD.format(sdk=sdk).encode()), files)
        self.move_ref("refs/heads/main", self.write_commit(files, [], author, "initial commit", "").oid)

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

    def _write(self, path: str | Path, content: bytes) -> None:
        write_file(self.folder / path, content, self.temporary)

    def _ref_file(self, ref: str) -> Path:
        return self.folder / "refs" / quote(ref, safe="")


class Store:
    """All repositories under one folder; a repository is named `models/owner/name`, `datasets/...` or `spaces/...`."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.clock = clock
        self.lock = threading.RLock()
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True, exist_ok=True)

    def get(self, name: str) -> Repository | None:
        """The repository of this name, or None."""
        folder = self.folder / name
        return Repository(folder, self.lock, self.clock) if (folder / "settings.json").is_file() else None

    def create(self, name: str, *, private: bool, author: str, sdk: str | None = None) -> Repository:
        """A new repository; one that exists is refused."""
        with self.lock:
            if self.get(name) is not None:
                raise StoreError("conflict", "You already created this repo")
            part = self.temporary / uuid.uuid4().hex
            Repository(part, self.lock, self.clock).start(private, author, sdk)
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.rename(part, self.folder / name)
            return Repository(self.folder / name, self.lock, self.clock)

    def delete(self, name: str) -> None:
        """Removes a repository."""
        part = self.temporary / uuid.uuid4().hex
        with self.lock:
            os.rename(self.folder / name, part)
        shutil.rmtree(part)

    def names(self) -> list[str]:
        """The names of all repositories."""
        found = [path for kind in KINDS for path in self.folder.glob(f"{kind}/*/*/settings.json")]
        return sorted(str(path.parent.relative_to(self.folder)) for path in found)

    def copy_to(self, folder: Path) -> None:
        """Copies all repositories into a new folder, without what is half received."""
        with self.lock:
            folder.mkdir(parents=True, exist_ok=True)
            for name in self.names():
                temporary = str(self.folder / name / "tmp")
                shutil.copytree(
                    self.folder / name, folder / name, ignore=lambda at, names, t=temporary: names if at == t else []
                )


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

"""What a repository holds: files, commits, changes, discussions; and how a file gets on disk whole."""

import os
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from .gitids import lfs_pointer


class StoreError(Exception):
    """A request that the state of the repository does not allow; `code` is one of the names below."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # "revision", "entry", "discussion", "conflict", "parent", "bad"


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


@dataclass(frozen=True)
class Discussion:
    """A discussion, or a pull request where `base` names a branch; the commits of that are under `refs/pr/<num>`.

    Args:
        status: `draft`, `open` or `closed`. That it is merged does not stand here: the branch tells.
        base: Full name of the branch that a pull request is for.
        start: The commit of that branch that it started from.
        merge: The commit that merges it. It is merged when the branch holds this commit.
        events: Comments and changes of status, as the Hub writes them.
    """

    num: int
    title: str
    author: str
    seconds: int
    status: str = "open"
    base: str | None = None
    start: str | None = None
    merge: str | None = None
    events: list[dict] = field(default_factory=list)


def write_file(path: Path, content: bytes, temporary: Path) -> None:
    """Writes a file whole or not at all; `temporary` is a folder on the same disk."""
    part = temporary / uuid.uuid4().hex
    part.write_bytes(content)
    os.replace(part, path)

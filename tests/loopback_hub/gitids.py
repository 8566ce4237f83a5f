"""Object names as git computes them: blobs, LFS pointers, trees and commits."""

import hashlib
from collections.abc import Mapping


def blob_id(content: bytes) -> str:
    """What `git hash-object` prints for these bytes."""
    return _object_id("blob", content)


def lfs_pointer(sha256: str, size: int) -> bytes:
    """The small text that stands in a git tree for a file kept in large file storage."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def tree_ids(files: Mapping[str, str]) -> dict[str, str]:
    """The tree id of every folder, as `git write-tree` computes it.

    Args:
        files: Blob id of every path; all files have mode 100644.

    Returns:
        `dict[str, str]`: Folder path to tree id; the root is the empty path.
    """
    names: dict[str, set[str]] = {"": set()}
    for path in files:
        folder, name = split(path)
        names.setdefault(folder, set()).add(name)
        while folder:
            inner = folder
            folder, name = split(inner)
            names.setdefault(folder, set()).add(name)
    ids: dict[str, str] = {}
    # Longest paths first: a folder is named after everything in it is.
    for folder in sorted(names, key=lambda path: (path.count("/") + bool(path), path), reverse=True):
        entries = []
        for name in names[folder]:
            path = f"{folder}/{name}" if folder else name
            is_file = path in files
            # Git sorts folders as if their name ended with a slash.
            key = name.encode() if is_file else name.encode() + b"/"
            mode = b"100644 " if is_file else b"40000 "
            entries.append((key, mode + name.encode() + b"\0" + bytes.fromhex(files[path] if is_file else ids[path])))
        ids[folder] = _object_id("tree", b"".join(line for _, line in sorted(entries)))
    return ids


def commit_id(tree: str, parents: list[str], author: str, seconds: int, text: str) -> str:
    """The id of a git commit object with these values."""
    person = f"{author} <{author}@users.noreply.localhost> {seconds} +0000"
    lines = [f"tree {tree}", *(f"parent {p}" for p in parents), f"author {person}", f"committer {person}", "", text]
    return _object_id("commit", "\n".join(lines).encode())


def split(path: str) -> tuple[str, str]:
    """Folder and name of a path; the folder of a top-level name is the empty path."""
    folder, _, name = path.rpartition("/")
    return folder, name


def _object_id(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content).hexdigest()

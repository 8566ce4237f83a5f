"""Files that are there whole or not at all."""

import os
import secrets
from pathlib import Path

from .errors import InputError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is either there whole or not there: a killed run leaves no torn file behind."""
    # Several processes may write the same file, on machines that give them the same number.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(path: str | Path, what: str) -> Path:
    """Create a folder if it is missing.

    Raises:
        InputError: It is a file, or can't be created; the message begins with `what`, such as "--output_dir".
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{what} {str(path)[:200]} can't be made a folder: {error.strerror}.") from None
    return Path(path)


def write_text_atomically(path: Path, text: str) -> None:
    """The same for UTF-8 text; parts of folder names that are not UTF-8 print as "?"."""
    write_atomically(path, text.encode("utf-8", errors="replace"))

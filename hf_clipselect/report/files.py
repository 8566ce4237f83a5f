"""Writing the report's files whole or not at all."""

import json
from pathlib import Path
from typing import Any

from ..encoder import write_atomically


def write_json(path: str | Path, report: dict[str, Any]) -> None:
    """Write the report as strict JSON in UTF-8.

    Args:
        path (`str` or `Path`): File to write or replace; its folder exists.
        report (`dict`): What [`summarize`] returned.

    Raises:
        ValueError: The report holds NaN or an infinity, which JSON has no word for.
    """
    write_text(path, json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 so that a reader meets the old file or the new one, never half of it.

    Args:
        path (`str` or `Path`): File to write or replace; its folder exists.
        text (`str`): Content of the file.
    """
    # Folder names that are not UTF-8 reach Python as lone surrogates; they print as "?".
    write_atomically(Path(path), text.encode("utf-8", errors="replace"))

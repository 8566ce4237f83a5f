"""What the entries `leaks` and `quality` of a report say, in clauses for the console, the page and the cards.

Strings are plain: whoever prints one escapes it.
"""

from collections.abc import Mapping
from typing import Any

from ..runtime.words import counted


def leaked_rows(leaks: Mapping[str, Any]) -> str:
    """How many rows copy the reference: "12 rows copy images of me/digits (split test), by their embeddings, and are
    in no subset".
    """
    rows = leaks["rows"]
    told = f"{counted(rows, 'row') if rows else 'no row'} {'copies' if rows < 2 else 'copy'} images of"
    return f"{told} {leaks['reference']}, by their embeddings{_fate(leaks)}"


def damaged_rows(quality: Mapping[str, Any]) -> str:
    """How many images look damaged, and how: "12 images look damaged (9 blurry, 5 dark), and are in no subset"."""
    rows = quality["rows"]
    named = ", ".join(f"{count} {issue}" for issue, count in quality["issues"].items() if count)
    told = f"{counted(rows, 'image') if rows else 'no image'} {'looks' if rows < 2 else 'look'} damaged"
    return told + (f" ({named})" if named else "") + _fate(quality)


def _fate(found: Mapping[str, Any]) -> str:
    """What came of the rows: as a clause behind how many there are."""
    if not found["rows"]:
        return ""
    if found["dropped"]:
        return f", and {'is' if found['rows'] == 1 else 'are'} in no subset"
    return ", and may be in the subsets"

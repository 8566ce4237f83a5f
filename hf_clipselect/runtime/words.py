"""The grammar of messages: what is counted, listed, quoted and cut."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun: "1 row", "2 rows", "2 classes"."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def are(number: int) -> str:
    """The verb behind a counted noun."""
    return "is" if number == 1 else "are"


def there_are(names: Sequence[object], *, limit: int = 20) -> str:
    """A clause that lists names: "there are none", "there is one: a", "there are a, b and 3 more"."""
    if not names:
        return "there are none"
    if len(names) == 1:
        return f"there is one: {names[0]}"
    return f"there are {listed(names, limit=limit)}"


def listed(names: Sequence[object], *, limit: int = 20) -> str:
    """Names in a row: "a", "a, b", "a, b and 3 more"; "none" where there is no name."""
    shown = ", ".join(map(str, names[:limit])) or "none"
    return shown + (f" and {len(names) - limit:,} more" if len(names) > limit else "")


def with_article(noun: str) -> str:
    """A name with "a" or "an" before it, by its first letter: "a DatasetDict", "an IterableDataset"."""
    return f"{'an' if noun[:1].lower() in tuple('aeio') else 'a'} {noun}"


def in_one_line(text: object, limit: int | None = None) -> str:
    """What `str` gives, such as the text of an error, without line breaks and rows of blanks, cut at a length."""
    return " ".join(str(text).split())[:limit]


def cut(text: str, limit: int) -> str:
    """A text; of one that is longer than the limit the first `limit` characters, and three dots."""
    return text if len(text) <= limit else f"{text[:limit]}..."


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """What stands behind an unknown name that is nearly a known one: "; did you mean select?", else ""."""
    found = get_close_matches(given, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""

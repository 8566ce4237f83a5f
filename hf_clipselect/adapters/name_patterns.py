"""Which of the patterns in a PEFT config peft may match module names against: those that take it no time."""

import re
from collections.abc import Iterator
from typing import Any

from ..errors import InputError


# The settings that peft reads as regular expressions, for most methods and forms of the value, and as plain names for
# the rest.
_KEYS = ("_modules", "_pattern", "modules_to_save")
# No quantifier may follow a group or another quantifier.
_TOKEN = re.compile(
    r"""(?P<open> \((\?:)? ) | (?P<close> \) ) (?![*+?{]) | (?P<bar> \| )
    | (?: \\[.dw] | \[\^?([\w.-]|\\[.dw-])+\] | [\w.^$/-] ) (?P<quantifier> [*+?]\?? )? (?![*+?{])""",
    re.VERBOSE,
)
# Several quantifiers share the some 50 characters of a module name, and steps of a quantifier are quicker than
# alternatives.
_WAYS = {"?": 2, "*": 16, "+": 16}
# `.*decoder.*(SelfAttention|EncDecAttention).*(q|v)$` of peft's documentation has 16,384. With as many as this, the
# names of a ViT-L/14 are matched within seconds.
_MAX_WAYS = 100_000
# Python keeps 512 compiled patterns; with more, peft's loops compile each of them anew for each module.
_MAX_PATTERNS = 400


def check_name_patterns(what: str, values: dict[str, Any]) -> None:
    """Check that matching the patterns of a config against the modules of a model ends soon.

    Backtracking can take exponential time, on groups with quantifiers as well as on rows of alternatives.

    Args:
        what (`str`): Subject of the error messages.
        values (`dict`): The config as JSON gave it.

    Raises:
        InputError: A pattern is not of the simple kind that is read here, or there are too many.
    """
    count, ways = 0, 0
    for key, pattern in _patterns(values):
        if not isinstance(pattern, str):
            raise InputError(f"{what} sets {key} to {str(pattern)[:100]}, but names of modules are texts.")
        found = _ways_to_match(pattern)
        if found is None:
            raise InputError(
                f"{what} sets {key} to {pattern[:100]!r}. Of regular expressions, names with \\. . [...] | (...) ^ $ "
                "and the quantifiers * + ? on single characters are read; no quantifier on a group."
            )
        count, ways = count + 1, ways + found
        if count > _MAX_PATTERNS or ways > _MAX_WAYS:
            raise InputError(
                f"{what} sets {key} to {pattern[:100]!r}{' among others' if count > 1 else ''}, which could take for "
                f"ever to match: use at most {_MAX_PATTERNS} names, and fewer quantifiers and alternatives."
            )


def _patterns(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if key.endswith(_KEYS):
            patterns = [value] if isinstance(value, str) else value
            yield from ((key, pattern) for pattern in (patterns if isinstance(patterns, (list, dict)) else ()))


def _ways_to_match(pattern: str) -> int | None:
    """About how many paths backtracking can take through a pattern at most; nothing if it is of another kind."""
    levels, position = [[1]], 0  # of each open group the ways of its alternatives
    while position < len(pattern):
        token = _TOKEN.match(pattern, position)
        if token is None or (token["close"] and len(levels) == 1):
            return None
        position = token.end()
        if token["open"]:
            levels.append([1])
        elif token["close"]:
            ways = sum(levels.pop())
            levels[-1][-1] *= ways
        elif token["bar"]:
            levels[-1].append(1)
        elif token["quantifier"]:
            levels[-1][-1] *= _WAYS[token["quantifier"][0]]
    return sum(levels[0]) if len(levels) == 1 else None

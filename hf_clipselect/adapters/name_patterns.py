"""Refuses patterns for module names, in a PEFT config, that Python's `re` could take for ever to match."""

import math
import re
from collections.abc import Iterator
from typing import Any

from ..errors import InputError


# Settings that peft reads as regular expressions, for most methods and forms of the value, else as plain names.
_KEYS = ("_modules", "_pattern", "modules_to_save")
# A quantifier on a group can take exponential time. Of the groups that begin with (?, some could hide such a one:
# comments and flags that ignore spaces. A reference to a group repeats it, too.
_REPEATED_GROUP = re.compile(r"\)[*+?{]|\{|\(\?(?!:)|\\\d")
# Other patterns take time in proportion to the ways through them: about 16 for each `*` or `+` on a module name of 50
# characters. `.*decoder.*(SelfAttention|EncDecAttention).*(q|v)$` of peft's documentation has 16,384; with 100,000 the
# names of a ViT-L/14 are matched within seconds.
_WAYS = {"?": 2, "*": 16, "+": 16}
_MAX_WAYS = 100_000
# Python caches 512 compiled patterns; with more, peft's loops compile each of them again for each module.
_MAX_PATTERNS = 400


def check_name_patterns(what: str, values: dict[str, Any]) -> None:
    """Raise `InputError`, which begins with `what`, where matching a config's patterns against modules may not end."""
    count, ways = 0, 0
    for key, pattern in _patterns(values):
        if not isinstance(pattern, str):
            raise InputError(f"{what} sets {key} to {str(pattern)[:100]}, but names of modules are texts.")
        if _REPEATED_GROUP.search(pattern) or not _is_valid(pattern):
            raise InputError(
                f"{what} sets {key} to {pattern[:100]!r}. Of regular expressions, names with \\. . [...] | (...) ^ $ "
                "and the quantifiers * + ? on single characters are read; no quantifier on a group."
            )
        count, ways = count + 1, ways + _ways_to_match(pattern)
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


def _is_valid(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except (re.error, RecursionError):
        return False
    return True


def _ways_to_match(pattern: str) -> int:
    """An upper bound: each quantifier multiplies the ways, and so do the alternatives between two parentheses."""
    pattern = pattern.replace("(?:", "(")
    quantifiers = [_WAYS[quantifier[0]] for quantifier in re.findall(r"[*+?]\??", pattern)]
    return math.prod(quantifiers) * math.prod(1 + part.count("|") for part in re.split(r"[()]", pattern))

"""Checks of single values: numbers, choices, seeds. No torch here."""

import re
import sys
from collections.abc import Sequence
from numbers import Integral
from typing import Any, TypeGuard

from ..errors import InputError


_SEEDS = 2**32
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


def is_whole_number(value: object, *, at_least: int) -> TypeGuard[int]:
    """Whether a value is an `int`, no `bool`, and not below a limit."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= at_least


def is_finite_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is an `int` or a `float`, no `bool`, and a finite number as a float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def check_at_least(minimum: int, name: str, value: int | None) -> None:
    """Raise `InputError` for a number below a limit; `None`, where no number was given, passes."""
    if value is not None and value < minimum:
        raise InputError(f"--{name} must be a whole number of at least {minimum}, got {value!r}.")


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise `InputError`, which lists the choices, for what is none of them."""
    if value not in choices:
        raise InputError(f"--{name} must be one of {', '.join(choices)}, got {value!r}.")


def check_license(license: str | None) -> None:
    """Raise `InputError` for what has not the form of a license's id; which ids there are the Hub alone knows."""
    if license is not None and not _LICENSE.fullmatch(license):
        raise InputError(
            "--license must be an id of a license as the Hub has them, in small letters, such as mit or cc-by-4.0, or "
            f"other; got {license!r}. They are listed at https://huggingface.co/docs/hub/repositories-licenses."
        )


def check_seed(seed: Any, name: str = "seed") -> None:
    """Raise `InputError` for what is no whole number in [0, 2^32): numpy and scikit-learn take no other seeds."""
    if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= int(seed) < _SEEDS:
        raise InputError(f"{name} must be a whole number in [0, 2^32), got {seed!r}.")


def checked_trackers(given: list[str] | str) -> list[str] | str:
    """Names of trackers; a single one, or "none" or "all", which stand alone, as the word itself."""
    names = [given] if isinstance(given, str) else given
    for word in ("none", "all"):
        if word in names and len(names) > 1:
            raise InputError(f"--report_to {word} stands alone, got {' '.join(names)}; leave it or the others out.")
    if not names:
        return "none"
    return names[0] if len(names) == 1 else names

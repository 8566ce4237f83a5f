"""Checks values of arguments against the types that dataclasses and signatures declare. No torch here."""

import inspect
import os
from collections.abc import Mapping, Sequence, Set
from numbers import Integral
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from ..errors import InputError
from ..runtime.words import cut, in_one_line, with_article


_LARGEST = 2**63  # what int64 holds, which arrays, files and seeds are made of
_SHOWN = 100


class _Misfit(Exception):
    """The value is not of the type; the text says what is wrong with it beyond that, if anything."""


def check_fields(arguments: Any) -> None:
    """Check every field of a dataclass, named like a flag, as [`checked_value`], and make numpy's values plain."""
    for name, hint in get_type_hints(type(arguments)).items():  # HfArgumentParser changes the types of the fields
        setattr(arguments, name, checked_value(getattr(arguments, name), hint, f"--{name}"))


def checked_value(value: Any, hint: Any, name: str) -> Any:
    """A value as Python's own bool, int, float, str or list, if it is of the type that the hint names.

    The hint is built of `None`, `bool`, `int`, `float`, `str`, `Path`, `Literal`, sequences and mappings of these, and
    classes; arrays and values of classes alone are returned unchecked, for whoever reads them. Raises `InputError`,
    with the name, for another type, a whole number of 2^63 or more, or a text with a NUL or bytes that are no UTF-8.
    """
    if _is_checked_elsewhere(hint):
        return value
    try:
        return _fitted(value, hint)
    except _Misfit as misfit:
        why = str(misfit) or f"must be {_describe(hint)}, got {shown(value)}"
        raise InputError(f"{name} {why}.") from None


def shown(value: Any) -> str:
    """A value as an error shows it, whatever it is: short, and never an error itself."""
    if (
        value is None
        or type(value) in (bool, int, float, str, bytes, list, tuple, dict, set)
        or isinstance(value, np.generic)
    ):
        try:
            return cut(in_one_line(repr(value)), _SHOWN)
        except (ValueError, RecursionError):  # Python prints no number of more than 4,300 digits
            return with_article(type(value).__name__)
    return with_article(type(value).__name__)


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (UnionType, Union) else (hint,)


def _is_checked_elsewhere(hint: Any) -> bool:
    """Whether who reads the value checks it: arrays, and what is of classes alone, whose own errors say more."""
    members = _members(hint)
    if Any in members or inspect.Parameter.empty in members or np.ndarray in members:
        return True
    kinds = [member for member in members if member is not NoneType]
    return all(isinstance(kind, type) and kind not in (bool, int, float, str, Path) for kind in kinds)


def _fitted(value: Any, hint: Any) -> Any:
    told = ""
    for member in _members(hint):
        try:
            return _fitted_to(value, member)
        except _Misfit as misfit:
            told = told or str(misfit)
    raise _Misfit(told)


def _fitted_to(value: Any, hint: Any) -> Any:
    """The value as one type of a union has it."""
    if hint is None or hint is NoneType:
        fits = value is None
    elif hint is bool:
        value, fits = (bool(value), True) if isinstance(value, (bool, np.bool_)) else (value, False)
    elif hint is int:
        return _whole_number(value)
    elif hint is float:
        return _number(value)
    elif hint is str:
        return _text(value)
    elif hint is Path:
        fits = isinstance(value, os.PathLike)
        value = Path(_text(os.fspath(value))) if fits else value
    elif get_origin(hint) is Literal:
        fits = isinstance(value, str) and value in get_args(hint)
    elif get_origin(hint) in (list, Sequence):
        return _fitted_items(value, *get_args(hint))
    elif get_origin(hint) is Mapping:
        key_hint, item_hint = get_args(hint)
        if not isinstance(value, Mapping):
            raise _Misfit
        return {_fitted(key, key_hint): _fitted(item, item_hint) for key, item in value.items()}
    else:
        fits = isinstance(value, get_origin(hint) or hint)
    if not fits:
        raise _Misfit
    return value


def _whole_number(value: Any) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise _Misfit
    if abs(int(value)) >= _LARGEST:
        raise _Misfit("is too large; give a number below 2^63")
    return int(value)


def _number(value: Any) -> float | int:
    if isinstance(value, Integral):
        return _whole_number(value)
    if not isinstance(value, (float, np.floating)):
        raise _Misfit
    # Through its decimals, so that a float32 0.3 is 0.3.
    return value if type(value) is float else float(str(value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Misfit
    if "\0" in value:
        raise _Misfit(f"holds a NUL character, which no name or path can have: {shown(value)}")
    # Names of files may be any bytes, of which Python makes surrogates; Parquet, YAML and cards hold text alone.
    if not value.isascii() and value.encode("utf-8", "ignore").decode() != value:
        raise _Misfit("holds bytes that are no UTF-8; rename the file or folder")
    return str(value)


def _fitted_items(value: Any, hint: Any) -> list[Any]:
    if type(value).__module__.partition(".")[0] == "pandas" and hasattr(value, "to_numpy"):
        value = value.to_numpy()
    if isinstance(value, (str, bytes, bytearray, Mapping, Set)) or not isinstance(value, (Sequence, np.ndarray)):
        raise _Misfit
    if isinstance(value, np.ndarray) and value.ndim != 1:
        raise _Misfit
    return [str(item) if hint is str and isinstance(item, str) else _fitted(item, hint) for item in value]


_WORDS = {
    None: "None",
    NoneType: "None",
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
}
_SEVERAL = {int: "whole numbers", float: "numbers", str: "texts"}


def _describe(hint: Any) -> str:
    members = _members(hint)
    words = [_describe_one(member) for member in members]
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def _describe_one(hint: Any) -> str:
    if get_origin(hint) is Literal:
        words = get_args(hint)
        return f"one of {', '.join(map(str, words))}" if len(words) > 1 else f'"{words[0]}"'
    if get_origin(hint) in (list, Sequence):
        kinds = [_describe_one(kind) if get_args(kind) else _SEVERAL.get(kind) for kind in _members(get_args(hint)[0])]
        return f"a list of {' and '.join(kind or 'values' for kind in kinds)}"
    if get_origin(hint) is Mapping:
        key, item = (_SEVERAL.get(part, "values") for part in get_args(hint))
        return f"a mapping from {key} to {item}"
    return _WORDS.get(hint) or with_article(getattr(hint, "__name__", str(hint)))

"""What the public functions share: arguments are checked against their types, and messages name arguments.

Messages are written once, with the flags of the command line. Here a flag becomes the argument of the same name, with
the value behind it as Python writes it: `--on_bad_image drop` becomes `on_bad_image="drop"`. No torch here.
"""

import dataclasses
import functools
import inspect
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

from ..errors import InputError, RunError, long_paths_refused
from ..runtime.terminal import printable
from .argument_types import checked_value
from .arguments import Arguments


Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")

# Arguments that have another name than the flag, since they take the thing itself in the place of its file or name.
_RENAMED = {"class_quotas_file": "class_quotas", "class_names_file": "class_names", "dataset_name": "dataset"}
_RENAMED |= {"reference_split": "reference", "reference_dataset_name": "reference"}
_TYPES = {name: hint for group in dataclasses.fields(Arguments) for name, hint in get_type_hints(group.type).items()}
_FLAG = re.compile(
    rf"(?<![\w/.-])--({'|'.join(sorted(_TYPES, key=len, reverse=True))})(?![\w/-])( [+-]?\w(?:[\w.+-]*\w)?)?"
)
_NUMBER = re.compile(r" [+-]?\d+(\.\d+)?(e[+-]?\d+)?")
_TRUTH = {" true": "True", " True": "True", " false": "False", " False": "False"}


def python_door(
    **renamed: str,
) -> Callable[[Callable[Parameters, Returned]], Callable[Parameters, Returned]]:
    """Decorate a public function: its arguments are checked against their annotations, and messages name arguments.

    `renamed` tells for a flag the argument of this function that stands for it, where the names differ.
    """

    def decorate(function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def door(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
            try:
                given = signature.bind(*args, **kwargs)
            except TypeError:
                return function(*args, **kwargs)  # Python's own error names the function
            with _naming_arguments(renamed), long_paths_refused():
                for name, value in given.arguments.items():
                    hint = signature.parameters[name].annotation
                    given.arguments[name] = checked_value(value, hint, name)
                return function(*given.args, **given.kwargs)

        return door

    return decorate


def with_arguments(message: str, renamed: Mapping[str, str] | None = None) -> str:
    """A message that names flags ("... or pass --overwrite_output_dir"), retold with the arguments of a Python
    function ("... or pass overwrite_output_dir=True"); `renamed` gives those that have another name than the flag.
    """
    return _FLAG.sub(lambda match: _argument(match[1], match[2] or "", _RENAMED | dict(renamed or {})), message)


def _argument(flag: str, behind: str, renamed: Mapping[str, str]) -> str:
    name, hints = renamed.get(flag, flag), _parts(_TYPES[flag])
    choices = [choice for part in hints if get_origin(part) is Literal for choice in get_args(part)]
    if not name.isidentifier():
        return name + behind
    if bool in hints:
        return f"{name}={_TRUTH[behind]}" if behind in _TRUTH else f"{name}=True{behind}"
    if behind[1:] in choices:
        return f'{name}="{behind[1:]}"'
    if {int, float} & set(hints) and _NUMBER.fullmatch(behind):
        return f"{name}={behind[1:]}"
    return name + behind


def _parts(hint: Any) -> list[Any]:
    """The types of which unions and lists are made."""
    if not get_args(hint) or get_origin(hint) is Literal:
        return [hint]
    return [part for member in get_args(hint) for part in _parts(member)]


@contextmanager
def _naming_arguments(renamed: Mapping[str, str]) -> Iterator[None]:
    def told(message: str) -> str:
        return printable(with_arguments(message, renamed))

    with retold_messages(told):
        try:
            yield
        except (InputError, RunError) as error:
            error.args = (told(str(error)),)
            raise


@contextmanager
def retold_messages(tell: Callable[[str], str]) -> Iterator[None]:
    """Pass what the package logs during a block through a function, before any handler sees it."""

    def retell(record: logging.LogRecord) -> bool:
        record.msg, record.args = tell(record.getMessage()), ()
        return True

    # Filters of a logger do not see what loggers below it log.
    loggers: list[Any] = [
        logger
        for name, logger in logging.root.manager.loggerDict.items()
        if name.partition(".")[0] == __package__.partition(".")[0] and isinstance(logger, logging.Logger)
    ]
    for logger in loggers:
        logger.addFilter(retell)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(retell)

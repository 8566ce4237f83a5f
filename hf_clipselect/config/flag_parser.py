"""A command line whose flags may also stand in the YAML file of `--config`. No torch here."""

import dataclasses
import re
import sys
from argparse import ArgumentError, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from transformers import HfArgumentParser

from ..runtime.redaction import hide_secrets
from ..runtime.terminal import printable
from ..runtime.words import in_one_line
from .yaml_file import read_config


_JSON = re.compile(r"\{.*\}", re.DOTALL)


class FlagParser(HfArgumentParser):
    """The fields of dataclasses as flags, and `--config`."""

    def __init__(self, groups: Sequence[Any], *, prog: str | None = None) -> None:
        super().__init__(groups, prog=prog, allow_abbrev=False)
        self.add_argument("--config", metavar="FILE", help="YAML file of these flags; the command line wins over it.")

    def _add_dataclass_arguments(self, dtype: Any) -> None:
        # HfArgumentParser makes the type of a list's items that of the flag, and argparse asks here how to read it.
        for hint in get_type_hints(dtype).values():
            lists = [part for part in (hint, *get_args(hint)) if get_origin(part) is list]
            for [item] in map(get_args, lists):
                choices = [part for part in get_args(item) if get_origin(part) is Literal]
                if words := [word for choice in choices for word in get_args(choice)]:
                    self.register("type", item, _number_or(words))
        super()._add_dataclass_arguments(dtype)

    def parse_with_config(self, argv: Sequence[str] | None) -> Namespace:
        """A value for every flag: of `argv` or `sys.argv[1:]`, else of the YAML file that it names, or the default."""
        argv = list(sys.argv[1:] if argv is None else argv)
        arguments = self.parse_args(argv)
        if arguments.config is None:
            return arguments
        known = {field.name for group in self.dataclass_types for field in dataclasses.fields(group) if field.init}
        written = read_config(Path(arguments.config), known=known)
        self.set_defaults(**{name: self._read(name, value) for name, value in written.items()})
        return self.parse_args(argv)

    def _read(self, name: str, written: str | list[str]) -> Any:
        """A value of the file, by the type and choices of its flag; as an argument it might be taken for a flag."""
        texts = [written] if isinstance(written, str) else written
        action = self._option_string_actions[f"--{name}"]
        takes_several = action.nargs == "+"
        if not texts or (len(texts) > 1 and not takes_several):
            self.error(
                f"argument --{name}: {'a value is' if not texts else 'one value is'} expected in the file of --config"
            )
        values = []
        for text in texts:
            try:
                values.append(self._get_value(action, text))
                self._check_value(action, values[-1])
            except ArgumentError as error:
                self.error(str(error))
        return values if takes_several else values[0]

    def error(self, message: str) -> NoReturn:
        # The usage of forty flags would bury the one line that matters.
        # What was mistyped may hold a password.
        message = hide_secrets(_JSON.sub("{...}", in_one_line(message)))
        self.exit(2, printable(f"error: {message} (all flags: --help)") + "\n")


def _number_or(words: Sequence[str]) -> Callable[[str], float | str]:
    """A reader of texts that are one of these words or a number."""

    def read(text: str) -> float | str:
        if text in words:
            return text
        try:
            return float(text)
        except ValueError:
            raise ArgumentTypeError(f"must be a number or {' or '.join(words)}, got {text!r}") from None

    return read

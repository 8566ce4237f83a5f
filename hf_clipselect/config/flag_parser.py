"""A command line whose flags may also stand in the YAML file of `--config`. No torch here."""

import dataclasses
import sys
from argparse import SUPPRESS, Action, ArgumentError, ArgumentTypeError, Namespace
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from transformers import HfArgumentParser
from transformers.hf_argparser import string_to_bool

from .command_parser import CommandParser
from .yaml_file import read_config


class FlagParser(CommandParser, HfArgumentParser):
    """The fields of dataclasses as flags, and `--config`.

    Args:
        groups (`Sequence[type]`):
            The dataclasses; the flags of one with `_argument_group_name` stand together under that title in the help.
        prog (`str`, *optional*): Name of the program in the help.
        first (`Collection[str]`, *optional*):
            Names of the flags that most people need: `--help` shows them alone, and `--help_all` all.
        kwargs (`Any`): What `ArgumentParser` takes, such as `description`.
    """

    def __init__(
        self, groups: Sequence[Any], *, prog: str | None = None, first: Collection[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(dataclass_types=groups, prog=prog, usage="%(prog)s [flags]", **kwargs)
        self._first = {"help", "help_all", "config", *first} if first else None
        if first:
            self.all_flags = "--help_all"
            self.add_argument("--help_all", action=_HelpOfAll, help="show all flags and exit")
        self.add_argument("--config", metavar="FILE", help="YAML file of flags; the command line wins.")

    def _add_dataclass_arguments(self, dtype: Any) -> None:
        # HfArgumentParser makes the type of a list's items that of the flag, and argparse asks here how to read it.
        for hint in get_type_hints(dtype).values():
            lists = [part for part in (hint, *get_args(hint)) if get_origin(part) is list]
            for [item] in map(get_args, lists):
                choices = [part for part in get_args(item) if get_origin(part) is Literal]
                if words := [word for choice in choices for word in get_args(choice)]:
                    self.register("type", item, _number_or(words))
        before = len(self._actions)
        super()._add_dataclass_arguments(dtype)
        for action in self._actions[before:]:
            # The spellings with dashes, and --no_x, are taken, but told nowhere.
            action.option_strings = action.option_strings[:1]
            if action.nargs == 0:
                action.help = SUPPRESS
            if action.type is string_to_bool and action.nargs is None:
                action.metavar = "{true,false}"

    def format_help(self) -> str:
        """The flags under the titles of their groups; the first ones, if some were named, and what is for all."""
        return self._format_help(self._first)

    def format_help_of_all(self) -> str:
        """The same with all flags."""
        return self._format_help(None)

    def _format_help(self, names: Collection[str] | None) -> str:
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, [], [])
        formatter.add_text(self.description)
        for group in [group for group in self._action_groups if group is not self._optionals] + [self._optionals]:
            formatter.start_section(group.title)
            shown = (action for action in group._group_actions if names is None or action.dest in names)
            formatter.add_arguments(shown)
            formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()

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


class _HelpOfAll(Action):
    """Prints the help of all flags and ends, as `--help` does."""

    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: Any) -> None:
        super().__init__(option_strings, dest, default=SUPPRESS, nargs=0, **kwargs)

    def __call__(self, parser: Any, *_: Any) -> None:
        sys.stdout.write(parser.format_help_of_all())
        parser.exit()


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

"""A command line whose flags may also stand in the YAML file of `--config`. No torch here."""

import dataclasses
import re
import sys
from argparse import ArgumentError, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

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

"""A command line whose flags may also stand in the YAML file of `--config`. No torch here."""

import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from transformers import HfArgumentParser

from .config_file import yaml_as_flags
from .redaction import hide_secrets


_JSON = re.compile(r"\{.*\}", re.DOTALL)


class FlagParser(HfArgumentParser):
    """Flags of dataclasses, and `--config`.

    Args:
        groups (`Sequence[type]`): Dataclasses whose fields are flags.
        prog (`str`, *optional*): Name of the program in `--help`.
    """

    def __init__(self, groups: Sequence[Any], *, prog: str | None = None) -> None:
        super().__init__(groups, prog=prog, allow_abbrev=False)
        self.add_argument("--config", metavar="FILE", help="YAML file of these flags; the command line wins over it.")

    def with_config(self, argv: Sequence[str] | None) -> list[str]:
        """The flags of the YAML file, where one is named, and after them those of the command line.

        Args:
            argv (`Sequence[str]`, *optional*): The arguments without the program's name; default `sys.argv[1:]`.

        Returns:
            `list[str]`: Flags; of two that are the same the last one wins.

        Raises:
            InputError: The YAML file is missing, broken or has an unknown key.
            SystemExit: The command line has an unknown flag or an unreadable value (exit code 2), or asks for `--help`.
        """
        argv = list(sys.argv[1:] if argv is None else argv)
        config = self.parse_args(argv).config
        if config is None:
            return argv
        known = {field.name for group in self.dataclass_types for field in dataclasses.fields(group) if field.init}
        return yaml_as_flags(Path(config), known=known) + argv

    def error(self, message: str) -> NoReturn:
        # The usage of forty flags would bury the one line that matters.
        # What was mistyped may hold a password.
        self.exit(2, f"error: {hide_secrets(_JSON.sub('{...}', message))} (all flags: --help)\n")

"""From a command line, and the YAML of `--config`, to the arguments of a run. No torch here."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from transformers import HfArgumentParser

from .config import Arguments, default_model
from .config_file import yaml_as_flags


def parse_arguments(argv: Sequence[str] | None = None, *, prog: str | None = None) -> Arguments:
    """Read a command line.

    Args:
        argv (`Sequence[str]`, *optional*): The arguments without the program's name; default `sys.argv[1:]`.
        prog (`str`, *optional*): Name of the program in `--help`.

    Returns:
        `Arguments`: Checked arguments, with the model resolved.

    Raises:
        InputError: A value is out of range, or the YAML file is missing, broken or has an unknown key.
        SystemExit: The command line has an unknown flag or an unreadable value (exit code 2), or asks for `--help`.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    groups = [group.type for group in dataclasses.fields(Arguments)]
    parser = _Parser(groups, prog=prog, allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", help="YAML file of these flags; the command line wins over it.")
    config = parser.parse_args(argv).config
    if config is not None:
        argv = yaml_as_flags(Path(config), known={f.name for g in groups for f in dataclasses.fields(g)}) + argv
    arguments = Arguments.from_dict(vars(parser.parse_args(argv)))
    if arguments.model.model_name_or_path is None:
        arguments.model.model_name_or_path = default_model(arguments.data.dataset_name)
    return arguments


class _Parser(HfArgumentParser):
    """The usage of forty flags would bury the one line that matters."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (all flags: --help)\n")

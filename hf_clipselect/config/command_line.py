"""From a command line, and the YAML of `--config`, to the arguments of a run. No torch here."""

import dataclasses
from collections.abc import Sequence

from .arguments import Arguments, default_model
from .flag_parser import FlagParser


def parse_arguments(argv: Sequence[str] | None = None, *, prog: str | None = None) -> Arguments:
    """Read a command line, by default `sys.argv[1:]`: checked arguments, with the model resolved.

    Raises `InputError` where a value is out of range, or the YAML file is missing, broken or has an unknown key;
    `SystemExit` for an unknown flag or an unreadable value (exit code 2), and for `--help`.
    """
    parser = FlagParser([group.type for group in dataclasses.fields(Arguments)], prog=prog)
    arguments = Arguments.from_dict(vars(parser.parse_with_config(argv)))
    if arguments.model.model_name_or_path is None:
        arguments.model.model_name_or_path = default_model(arguments.data.dataset_name)
    return arguments

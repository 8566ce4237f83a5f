"""What `hf-clipselect completion` does: print what makes a shell complete commands, flags, choices and files."""

import sys
from argparse import SUPPRESS, Action, ArgumentParser, Namespace
from typing import Any

import shtab

from .command_parsers import parser_of
from .command_table import COMMANDS


_PROG = "hf-clipselect"
# The last words of what a value is called in the help, for values that are looked for on the disk.
_FILES, _FOLDERS = {"FILE", "FILES", "PATH", "CONFIG"}, {"DIR", "DIRS"}


def run_command(arguments: Namespace) -> None:
    """Print the script.

    Args:
        arguments (`argparse.Namespace`): Of the parser of this command, see `command_parsers`.
    """
    sys.stdout.write(shtab.complete(_parser_of_all(), shell=arguments.shell))


def _parser_of_all() -> ArgumentParser:
    """One parser in which each command is a subcommand."""

    def of_command(*, prog: str, **_: Any) -> ArgumentParser:
        return parser_of(prog.rpartition(" ")[2], prog)

    parser = ArgumentParser(prog=_PROG)
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    commands: Any = parser.add_subparsers(parser_class=of_command)  # type: ignore[call-overload]
    for name, does in COMMANDS.items():
        for action in commands.add_parser(name, help=does)._actions:
            if (kind := _where_it_lies(action)) is not None:
                action.complete = kind
    return parser


def _where_it_lies(action: Action) -> Any:
    """What of the disk `shtab` is to offer for a value; None where it is no file and no folder."""
    if action.help == SUPPRESS or action.nargs == 0 or action.choices is not None:
        return None
    words = set(str(action.metavar or action.dest).upper().split("_"))
    if words & _FILES:
        return shtab.FILE
    return shtab.DIRECTORY if words & _FOLDERS else None

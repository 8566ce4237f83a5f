"""The command line: `hf-clipselect select ...` and its other commands, and what recipes/select.py runs.

What a command needs is imported when it runs: torch takes seconds, which `--help` need not wait for, and in which a
Ctrl-C may come.
"""

import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from ..errors import InputError, RunError, long_paths_refused
from ..runtime.interrupts import Interrupts, ignore_from_here
from ..runtime.terminal import error_line, is_main_process, printable
from ..runtime.words import did_you_mean
from .command_parsers import parser_of
from .command_table import COMMANDS, run_parsed
from .streams import lasting_streams


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console command; returns the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    command: _Command = _Usage(given)
    if given[:1] == ["select"]:
        command = _Select(given[1:], prog="hf-clipselect select")
    elif given and given[0] in COMMANDS:
        command = _Named(given[0], given[1:])
    return _in_order(command, ends_process=argv is None)


def select(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Run a selection from the flags of a command line, by default those of this process, which is to end with it.

    Returns the exit code: 0; or, after one line on stderr, 2 for wrong input, 1 for a machine or a Hub that failed,
    130 for Ctrl-C and 143 for SIGTERM. `prog` is the name of the program in `--help`.
    """
    return _in_order(_Select(argv, prog=prog), ends_process=argv is None)


class _Command(Protocol):
    """What is typed; called, it gives the exit code. `where` is the output folder, once it is known."""

    where: str | None

    def __call__(self) -> int: ...


class _Usage:
    where: str | None = None

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv

    def __call__(self) -> int:
        if self.argv in (["-h"], ["--help"]):
            sys.stdout.write(_usage())
        elif self.argv == ["--version"]:
            from importlib.metadata import version  # noqa: PLC0415

            sys.stdout.write(f"hf-clipselect {version('hf_clipselect')}\n")
        elif self.argv:
            given, known = self.argv[0], ", ".join(COMMANDS)
            meant = did_you_mean(given, COMMANDS)
            sys.stderr.write(f"error: unknown command {printable(repr(given))}; the commands are: {known}{meant}\n")
            return 2
        else:
            sys.stderr.write(_usage())
            return 2
        return 0


def _usage() -> str:
    width = max(map(len, COMMANDS))
    commands = "".join(f"  {name:{width}}  {does}\n" for name, does in COMMANDS.items())
    return (
        "usage: hf-clipselect COMMAND [flags]\n       hf-clipselect --version\n\n"
        f"commands:\n{commands}\nFlags of a command: hf-clipselect select --help\n"
    )


class _WithFlags(ABC):
    """A command that reads flags; what it does is in `_run`."""

    where: str | None = None

    def __call__(self) -> int:
        try:
            with long_paths_refused():
                self._run()
        except (InputError, RunError) as error:
            sys.stderr.write(error_line(error))
            return 2 if isinstance(error, InputError) else 1
        except SystemExit as ended:  # of the parser, which has said why
            return int(ended.code or 0)
        return 0

    @abstractmethod
    def _run(self) -> None:
        """Read the flags, and do what the command does."""


class _Select(_WithFlags):
    def __init__(self, argv: Sequence[str] | None, *, prog: str | None) -> None:
        self.argv, self.prog = argv, prog

    def _run(self) -> None:
        from ..config.command_line import parse_arguments  # noqa: PLC0415

        arguments = parse_arguments(self.argv, prog=self.prog)
        self.where = arguments.run.output_dir
        from .select_command import run_command  # noqa: PLC0415

        run_command(arguments)


class _Named(_WithFlags):
    """Any other command of the table."""

    def __init__(self, name: str, argv: Sequence[str]) -> None:
        self.name, self.argv = name, argv

    def _run(self) -> None:
        run_parsed(self.name, parser_of(self.name, f"hf-clipselect {self.name}").parse_args(self.argv))


def _in_order(command: _Command, *, ends_process: bool) -> int:
    """Run a command; Ctrl-C, SIGTERM and streams that nobody reads end it in one line, if at all."""
    with lasting_streams() as stdout:
        with Interrupts() as interrupts:
            try:
                code = command()
            except BaseException:
                # Whatever the interrupt became on its way: libraries turn it into errors of their own.
                if interrupts.received is None:
                    raise
            interrupts.over()
        if ends_process:
            ignore_from_here()
        if interrupts.received is not None:
            code = 128 + interrupts.received
            _tell_of(interrupts.received, command.where)
        elif (lost := stdout.lost) is not None:
            place = f" The results are in {command.where}." if code == 0 and command.where is not None else ""
            sys.stderr.write(f"error: stdout can't be written to: {lost}.{place}\n")
            code = code or 1
        if code != 0 and "hf_clipselect.runtime.launch" in sys.modules:
            sys.modules["hf_clipselect.runtime.launch"].exit_now(code)
    return code


def _tell_of(received: signal.Signals, where: str | None) -> None:
    if is_main_process():
        name = "Ctrl-C" if received is signal.SIGINT else received.name
        goes_on = "starts again" if where is None else f"goes on from what is in {where}"
        sys.stderr.write(f"Stopped by {name}: the same command {goes_on}.\n")

"""The command line: `hf-clipselect select ...` and its other commands, and what recipes/select.py runs.

What a command needs is imported when it runs: torch takes seconds, which `--help` need not wait for, and in which a
Ctrl-C may come.
"""

import signal
import sys
from collections.abc import Sequence
from typing import Protocol

from ..errors import InputError, RunError, long_paths_refused
from ..runtime.interrupts import Interrupts, ignore_from_here
from ..runtime.terminal import error_line, is_main_process, printable
from .streams import lasting_streams


_USAGE = """usage: hf-clipselect select [flags]
       hf-clipselect explore OUTPUT_DIR_OR_REPO [flags]
       hf-clipselect suspects OUTPUT_DIR_OR_REPO [flags]
       hf-clipselect --version

commands:
  select    turn a labelled image dataset into a smaller, cleaner one
  explore   look at a selection in the browser and decide about single rows
  suspects  show the most probably wrong labels of a selection

All flags of a command: hf-clipselect select --help
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console command; returns the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    named = _COMMANDS.get(given[0]) if given else None
    command: _Command = _Usage(given) if named is None else named(given[1:], f"hf-clipselect {given[0]}")
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
            sys.stdout.write(_USAGE)
        elif self.argv == ["--version"]:
            from importlib.metadata import version  # noqa: PLC0415

            sys.stdout.write(f"hf-clipselect {version('hf_clipselect')}\n")
        elif self.argv:
            known = ", ".join(_COMMANDS)
            sys.stderr.write(f"error: unknown command {printable(repr(self.argv[0]))}; the commands are: {known}\n")
            return 2
        else:
            sys.stderr.write(_USAGE)
            return 2
        return 0


class _WithFlags:
    """A command that reads flags; what it does is in `_run`."""

    where: str | None = None

    def __init__(self, argv: Sequence[str] | None, prog: str | None) -> None:
        self.argv, self.prog = argv, prog

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

    def _run(self) -> None:
        raise NotImplementedError


class _Select(_WithFlags):
    def _run(self) -> None:
        from ..config.command_line import parse_arguments  # noqa: PLC0415

        arguments = parse_arguments(self.argv, prog=self.prog)
        self.where = arguments.run.output_dir
        from .select_command import run_command  # noqa: PLC0415

        run_command(arguments)


class _Suspects(_WithFlags):
    def _run(self) -> None:
        from .suspects_command import run_command, suspects_parser  # noqa: PLC0415

        run_command(suspects_parser(self.prog).parse_args(self.argv))


class _Explore(_WithFlags):
    def _run(self) -> None:
        from .explore_command import explore_parser, run_command  # noqa: PLC0415

        run_command(explore_parser(self.prog).parse_args(self.argv))


_COMMANDS: dict[str, type[_WithFlags]] = {"select": _Select, "explore": _Explore, "suspects": _Suspects}


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

"""What `hf-clipselect show` does: print the summary of a run, or of a published selection."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..config.command_parser import CommandParser
from ..selection import config_name
from .given_selection import add_selection, read_selection
from .run_summary import subset_folder, summary_lines


_DESCRIPTION = """\
Print the summary of a run, or of a published selection, in at most ten lines.

  hf-clipselect show clipselect_output
  hf-clipselect show me/digits-pruned --revision v1"""


def run_command(arguments: Namespace) -> None:
    """Print what a selection is, and how to go on from it.

    Args:
        arguments (`argparse.Namespace`): Of [`show_parser`].

    Raises:
        InputError: There is no such selection.
    """
    result = read_selection(arguments.selection, arguments.revision)
    place, scores_only = arguments.selection, True  # the call for scores alone loads a repository with images too
    if Path(place).is_dir():
        place = Path(place)
        scores_only = not (subset_folder(place) / config_name(result.ratios[0])).is_dir()
    lines = summary_lines(result, place, scores_only=scores_only, revision=arguments.revision)
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def show_parser(prog: str | None = None) -> ArgumentParser:
    """What reads the flags of the command.

    Args:
        prog (`str`, *optional*): Its name in `--help`.

    Returns:
        `argparse.ArgumentParser`
    """
    parser = CommandParser(prog=prog, description=_DESCRIPTION)
    add_selection(parser)
    return parser

"""What `hf-clipselect show` does: print the summary of a run, or of a published selection."""

import sys
from argparse import Namespace
from pathlib import Path

from ..selection import config_name
from .given_selection import read_selection
from .run_summary import subset_folder, summary_lines


def run_command(arguments: Namespace) -> None:
    """Print what a selection is, and how to go on from it.

    Args:
        arguments (`argparse.Namespace`): Of the parser of this command, see `command_parsers`.

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

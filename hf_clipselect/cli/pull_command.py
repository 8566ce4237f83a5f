"""What `hf-clipselect pull` does: get a published selection at any size, as a folder that `load_dataset` reads."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Literal

from ..config.command_parser import CommandParser
from ..errors import InputError
from ..results.pruned import load_pruned
from ..runtime.files import make_folder
from ..runtime.folders import replaced
from ..runtime.parquet import write_parquet
from ..runtime.terminal import printable
from ..runtime.words import counted
from .given_selection import check_repo
from .run_summary import load_folder_call


_DESCRIPTION = """\
Get the kept rows of a published selection, of the sizes that were published or
of any other, which the scores tell. The folder then holds them as Parquet, with
the columns of the source, source_index, sas, sds and selection_score.

  hf-clipselect pull me/digits-pruned --selection_ratio 0.5 --output_dir half
  hf-clipselect pull me/digits-pruned --selection_count 500 --output_dir few"""


def run_command(arguments: Namespace) -> None:
    """Write the rows into the folder, and print the call that loads them.

    Args:
        arguments (`argparse.Namespace`): Of [`pull_parser`].

    Raises:
        InputError: There is no such selection, its source can't be loaded, not one size is given, or the folder is
            not empty.
    """
    ratio, count, folder = arguments.selection_ratio, arguments.selection_count, Path(arguments.output_dir)
    if (ratio is None) == (count is None):
        given = "neither" if ratio is None else "both"
        raise InputError(f"Give the size by --selection_ratio or by --selection_count, not {given}.")
    check_repo(arguments.repo)
    _check_is_free(folder)
    rows = load_pruned(arguments.repo, ratio=ratio, count=count, revision=arguments.hub_revision)
    make_folder(folder.absolute().parent, "--output_dir")
    with replaced(folder.absolute(), is_ours=lambda _: False) as new:
        _check_is_free(folder)
        write_parquet(rows, new)
    sys.stdout.write(f"{counted(len(rows), 'row')} of {printable(arguments.repo)}\n")
    sys.stdout.write(f"load: {printable(load_folder_call(folder))}\n")


def _check_is_free(folder: Path) -> None:
    try:
        taken = folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))
    except OSError as error:
        raise InputError(f"--output_dir {str(folder)[:100]} can't be used: {error.strerror}.") from None
    if taken:
        raise InputError(f"--output_dir {folder} is not empty or no folder; give a new or an empty one.")


def _size(text: str) -> float | Literal["auto"]:
    return "auto" if text == "auto" else float(text)


def pull_parser(prog: str | None = None) -> ArgumentParser:
    """What reads the flags of the command.

    Args:
        prog (`str`, *optional*): Its name in `--help`.

    Returns:
        `argparse.ArgumentParser`
    """
    parser = CommandParser(prog=prog, description=_DESCRIPTION)
    parser.add_argument("repo", metavar="REPO", help="Dataset repository, or the output folder of a run.")
    parser.add_argument("--selection_ratio", type=_size, help="Fraction of the rows to keep, in (0, 1], or auto.")
    parser.add_argument("--selection_count", type=int, help="Number of rows to keep, instead of a ratio.")
    parser.add_argument("--output_dir", required=True, help="Folder to write, new or empty.")
    parser.add_argument("--hub_revision", help="Branch, tag or commit of the repository; default: main.")
    return parser

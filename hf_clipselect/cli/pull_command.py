"""What `hf-clipselect pull` does: get a published selection at any size, as a folder that `load_dataset` reads."""

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Literal

from datasets import Dataset

from ..config.command_parser import CommandParser
from ..data.outside_files import check_files_stay_inside
from ..errors import InputError
from ..results.pruned import load_pruned
from ..runtime.failures import explained_failures
from ..runtime.files import make_folder
from ..runtime.folders import replaced
from ..runtime.parquet import write_parquet
from ..runtime.terminal import printable
from ..runtime.words import counted
from .given_selection import add_selection, check_repo
from .run_summary import load_folder_call


_DESCRIPTION = """\
Get the kept rows of a published selection, of the sizes that were published or
of any other, which the scores tell. The folder then holds them as Parquet, with
the columns of the source, source_index, sas, sds and selection_score.

Sizes that were not written or published take their rows from the dataset on the
Hub that was selected from. Of data in a local folder or in memory only the sizes
that were written can be had; for another one, select again with it.

  hf-clipselect pull me/digits-pruned --selection_ratio 0.5 --output_dir half
  hf-clipselect pull me/digits-pruned --selection_count 500 --output_dir few"""


def run_command(arguments: Namespace) -> None:
    """Write the rows into the folder, and print the call that loads them.

    Args:
        arguments (`argparse.Namespace`): Of [`pull_parser`].

    Raises:
        InputError: There is no such selection, its source can't be loaded, not one size is given, the folder is not
            empty, or a row names a file of this machine that is not the dataset's.
        RunError: The folder can't be written to, or the disk is full.
    """
    ratio, count, folder = arguments.selection_ratio, arguments.selection_count, Path(arguments.output_dir)
    if (ratio is None) == (count is None):
        given = "neither" if ratio is None else "both"
        raise InputError(f"Give the size by --selection_ratio or by --selection_count, not {given}.")
    check_repo(arguments.selection)
    _check_is_free(folder)
    rows = load_pruned(arguments.selection, ratio=ratio, count=count, revision=arguments.revision)
    # Who wrote the rows could name any file of whoever pulls them.
    check_files_stay_inside(rows, arguments.selection, way_out="")
    make_folder(folder.absolute().parent, "--output_dir")
    with explained_failures(None):
        _write(rows, folder)
    sys.stdout.write(f"{counted(len(rows), 'row')} of {printable(arguments.selection)}\n")
    sys.stdout.write(f"load: {printable(load_folder_call(folder))}\n")


def _write(rows: Dataset, folder: Path) -> None:
    if folder.is_dir():  # where we are, a mount point, a link: another folder can't take its place
        write_parquet(rows, folder.absolute())
        return
    with replaced(folder.absolute(), is_ours=lambda _: False) as new:
        _check_is_free(folder)
        write_parquet(rows, new)


def _check_is_free(folder: Path) -> None:
    try:
        taken = folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))
    except OSError as error:
        raise InputError(f"--output_dir {str(folder)[:100]} can't be used: {error.strerror}.") from None
    if taken:
        raise InputError(f"--output_dir {folder} is not empty or no folder; give a new or an empty one.")


def _size(text: str) -> float | Literal["auto"]:
    try:
        return "auto" if text == "auto" else float(text)
    except ValueError:
        raise ArgumentTypeError(f"expected a fraction in (0, 1], or auto, got {text!r}") from None


def pull_parser(prog: str | None = None) -> ArgumentParser:
    """What reads the flags of the command.

    Args:
        prog (`str`, *optional*): Its name in `--help`.

    Returns:
        `argparse.ArgumentParser`
    """
    parser = CommandParser(prog=prog, description=_DESCRIPTION)
    add_selection(parser)
    parser.add_argument("--selection_ratio", type=_size, help="Fraction of the rows to keep, in (0, 1], or auto.")
    parser.add_argument("--selection_count", type=int, help="Number of rows to keep, instead of a ratio.")
    parser.add_argument("--output_dir", required=True, help="Folder to write, new or empty.")
    return parser

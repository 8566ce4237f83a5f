"""What `hf-clipselect pull` does: get a published selection at any size, as a folder that `load_dataset` reads."""

import sys
from argparse import Namespace
from pathlib import Path

from datasets import Dataset

from ..data.outside_files import check_files_stay_inside
from ..errors import InputError
from ..results.pruned import load_pruned
from ..runtime.failures import explained_failures
from ..runtime.files import make_folder
from ..runtime.folders import replaced
from ..runtime.parquet import write_parquet
from ..runtime.terminal import printable
from ..runtime.words import counted
from .given_selection import check_repo
from .run_summary import load_folder_call


def run_command(arguments: Namespace) -> None:
    """Write the rows into the folder, and print the call that loads them.

    Args:
        arguments (`argparse.Namespace`): Of the parser of this command, see `command_parsers`.

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

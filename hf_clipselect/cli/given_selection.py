"""A selection that a command is given: the output folder of a run, its subset folder, or a dataset repository."""

from argparse import ArgumentParser
from pathlib import Path

from ..errors import InputError
from ..results.selection_result import SelectionResult


def add_selection(parser: ArgumentParser) -> None:
    """Take a selection, and the revision of a repository."""
    parser.add_argument(
        "selection",
        metavar="OUTPUT_DIR_OR_REPO",
        help="Output folder of a run, its subset folder, or a dataset repository.",
    )
    parser.add_argument("--revision", help="Branch, tag or commit of the repository.")


def add_images(parser: ArgumentParser) -> None:
    """Take the dataset that the selection was made from, for its images."""
    parser.add_argument(
        "--dataset_name",
        metavar="NAME_OR_PATH",
        help="Hub id or folder of the dataset that the selection was made from.",
    )
    parser.add_argument("--dataset_config_name", help="Its configuration; default the recorded one.")
    parser.add_argument("--train_split_name", help="Its split; default the recorded one.")
    parser.add_argument(
        "--allow_outside_files",
        action="store_true",
        help="Rows may name image files outside of the dataset's own folder.",
    )


def read_selection(place: str, revision: str | None) -> SelectionResult:
    """The scores and the report of a selection; raises `InputError` where there is none that can be read."""
    if not Path(place).is_dir():
        check_repo(place)
        return SelectionResult.from_hub(place, revision)
    if revision is not None:
        raise InputError(f"{place} is a local folder, which has no --revision; leave it out.")
    return SelectionResult.from_folder(place)


def check_repo(place: str) -> None:
    """Refuse what is no folder of this machine and can't be a repository either, before the Hub is asked for it."""
    if "/" not in place and not Path(place).is_dir():
        raise InputError(
            f"There is no folder {place}; give the output folder of a run, or a repository such as me/digits-pruned."
        )

"""A selection that a command is given: the output folder of a run, its subset folder, or a dataset repository."""

from pathlib import Path

from ..errors import InputError
from ..results.selection_result import SelectionResult


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

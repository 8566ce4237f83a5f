"""The selection.json behind rows that a user names."""

from pathlib import Path
from typing import Any

from ...results.saved_selection import read_selection
from ...runtime.downloads import fetch_files
from ...runtime.hub_ids import is_hub_id


def read_selection_behind(name: str, *, on_hub: bool = False) -> dict[str, Any] | None:
    """What the selection.json of a folder or a repository tells, as [`read_selection`] gives it.

    Args:
        name (`str`): The output folder of a run, its `subset` folder, or a Hub id.
        on_hub (`bool`, *optional*, defaults to `False`): Look on the Hub too.

    Returns:
        `dict`, *optional*: `None` where there is none that can be read.
    """
    folders = [folder for folder in (Path(name), Path(name, "subset")) if (folder / "selection.json").is_file()]
    try:
        if not folders and on_hub and is_hub_id(name):
            folders = [fetch_files(name, ["selection.json"], repo_type="dataset").folder]
        return read_selection(folders[0] / "selection.json") if folders else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):  # InputError is a ValueError
        return None

"""Scores, masks and lists of a selection from shards to the Hub, in as many commits as their number asks for."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datatrove.io import DataFolder

from ..hub.access import check_access
from ..hub.push import CARD, Pushed, Repository, push_files
from .masks import MASKS
from .score_files import SCORES
from .uid_lists import LISTS


# Files of one commit: the Hub takes some thousands, and a push that fails is repeated from its last commit on.
FILES_PER_COMMIT = 1000
_WRITTEN = re.compile(rf"({SCORES}|{MASKS})/.+\.parquet|{LISTS}/(ratio|count)_[0-9_]+\.npy")


def check_push(repository: Repository) -> None:
    """Refuse, before anything is written, a push that would fail; raises as [`check_access`]."""
    check_access(repository, flags={"dataset": "hub_dataset_id"})


def push_selection(work: DataFolder, paths: list[str], card: str, repository: Repository) -> Pushed:
    """Push files of the working folder, under the paths that they have there, and the card, in parts.

    The scores go first, since masks and lists follow from them; the card comes with every part, so that the repository
    tells from the first one on what it holds. What is there already is not sent again; scores, masks and lists there
    that are not among the files are of an earlier push, and go. Raises `PushError` where the Hub refuses, or fails
    time after time.
    """
    ours = set(paths)
    ordered = sorted(paths, key=lambda path: (not path.startswith(f"{SCORES}/"), path))
    parts = [ordered[start : start + FILES_PER_COMMIT] for start in range(0, len(ordered), FILES_PER_COMMIT)]
    for number, part in enumerate(parts, start=1):
        message = "Selection by hf_clipselect" + (f" (part {number} of {len(parts)})" if len(parts) > 1 else "")
        with _on_this_machine(work, part) as files:
            pushed = push_files(
                repository,
                {CARD: card.encode(), **files},
                message=message,
                is_stale=lambda path: path not in ours and _WRITTEN.fullmatch(path) is not None,
            )
    return pushed


@contextmanager
def _on_this_machine(work: DataFolder, paths: list[str]) -> Iterator[dict[str, Path]]:
    """The files as files of this machine: where they are, or copies for the time being."""
    if work.is_local():
        yield {path: Path(work.resolve_paths(path)) for path in paths}
        return
    with tempfile.TemporaryDirectory() as folder:
        copies = {path: Path(folder, path) for path in paths}
        for path, copy in copies.items():
            copy.parent.mkdir(parents=True, exist_ok=True)
            work.get_file(path, str(copy))
        yield copies

"""A finished run on the Hub: the adapters, then the subset whose card names their commit, then the tags."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.arguments import HubArguments
from ..runtime.folders import check_kind, check_kinds
from .access import check_access
from .cards import adapter_card, subset_card
from .merge import OUR_CONFIG, write_card
from .published_adapter import publishable_adapter
from .push import CARD, Pushed, Repository, add_tag, push_files


logger = logging.getLogger(__name__)

# What earlier pushes left: their shards go when this push has none of that name. Everything else in a repository
# stays.
_OUR_SHARD = re.compile(rf"(?:{OUR_CONFIG.pattern})/train-\d{{5}}-of-\d{{5}}\.parquet")


def is_subset_file(path: str) -> bool:
    """Whether a run writes a file of this path into a folder of subsets, beside its card."""
    return path == "selection.json" or _OUR_SHARD.fullmatch(path) is not None


def check_subset_folder(folder: Path) -> None:
    """Refuse a folder of subsets in which something else is where its files and folders are to be written.

    Args:
        folder (`Path`): The folder; it need not be there.

    Raises:
        InputError: As [`check_kind`].
    """
    check_kind(folder / CARD, folder=False)
    check_kinds(folder, is_ours=is_subset_file, is_our_folder=lambda path: OUR_CONFIG.fullmatch(path) is not None)


@dataclass(frozen=True)
class Destination:
    """Where a run is published.

    Args:
        dataset (`Repository`): For the subset and the scores.
        model (`Repository`, *optional*): For the adapters; without it they are not published.
    """

    dataset: Repository
    model: Repository | None = None

    @classmethod
    def from_arguments(cls, arguments: HubArguments) -> "Destination":
        """The destination that the flags name; `arguments.push_to_hub` is true."""
        how = {
            "private": arguments.hub_private_repo,
            "branch": arguments.hub_revision,
            "create_pr": arguments.create_pr,
            "tag": arguments.hub_tag,
        }
        model = Repository(arguments.hub_model_id, "model", **how) if arguments.hub_model_id is not None else None
        return cls(Repository(arguments.hub_dataset_id, "dataset", **how), model)

    def check(self) -> None:
        """Refuse what would fail at the end of a run; see [`check_access`] for what it raises."""
        repositories = [self.dataset, *([self.model] if self.model is not None else [])]
        check_access(*repositories, flags={"dataset": "hub_dataset_id", "model": "hub_model_id"})


def publish(
    report: Mapping[str, Any], subset: Path, destination: Destination, *, adapter: Path | None = None
) -> list[Pushed]:
    """Push a subset folder, and adapters if there are any.

    The README.md of both folders is written anew on the way; there and on the Hub it is merged with what people wrote.
    Each repository gets one commit at most; what is there already is found, and only missing tags are added.

    Args:
        report (`Mapping[str, Any]`): What report.json holds.
        subset (`Path`): Folder with selection.json, `scores/` and any of `ratio_*/`, which are pushed; what people put
            beside them is not.
        destination (`Destination`): Where to; `destination.check()` tells beforehand whether it can work.
        adapter (`Path`, *optional*): PEFT folder of the adapters that the scores come from.

    Returns:
        `list[Pushed]`: The adapters' repository if they were pushed, then the dataset's.

    Raises:
        PushError: The Hub refuses, or fails time after time; calling again goes on from there.
        InputError: A card that stands on the Hub can't be read.
    """
    pushed = []
    adapters = _adapters_on_the_hub(report, destination, adapter, pushed)
    card = subset_card(
        report,
        subset,
        repo_id=destination.dataset.repo_id,
        adapter_id=adapters and adapters.repo_id,
        adapter_revision=adapters and adapters.commit,
    )
    write_card(subset / CARD, card)
    if not report["source"]["license"]:
        logger.warning(
            "The source states no license that is known here, so our part of the card names none: add it there."
        )
    found = {path.relative_to(subset).as_posix(): path for path in sorted(subset.rglob("*"))}
    files = {name: path for name, path in found.items() if is_subset_file(name) and path.is_file()}
    names = sorted({path.parent.name for name, path in files.items() if "/" in name})
    data = push_files(
        destination.dataset,
        {**files, CARD: card.encode()},
        message=f"Publish {' and '.join(names)}, selected with hf_clipselect",
        is_stale=lambda path: _OUR_SHARD.fullmatch(path) is not None,
    )
    pushed.append(data)
    for part in pushed:
        tag = None if destination.dataset.create_pr else add_tag(part, destination.dataset.tag)
        state = "pushed to" if part.is_new else "unchanged, no commit made:"
        logger.info("%s: %s %s%s", part.repo_id, state, part.url, f" (tag {tag})" if tag else "")
    return pushed


def _adapters_on_the_hub(
    report: Mapping[str, Any], destination: Destination, adapter: Path | None, pushed: list[Pushed]
) -> Pushed | None:
    """Push the adapters, and add them to what was pushed; None where the card has none to name but those that were
    given.
    """
    model, given = destination.model, report["adaptation"].get("adapter")
    if model is None:
        if adapter is not None and given is None:
            logger.warning("The adapters are not published; --hub_model_id names a repository for them.")
        return None
    if adapter is None:
        logger.warning("Plain CLIP was kept, so there are no adapters for %s: nothing is pushed there.", model.repo_id)
        return None
    if given is not None and given["name"] == model.repo_id:
        logger.info("The adapters come from %s: they are not pushed there again.", model.repo_id)
        return None
    card = adapter_card(report, repo_id=model.repo_id)
    write_card(adapter / CARD, card)
    pushed.append(
        push_files(
            model,
            {**publishable_adapter(adapter), CARD: card.encode()},
            message="Publish adapters used by hf_clipselect" if given else "Publish adapters trained by hf_clipselect",
            is_stale=lambda path: False,
        )
    )
    return pushed[-1]

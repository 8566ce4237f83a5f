"""A finished run on the Hub: the adapters, then the subset whose card names their commit, then the tags."""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.arguments import HubArguments
from ..errors import InputError, PushError
from ..runtime.folders import check_kind, check_kinds
from ..runtime.hub_ids import EMBEDDED_PREFIX, is_hub_id
from .access import check_access, check_license_is_known
from .cards import PREVIEW, adapter_card, stated_license, subset_card
from .merge import OUR_CONFIG, write_card
from .push import CARD, Changes, Pushed, Repository, add_tag, planned_changes, push_files


logger = logging.getLogger(__name__)

# What earlier pushes left: their shards and their picture go when this push has none of that name. All else in a
# repository stays.
_OUR_SHARD = re.compile(rf"(?:{OUR_CONFIG.pattern})/train-\d{{5}}-of-\d{{5}}\.parquet|{re.escape(PREVIEW)}")


def is_subset_file(path: str) -> bool:
    """Whether a run writes a file of this path into a folder of subsets, beside its card."""
    return path == "selection.json" or _OUR_SHARD.fullmatch(path) is not None


def check_subset_folder(folder: Path) -> None:
    """Refuse a folder of subsets in which something else stands where a run writes a file or a folder."""
    check_kind(folder / CARD, folder=False)
    check_kinds(folder, is_ours=is_subset_file, is_our_folder=lambda path: OUR_CONFIG.fullmatch(path) is not None)


@dataclass(frozen=True)
class Destination:
    """Where a run is published: its subset and scores, and its adapters where there is a repository for them."""

    dataset: Repository
    model: Repository | None = None
    license: str | None = None  # that the card of the subset is to state, where the user names one

    @classmethod
    def to(cls, dataset_id: str, model_id: str | None, *, license: str | None = None, **how: Any) -> "Destination":
        """The two repositories by their ids; `how` is the rest of a [`Repository`], the same for both."""
        model = None if model_id is None else Repository(model_id, "model", **how)
        return cls(Repository(dataset_id, "dataset", **how), model, license)

    @classmethod
    def from_arguments(cls, arguments: HubArguments) -> "Destination":
        """The destination that the flags name; `arguments.push_to_hub` is true."""
        return cls.to(
            arguments.hub_dataset_id or "",
            arguments.hub_model_id,
            license=arguments.license,
            private=arguments.hub_private_repo,
            branch=arguments.hub_revision,
            create_pr=arguments.create_pr,
            tag=arguments.hub_tag,
        )

    def check(self) -> None:
        """Refuse what would fail at the end of a run; see [`check_access`] for what it raises."""
        repositories = [self.dataset, *([self.model] if self.model is not None else [])]
        check_access(*repositories, flags={"dataset": "hub_dataset_id", "model": "hub_model_id"})
        if self.license is not None:
            check_license_is_known(self.license)


def check_is_not_source(dataset_id: str | None, source: str | None) -> None:
    """Refuse to push a subset to the repository that it was selected from."""
    if dataset_id is not None and dataset_id == source:
        raise InputError(
            f"--hub_dataset_id {dataset_id} is the source itself, which the subset would take the place of; choose "
            "another repository."
        )


def publish(
    report: Mapping[str, Any], subset: Path, destination: Destination, *, adapter: Path | None = None
) -> list[Pushed]:
    """Push a subset folder, and the adapters that the scores come from, if there are any.

    The README.md of both folders is written anew on the way; there and on the Hub it is merged with what people wrote.
    Each repository gets one commit at most; what is there already is found, and only missing tags are added. Of the
    subset folder selection.json, the picture of the card and the shards in `scores/`, `ratio_*/` and `count_*/` are
    pushed, and nothing else.
    `destination.check()` tells beforehand whether it can work.

    Returns the adapters' repository if they were pushed, then the dataset's. Raises `PushError` where the Hub refuses,
    or fails time after time; calling again goes on from there; and `InputError` where a card that stands on the Hub
    can't be read.
    """
    adapters = _push_adapters(report, destination.model, adapter)
    if not stated_license(report):
        logger.warning(
            "The source states no license that is known here, so our part of the card names none: --license names it."
        )
    try:
        data = _push_subset(report, subset, destination.dataset, adapters)
    except PushError as error:
        if '"license" must be one of' not in str(error):
            raise
        logger.warning("The Hub knows no license %r: the card names it beside `other`.", stated_license(report))
        data = _push_subset(report, subset, destination.dataset, adapters, license_is_known=False)
    pushed = [data] if adapters is None else [adapters, data]
    dataset = destination.dataset
    for part in pushed:
        tag = None if dataset.create_pr else add_tag(part, dataset.tag, token=dataset.token)
        state = "pushed to" if part.is_new else "unchanged, no commit made:"
        logger.info("%s: %s %s%s", part.repo_id, state, part.url, f" (tag {tag})" if tag else "")
    return pushed


def planned(
    report: Mapping[str, Any], subset: Path, destination: Destination, *, adapter: Path | None = None
) -> list[Changes]:
    """What [`publish`] would change, of the same repositories in the same order; nothing is written or sent.

    Where the adapters would get a new commit, the size of the dataset's card is that of one which names none.
    """
    model, parts, adapters = destination.model, [], None
    if model is not None and (files := _adapter_files(report, model, adapter)) is not None:
        parts.append(planned_changes(model, files, is_stale=lambda path: False))
        adapters = (model.repo_id, parts[0].commit)
    card = _subset_card(report, subset, destination.dataset, adapters)
    return [*parts, planned_changes(destination.dataset, _subset_files(subset, card), is_stale=_is_our_shard)]


def _is_our_shard(path: str) -> bool:
    return _OUR_SHARD.fullmatch(path) is not None


def _push_subset(
    report: Mapping[str, Any],
    subset: Path,
    repository: Repository,
    adapters: Pushed | None,
    *,
    license_is_known: bool = True,
) -> Pushed:
    known = None if adapters is None else (adapters.repo_id, adapters.commit)
    card = _subset_card(report, subset, repository, known, license_is_known=license_is_known)
    write_card(subset / CARD, card)
    files = _subset_files(subset, card)
    names = sorted({name.partition("/")[0] for name in files if "/" in name})
    return push_files(
        repository,
        files,
        message=f"Publish {' and '.join(names)}, selected with hf_clipselect",
        is_stale=_is_our_shard,
    )


def _subset_card(
    report: Mapping[str, Any],
    subset: Path,
    repository: Repository,
    adapters: tuple[str, str | None] | None,
    *,
    license_is_known: bool = True,
) -> str:
    """The card of the subset; `adapters` are their repository and commit."""
    adapter_id, adapter_revision = adapters or (None, None)
    return subset_card(
        report,
        subset,
        repo_id=repository.repo_id,
        adapter_id=adapter_id,
        adapter_revision=adapter_revision,
        license_is_known=license_is_known,
    )


def _subset_files(subset: Path, card: str) -> dict[str, Path | bytes]:
    found = {path.relative_to(subset).as_posix(): path for path in sorted(subset.rglob("*"))}
    files = {name: path for name, path in found.items() if is_subset_file(name) and path.is_file()}
    return {**files, CARD: card.encode()}


def _push_adapters(report: Mapping[str, Any], model: Repository | None, adapter: Path | None) -> Pushed | None:
    """Push the adapters; None where there are none, no repository is named, or they come from that one."""
    if model is None:
        if adapter is not None and report["adaptation"].get("adapter") is None:
            logger.warning("The adapters are not published; --hub_model_id names a repository for them.")
        return None
    files = _adapter_files(report, model, adapter)
    if adapter is None or files is None:
        return None
    write_card(adapter / CARD, adapter_card(report, repo_id=model.repo_id))
    given = report["adaptation"].get("adapter")
    return push_files(
        model,
        files,
        message="Publish adapters used by hf_clipselect" if given else "Publish adapters trained by hf_clipselect",
        is_stale=lambda path: False,
    )


def _adapter_files(
    report: Mapping[str, Any], model: Repository, adapter: Path | None
) -> dict[str, Path | bytes] | None:
    """What goes into the adapters' repository; None where nothing does, after a sentence that says why."""
    if adapter is None:
        logger.warning("Plain CLIP was kept, so there are no adapters for %s: nothing is pushed there.", model.repo_id)
        return None
    given = report["adaptation"].get("adapter")
    if given is not None and given["name"] == model.repo_id:
        logger.info("The adapters come from %s: they are not pushed there again.", model.repo_id)
        return None
    return {**publishable_adapter(adapter), CARD: adapter_card(report, repo_id=model.repo_id).encode()}


def publishable_adapter(folder: Path) -> dict[str, bytes | Path]:
    """The files of an adapter folder by their paths in a repository, without the card.

    The config is the file's, byte for byte, unless the base model that it names is a folder of this machine: then it
    names none. `InputError` where `adapter_config.json` or `adapter_model.safetensors` is missing.
    """
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise InputError(f"{folder} has no {name}; give the folder `adapter` of a run, which holds its adapters.")
    content = (folder / "adapter_config.json").read_bytes()
    config = json.loads(content)
    base = config.get("base_model_name_or_path")
    if base and not base.startswith(EMBEDDED_PREFIX) and not is_hub_id(base, revision=config.get("revision")):
        content = json.dumps({**config, "base_model_name_or_path": None}, indent=2, sort_keys=True).encode()
    return {"adapter_config.json": content, "adapter_model.safetensors": folder / "adapter_model.safetensors"}

"""A published subset as a dataset, also where only its scores were published."""

from pathlib import Path
from typing import Literal

from datasets import Dataset
from huggingface_hub.repocard import metadata_load
from yaml import YAMLError

from ..config.python_calls import python_door
from ..data.source import DatasetSource, load_source
from ..errors import InputError
from ..runtime.downloads import fetch_files
from ..runtime.hub_ids import EMBEDDED_PREFIX, is_hub_id
from ..selection import check_sizes, config_name
from .selection_result import SelectionResult


# A card that people wrote a book into has less.
_MOST_BYTES = 10_000_000


@python_door(selection_ratio="ratio", selection_count="count", dataset_name="repo")
def load_pruned(
    repo: str | Path,
    *,
    ratio: float | Literal["auto"] | None = None,
    count: int | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> Dataset:
    """Load the kept rows of a published selection.

    Where the repository has the images of that ratio, they are loaded from it. Otherwise the rows are selected by the
    scores, which works for any ratio, and taken from the source dataset, at the commit that the selection was made
    from.

    Args:
        repo (`str` or `Path`): Dataset repository on the Hub, or the output folder of a run, or its `subset` folder.
        ratio (`float` or `"auto"`, *optional*):
            Fraction of the rows to keep, in (0, 1], or `"auto"` for as many as have a right label, where the scores
            tell how probably labels are wrong.
        count (`int`, *optional*): Number of rows to keep, instead of a ratio.
        revision (`str`, *optional*): Branch, tag or commit of the repository; default `main`.
        token (`str`, *optional*): Token of the Hub, for the source too; default the logged-in one.

    Returns:
        `Dataset`: The source's own columns and features, then source_index, sas, sds and selection_score.

    Raises:
        InputError: Not one size is given; there is no such repository, revision or selection; the source can't be
            loaded by its name, because it was a local folder or a dataset in memory; or it is not the dataset that
            the selection was made from.

    Example:

    ```python
    subset = load_pruned("me/imagenet-scores", ratio=0.9)
    ```
    """
    if ratio is None and count is None:
        raise InputError("Give the size of the subset: ratio=0.5, or count=500.")
    sizes = check_sizes(ratio, count)
    if len(sizes) > 1:
        raise InputError(f"Expected one size, got {len(sizes)}: call load_pruned for each.")
    config = config_name(sizes[0])
    if Path(repo).is_dir():
        if revision is not None:
            raise InputError(f"{repo} is a local folder, which has no revision {revision!r}; leave revision out.")
        folder = Path(repo) if (Path(repo) / "selection.json").exists() else Path(repo) / "subset"
        place = str(folder)
    else:
        names = ["README.md", "selection.json"]
        fetched = fetch_files(str(repo), names, repo_type="dataset", revision=revision, token=token)
        folder, place, revision = fetched.folder, str(repo), fetched.revision
    if config in _configs(folder / "README.md"):
        return load_source(place, config, revision=revision, token=token)[0]
    if revision is None:
        result = SelectionResult.from_folder(folder)
    else:
        result = SelectionResult.from_hub(place, revision, token=token)
    result = result.at(ratio, count=count)
    return result.apply(load_source_of(result.source, place, token))


def _configs(card: Path) -> list[str]:
    """The configs that a card names; a folder or repository without a readable card has none."""
    try:
        if card.stat().st_size > _MOST_BYTES:
            return []
        configs = (metadata_load(card) or {}).get("configs")
        return [entry["config_name"] for entry in configs or []]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, YAMLError):
        return []


def load_source_of(source: DatasetSource, place: str, token: str | None = None) -> Dataset:
    """The split that a selection was made from, or its first rows, at its commit, not checked to be the same.

    Raises `InputError`, which names the folder or repository of the selection, for a local folder or a dataset in
    memory, and for what can't be loaded any more.
    """
    by_hand = f"load it yourself, and call SelectionResult.{{}}({place!r}).at(ratio).apply(dataset)"
    by_hand = by_hand.format("from_folder" if Path(place).is_dir() else "from_hub")
    is_embedded = source.name.startswith(EMBEDDED_PREFIX)
    if not is_embedded and not is_hub_id(source.name, revision=source.revision):
        local = "" if "://" in source.name else "the local folder "
        what = f"{local}{source.name}" if source.name else "a dataset in memory"
        raise InputError(
            f"The selection in {place} was made from {what}, which nobody else can load by name; {by_hand}."
        )
    try:
        dataset, _ = load_source(
            source.name,
            source.config_name,
            source.split or "train",
            revision=source.revision,
            data_dir=source.data_dir,
            data_files=source.data_files,
            token=token,
        )
    except InputError as error:
        raise InputError(
            f"The source of the selection in {place}, {source.describe()}, can't be loaded: {error}"
        ) from None
    return source.cut(dataset)

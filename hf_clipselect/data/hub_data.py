"""Rows from a dataset repository on the Hub."""

import logging
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset, load_dataset_builder
from huggingface_hub import hf_hub_download
from huggingface_hub.repocard import metadata_load

from ..runtime.hub_ids import COMMIT
from .local_data import Wanted


logger = logging.getLogger(__name__)


def load_repository(
    repo: str, wanted: Wanted, *, revision: str | None, data_dir: str | None, data_files: Sequence[str] | None
) -> tuple[Dataset, str | None]:
    """Load a split of a repository.

    Args:
        repo (`str`): Its id.
        wanted (`Wanted`): What of it.
        revision (`str`, *optional*): Branch, tag or commit; default `main`.
        data_dir (`str`, *optional*): Folder in it.
        data_files (`Sequence[str]`, *optional*): Files in it, or patterns of their names.

    Returns:
        `tuple[Dataset, str | None]`: The split, and the commit that it is of, 40 hexadecimal digits.

    Raises:
        Exception: Whatever `datasets` raises.
    """
    # The two steps of `load_dataset`, which does not tell the commit that a branch stood for.
    builder = load_dataset_builder(
        repo, wanted.config_name, revision=revision, data_dir=data_dir, data_files=data_files and list(data_files)
    )
    builder.download_and_prepare()
    commit = builder.hash if COMMIT.fullmatch(builder.hash or "") else None
    return wanted.pick(builder.as_dataset()), commit


def license_of_card(name: str, revision: str | None) -> str | None:
    """What the header of README.md says, which `datasets` does not read; several licenses are told side by side.

    Args:
        name (`str`): A folder, or a repository on the Hub.
        revision (`str`, *optional*): Commit of the repository.

    Returns:
        `str`, *optional*: The license, where one is stated.
    """
    try:
        card = Path(name) / "README.md"
        if not Path(name).is_dir():
            card = hf_hub_download(name, "README.md", repo_type="dataset", revision=revision)
        stated = (metadata_load(card) or {}).get("license")
    except Exception as error:
        # The rows are there; a card that is broken or out of reach must not stop a run, whatever is wrong with it.
        logger.debug("No license was read for %s: %s", name, error)
        return None
    licenses = [
        entry.strip() for entry in (stated if isinstance(stated, list) else [stated]) if isinstance(entry, str)
    ]
    return ", ".join(filter(None, licenses)) or None

"""Where a dataset comes from: loading it by name, and recognising it again."""

import hashlib
import json
import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, load_dataset_builder, load_from_disk
from datasets.exceptions import DatasetGenerationError, DatasetsError
from huggingface_hub import hf_hub_download
from huggingface_hub.repocard import metadata_load

from ..config import EMBEDDED_DATASET
from ..embedded import load_digits_dataset
from ..errors import InputError
from ..failures import is_of_the_machine
from ..files import LARGEST_FILE
from ..hub.naming import lasting_name


logger = logging.getLogger(__name__)

_COMMIT = re.compile("[0-9a-f]{40}")
_IMAGES_HASHED = 16


@dataclass(frozen=True)
class DatasetSource:
    """Where a dataset came from, as written to config.yaml and the cards.

    Args:
        name (`str`): Hub id, absolute path of a folder, or `embedded/...`; empty for a dataset that was passed in memory.
        config_name (`str`, *optional*): Configuration of the dataset.
        split (`str`, *optional*): Name of the split.
        revision (`str`, *optional*): Commit of the Hub repository, 40 hexadecimal digits.
        fingerprint (`str`): Fingerprint that `datasets` gave the split, and of the image files that the split refers to.
        num_rows (`int`): Rows of the split.
        license (`str`, *optional*): Licence that the source states.
        image_column, label_column (`str`): The two columns; empty until they are found.
        content_id (`str`): Hash of all labels and of a few images, by which the dataset is recognised however it is loaded.
    """

    name: str
    config_name: str | None
    split: str | None
    revision: str | None
    fingerprint: str
    num_rows: int
    license: str | None
    image_column: str = ""
    label_column: str = ""
    content_id: str = ""

    def describe(self) -> str:
        """The dataset in words, to stand in a message."""
        details = [("config", self.config_name), ("split", self.split), ("revision", self.revision)]
        known = ", ".join(f"{what} {value}" for what, value in details if value)
        return (self.name or "the dataset that was selected from") + (f" ({known})" if known else "")


def load_source(
    name: str, config_name: str | None = None, split: str = "train", *, revision: str | None = None
) -> tuple[Dataset, DatasetSource]:
    """Load one split of a dataset from the Hub, a local folder or the package.

    Args:
        name (`str`): Hub id, local folder (imagefolder, parquet, `save_to_disk`) or `embedded/digits`.
        config_name (`str`, *optional*): Configuration of the dataset.
        split (`str`, *optional*, defaults to `"train"`): Name of the split.
        revision (`str`, *optional*): Branch, tag or commit of a dataset on the Hub; default `main`.

    Returns:
        `tuple[Dataset, DatasetSource]`: The split and where it came from.

    Raises:
        InputError: No such dataset, configuration, split or revision, or the Hub can't be reached.
    """
    if name == EMBEDDED_DATASET:
        if config_name is not None:
            raise InputError(
                f"--dataset_config_name {config_name}: {EMBEDDED_DATASET} has no configurations; leave it out."
            )
        dataset, commit = load_digits_dataset(split), None
    elif name.startswith("embedded/"):
        raise InputError(
            f"--dataset_name {name} is not embedded in the package; the embedded dataset is {EMBEDDED_DATASET}."
        )
    elif Path(name).is_file():
        raise InputError(f"--dataset_name {name} is a file; give the folder that it is in.")
    elif name and Path(name).is_dir() or re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name):
        dataset, commit = _load_split(name, config_name, split, revision)
    else:
        raise InputError(
            f"--dataset_name {name!r} is neither a folder nor a Hub id; give an existing folder, a Hub id such as "
            f"uoft-cs/cifar10, or {EMBEDDED_DATASET}."
        )
    source = describe_source(dataset, name=lasting_name(name), config_name=config_name, revision=commit)
    if source.license is None and name != EMBEDDED_DATASET:
        source = replace(source, license=_license_of_card(name, commit))
    return dataset, source


def describe_source(
    dataset: Dataset, *, name: str = "", config_name: str | None = None, revision: str | None = None
) -> DatasetSource:
    """What can be told about the origin of a dataset, without the network."""
    return DatasetSource(
        name=name,
        config_name=config_name,
        split=str(dataset.split) if dataset.split is not None else None,
        revision=revision,
        fingerprint=dataset._fingerprint,
        num_rows=len(dataset),
        license=dataset.info.license or None,
    )


def content_id(dataset: Dataset, image_column: str, label_column: str) -> str:
    """Hash of all labels and of some images spread over the rows.

    The fingerprint that `datasets` gives changes with the way a dataset is loaded and with its format; this does not.
    """
    table = dataset.with_format("arrow")
    labels = table.select_columns([label_column])[:].column(0).to_pylist()
    content = hashlib.sha256(json.dumps(labels).encode())
    rows = np.unique(np.linspace(0, len(dataset) - 1, _IMAGES_HASHED).astype(np.int64))
    for image in table.select_columns([image_column]).select(rows)[:].column(0).to_pylist():
        path = Path((image or {}).get("path") or "")
        is_file = path.is_file() and path.stat().st_size <= LARGEST_FILE
        content.update((image or {}).get("bytes") or (path.read_bytes() if is_file else b""))
    return content.hexdigest()[:16]


def fingerprint_with_files(dataset: Dataset, image_column: str, fingerprint: str) -> str:
    """A fingerprint that changes with image files too: `datasets` hashes the paths of a dataset, not what lies there."""
    table = dataset.data.column(image_column)
    if (
        not pa.types.is_struct(table.type)
        or not (no_bytes := pc.is_null(pc.struct_field(table, "bytes")).to_numpy()).any()
    ):
        return fingerprint
    paths = pc.struct_field(table, "path").to_pylist()
    rows = range(len(dataset)) if dataset._indices is None else dataset._indices.column(0).to_pylist()
    files = hashlib.sha256(fingerprint.encode())
    for row in rows:
        path = Path(paths[row] or "")
        if no_bytes[row] and path.is_file():
            status = path.stat()
            files.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode(errors="replace"))
    return files.hexdigest()[:16]


def _license_of_card(name: str, revision: str | None) -> str | None:
    """What the header of README.md says, which `datasets` does not read; several licenses are told side by side."""
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


def _load_split(name: str, config_name: str | None, split: str, revision: str | None) -> tuple[Dataset, str | None]:
    """The split, and its commit if it comes from the Hub."""
    folder, commit = Path(name), None
    try:
        if (folder / "state.json").exists() or (folder / "dataset_dict.json").exists():
            splits = load_from_disk(name)
        else:
            # The two steps of `load_dataset`, which does not tell the commit that a branch stood for.
            builder = load_dataset_builder(name, config_name, revision=revision, **_cache_by_content(folder))
            builder.download_and_prepare()
            splits = builder.as_dataset()
            commit = builder.hash if not folder.is_dir() and _COMMIT.fullmatch(builder.hash or "") else None
    except IndexError:
        # datasets saves a split without rows as no file at all, and stumbles over that when it loads the dataset.
        raise InputError(f"--dataset_name {name} has a split without rows, which can't be loaded.") from None
    # A bare ValueError is what datasets raises for a missing or unknown configuration.
    except (DatasetsError, OSError, ValueError, KeyError) as error:
        if is_of_the_machine(error):
            raise
        problem = "can't be loaded" if folder.is_dir() else "is no local folder, and can't be loaded from the Hub"
        cause = (isinstance(error, DatasetGenerationError) and error.__cause__) or error
        reason = " ".join(str(cause).split())[:400]
        raise InputError(f"--dataset_name {name} {problem}: {type(cause).__name__}: {reason}") from None
    return _pick_split(splits, name, split), commit


def _cache_by_content(folder: Path) -> dict[str, str]:
    """An argument of `load_dataset` that makes it see that the files of a local folder have changed.

    It caches a folder whose README.md names its configs, as every clone of a Hub dataset does, under the folder's name
    and what the README says, not under the files: another folder of the same name would give the first one's rows.
    """
    if not folder.is_dir():
        return {}
    files = hashlib.sha256(str(folder.resolve()).encode())
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        status = path.stat()
        files.update(f"{path.relative_to(folder)} {status.st_size} {status.st_mtime_ns}\n".encode(errors="replace"))
    return {"description": files.hexdigest()[:16]}


def _pick_split(splits: Dataset | DatasetDict, name: str, split: str) -> Dataset:
    if isinstance(splits, Dataset):
        if splits.split is not None and str(splits.split) != split:
            raise InputError(f"--train_split_name {split}: {name} holds the split {splits.split} alone.")
        return splits
    if split not in splits:
        raise InputError(f"--train_split_name {split}: {name} has the splits {', '.join(splits)}.")
    return splits[split]

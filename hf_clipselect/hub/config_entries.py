"""What the header of a dataset card says of the configs in a folder: their files, columns, rows and bytes.

The Hub's viewer and `load_dataset_builder(...).info` read it; `load_dataset` compares the rows with it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import Features

from ..errors import InputError
from ..runtime.parquet import SHARDS, shards_id


SCORES_CONFIG = "scores"
_FILES = "train-*.parquet"
# Names of classes stand in the header once for each column of classes of each config, and whoever loads one of them
# reads it all, which takes a second here. Of longer ones the shards alone tell the features, as they always do.
_MOST_CHARACTERS = 100_000


def configs_in(folder: Path, report: Mapping[str, Any]) -> list[str]:
    """Those subsets of the report, in its order, then the scores, whose Parquet files are in the folder.

    Raises `InputError` where there is none.
    """
    known = [*(subset["name"] for subset in report["subsets"]), SCORES_CONFIG]
    configs = [name for name in known if _files(folder, name)]
    if not configs:
        raise InputError(f"{folder} holds no Parquet files of {', '.join(known)}; pass the folder of the subset.")
    return configs


def columns_of(folder: Path, config: str) -> list[str]:
    """The names of the columns of a config in the folder."""
    return pq.read_schema(_files(folder, config)[0]).names


def config_entries(folder: Path, configs: Sequence[str]) -> list[dict[str, Any]]:
    """The entries of `configs:` for these configs, of which the first is the default."""
    # `load_dataset` caches a local folder under the folder's name and what its card says of a config, not under its
    # files: without a version of their own, a later run in the same folder would give the rows of the first that was
    # loaded.
    entries: list[dict[str, Any]] = [
        {
            "config_name": config,
            "data_files": [{"split": "train", "path": f"{config}/{_FILES}"}],
            "version": f"0.0.{shards_id(folder / config)}",
        }
        for config in configs
    ]
    entries[0]["default"] = True
    return entries


def config_infos(folder: Path, configs: Sequence[str]) -> list[dict[str, Any]]:
    """The entries of `dataset_info:` for these configs: features, rows and bytes of the split.

    There is none for a config to which other people's files belong as well.
    """
    shards = {config: _files(folder, config) for config in configs}
    shards = {config: paths for config, paths in shards.items() if all(path.match(SHARDS) for path in paths)}
    features = {config: _features_in_yaml(paths[0]) for config, paths in shards.items()}
    is_short = len(str(features)) <= _MOST_CHARACTERS
    entries = []
    for config, paths in shards.items():
        read = [pq.read_metadata(path) for path in paths]
        num_bytes = sum(
            shard.row_group(index).total_byte_size for shard in read for index in range(shard.num_row_groups)
        )
        split = {"name": "train", "num_bytes": num_bytes, "num_examples": sum(shard.num_rows for shard in read)}
        entries.append(
            {
                "config_name": config,
                **({"features": features[config]} if features[config] and is_short else {}),
                "splits": [split],
                "download_size": sum(path.stat().st_size for path in paths),
                "dataset_size": num_bytes,
            }
        )
    return entries


def _files(folder: Path, config: str) -> list[Path]:
    """What `load_dataset` reads of a config."""
    # Absolute: pyarrow reads `run:1/...` as a URL.
    return sorted((folder.absolute() / config).glob(_FILES))


def _features_in_yaml(shard: Path) -> list[dict[str, Any]] | None:
    """The features as a card tells them; None for those that it has no words for."""
    features = Features.from_arrow_schema(pq.read_schema(shard))
    try:
        told = features._to_yaml_list()
        return told if Features._from_yaml_list(told) == features else None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None

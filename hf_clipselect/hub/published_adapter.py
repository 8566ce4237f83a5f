"""The adapter folder of a run as it is published."""

import json
from pathlib import Path

from ..errors import InputError
from ..runtime.hub_ids import EMBEDDED_PREFIX, is_hub_id


def publishable_adapter(folder: Path) -> dict[str, bytes | Path]:
    """The files of an adapter folder as they go into a repository, without the card.

    Args:
        folder (`Path`): Holds `adapter_config.json` and `adapter_model.safetensors`.

    Returns:
        `dict[str, bytes | Path]`: Content, or a file with the content, by path in the repository. The config is the
        file's, byte for byte, unless the base model that it names is a folder of this machine: then it names none.

    Raises:
        InputError: One of the two files is missing.
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

"""Adapters on disk and on the Hub, in the PEFT format."""

import dataclasses
import hashlib
import json
import warnings
from pathlib import Path

from peft import PeftConfig, PeftModel
from torch import nn
from transformers import PreTrainedModel

from ..encoder import load_backbone
from ..errors import InputError


def load_adapters(
    repo_or_folder: str | Path, *, base_model: PreTrainedModel | str | None = None, revision: str | None = None
) -> PeftModel:
    """Load published adapters on top of their CLIP.

    Args:
        repo_or_folder (`str` or `Path`): Hub id, or the `adapter` folder of a run.
        base_model (`PreTrainedModel` or `str`, *optional*):
            The CLIP to put them on, which is changed in place; default the one that they were trained on, which the
            adapter's config names.
        revision (`str`, *optional*): Branch, tag or commit of the adapter repository.

    Returns:
        `PeftModel`: In evaluation mode; `get_image_features(...)` and `get_text_features(...)` go through the adapters, and
        `.pooler_output` of what they return is the projected, not normalised embedding.

    Raises:
        InputError: No adapter there, or it fits no known method or base model.

    Example:

    ```python
    model = load_adapters("clipselect_output/adapter")
    ```
    """
    source = str(repo_or_folder)
    try:
        config = PeftConfig.from_pretrained(source, revision=revision)
        if base_model is None or isinstance(base_model, str):
            name = base_model or config.base_model_name_or_path
            if not name:
                raise InputError(f"The adapter in {source} does not name its base model; pass base_model=.")
            base_model = load_backbone(name, revision=config.revision or "main").model
        return PeftModel.from_pretrained(base_model, source, config=config, revision=revision).eval()
    except InputError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{source} holds no adapter that can be loaded: {' '.join(str(error).split())[:400]} Expected a folder or Hub "
            "repository with adapter_config.json and adapter_model.safetensors."
        ) from None


def load_into(model: nn.Module, folder: Path) -> PeftModel:
    """Put the adapters of a finished run back onto the model they were trained on."""
    return PeftModel.from_pretrained(model, str(folder)).eval()


def adapter_files_id(folder: Path) -> str | None:
    """Hash of the adapter in a folder, by which a run knows whether it is the one that it left; nothing if there is none."""
    files = [folder / "adapter_config.json", folder / "adapter_model.safetensors"]
    if not folder.is_dir():
        return None
    return hashlib.sha256(b"".join(path.read_bytes() for path in files if path.is_file())).hexdigest()[:16]


def save_adapters(adapted: PeftModel, folder: Path, *, base_model: str, base_revision: str | None) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`.

    Args:
        adapted (`PeftModel`): The trained adapters.
        folder (`Path`): Created if missing.
        base_model (`str`): Hub id, folder or `embedded/tiny-clip`, as the run named it.
        base_revision (`str`, *optional*): Commit of the base model on the Hub.
    """
    config = adapted.peft_config["default"]
    # peft would write the place where transformers found the files: for the embedded model a path of this machine.
    config.base_model_name_or_path = base_model
    config.revision = base_revision
    # "auto" asks the Hub for the base model's config; no embedding layer is ever adapted here.
    adapted.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)


def read_peft_config(path: str | Path) -> PeftConfig:
    """Read a PEFT config of any method from a JSON file and point it at the two projections if it names no target.

    Raises:
        InputError: The file is missing, not JSON, or of no known method.
    """
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.get("target_modules") is None:
            values["target_modules"] = ["visual_projection", "text_projection"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unknown keys, which are refused below
            config = PeftConfig.from_peft_type(**values)
    except OSError as error:
        raise InputError(f"--peft_config {path} can't be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"--peft_config {path} is no PEFT config: {type(error).__name__} {' '.join(str(error).split())[:300]} "
            'Expected JSON such as {"peft_type": "LORA", "r": 8}.'
        ) from None
    if unknown := sorted(set(values) - {field.name for field in dataclasses.fields(config)}):
        # peft only warns, and a misspelt setting would silently keep its default.
        raise InputError(
            f"--peft_config {path} has keys that {type(config).__name__} does not know: {', '.join(unknown)}."
        )
    config.inference_mode = False
    return config

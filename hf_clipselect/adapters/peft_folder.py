"""Loads adapters in the PEFT format onto a model, checked, and saves them into a folder."""

import logging
import os
import shutil
import tempfile
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from torch import nn
from transformers import PreTrainedModel

from ..config.arguments import EMBEDDED_MODEL
from ..config.python_calls import python_door
from ..embedded import tiny_clip_path
from ..encoder.backbone import load_backbone
from ..errors import InputError
from ..runtime.caller_state import own_settings
from ..runtime.hub_ids import is_local_path
from .adapter_files import CONFIG_NAME, WEIGHTS_NAME, AdapterFiles, fetch_adapter
from .peft_configs import method_of
from .placing import absent_targets, lay_out, refusing_misfits


logger = logging.getLogger(__name__)


@python_door(model_name_or_path="base_model", adapter_name_or_path="repo_or_folder")
@own_settings()
def load_adapters(
    repo_or_folder: str | Path,
    *,
    base_model: PreTrainedModel | str | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> PeftModel:
    """Load published adapters on top of their CLIP.

    Args:
        repo_or_folder (`str` or `Path`): Hub id, or the `adapter` folder of a run.
        base_model (`PreTrainedModel` or `str`, *optional*): The CLIP to put them on, which is changed in place;
            default the one that they were trained on, which the adapter's config names.
        revision (`str`, *optional*): Branch, tag or commit of the adapter repository.
        token (`str`, *optional*): Token of the Hub for both repositories; default the logged-in one.

    Returns:
        `PeftModel`: In evaluation mode; `get_image_features(...)` and `get_text_features(...)` go through the
        adapters, and `.pooler_output` of what they return is the projected, not normalised embedding.

    Raises:
        InputError: There is no adapter, it is of no known method, it does not fit the base model, or the base model
            can't be loaded.

    Example:

    ```python
    model = load_adapters("clipselect_output/adapter")
    ```
    """
    adapter = fetch_adapter(repo_or_folder, revision=revision, token=token)
    if base_model is not None:
        warn_of_other_base(adapter, base_model if isinstance(base_model, str) else base_model.name_or_path or "")
    if base_model is None or isinstance(base_model, str):
        base_model = _load_base(adapter, base_model, token)
    return load_into(base_model, adapter)


def load_into(model: nn.Module, adapter: AdapterFiles) -> PeftModel:
    """Put adapters onto a model, in place, in evaluation mode; what `check_fits` raises leaves the model as it is."""
    check_fits(adapter, model)
    # All random weights that peft draws are replaced, and the caller's random state stays.
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        adapter.write_to(Path(folder))
        return PeftModel.from_pretrained(model, folder, config=adapter.peft_config, torch_device="cpu").eval()


def warn_of_other_base(adapter: AdapterFiles, name: str) -> None:
    """Log a warning where adapters do not say that they are made for the model `name`, empty for a nameless one."""
    base = adapter.peft_config.base_model_name_or_path
    if not base:
        logger.warning(
            "The adapters of %s do not say which model they are made for; on another one than that they give poor "
            "embeddings.",
            adapter,
        )
    elif name and _place(base) != _place(name):
        logger.warning(
            "The adapters of %s say that they are made for %r, and are put on %r.", adapter, base[:200], name
        )


def check_fits(adapter: AdapterFiles, model: nn.Module) -> PeftModel:
    """A copy of the model with the adapters, on the meta device, in training mode, if the file holds their weights.

    peft itself leaves random weights where the file has none, and only warns. Raises `InputError` where the config
    does not fit the model, or weights are missing, too many, of another shape, or not finite.
    """
    config = adapter.peft_config
    what = f"The {method_of(config)} config of {adapter}"
    layout = lay_out(model, config, what)
    with refusing_misfits(model, what):
        expected = get_peft_model_state_dict(layout, save_embedding_layers=False)
    found = adapter.tensors()
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} belongs to no module" for name in found if name not in expected]
    for name in expected.keys() & found.keys():
        if found[name].shape != expected[name].shape or not torch.can_cast(found[name].dtype, expected[name].dtype):
            problems.append(f"{name} is {_describe(found[name])}, expected {_describe(expected[name])}")
        elif not torch.isfinite(found[name].float()).all():
            problems.append(f"{name} holds NaN or infinite numbers")
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise InputError(
            f"The weights of {adapter} do not fit their config on a {type(model).__name__}: "
            f"{sorted(problems)[0][:300]}{more}. {WEIGHTS_NAME} is damaged, or they are adapters of another base "
            "model."
        )
    if absent := absent_targets(model, config):
        logger.warning(
            "%s names target_modules that a %s does not have, and that nothing is loaded for: %s.",
            what,
            type(model).__name__,
            ", ".join(absent)[:300],
        )
    if adapter.unknown_keys:
        logger.warning(
            "The config of %s has keys that this version of peft does not know and ignores: %s.",
            adapter,
            ", ".join(adapter.unknown_keys)[:300],
        )
    return layout


def save_adapters(adapted: PeftModel, folder: Path, *, base_model: str, base_revision: str | None) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors` into a folder, which is created if missing.

    `base_model` is the run's name of the base model, empty for one without a name, and `base_revision` its commit.
    """
    config = adapted.peft_config["default"]
    # peft would write where transformers found the files: for the embedded model a path on this machine.
    config.base_model_name_or_path = os.path.abspath(base_model) if os.path.isdir(base_model) else base_model or None
    config.revision = base_revision
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as saved:  # not in the folder, whose README.md peft would change
        # Not "auto", which asks the Hub for the base model's config: no embedding layer is adapted here.
        adapted.save_pretrained(saved, safe_serialization=True, save_embedding_layers=False)
        for name in (CONFIG_NAME, WEIGHTS_NAME):
            # Copied, since safetensors writes files that only their owner may read.
            shutil.copyfile(Path(saved, name), folder / name)


def _place(name: str) -> str:
    """The name of a model for comparison: the full path of a folder, but the embedded model by its own name."""
    if not os.path.isdir(name):
        return name
    return EMBEDDED_MODEL if os.path.samefile(name, tiny_clip_path()) else os.path.realpath(name)


def _describe(tensor: torch.Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _load_base(adapter: AdapterFiles, name: str | None, token: str | None) -> PreTrainedModel:
    config = adapter.peft_config
    own = config.base_model_name_or_path or ""
    if name is None and not own:
        raise InputError(
            f"The config of {adapter} does not name its base model; pass base_model=, the CLIP to put it on."
        )
    if name is None and is_local_path(own) and not os.path.isdir(own):
        raise InputError(
            f"The base model of {adapter} is a folder of the machine that it was trained on, {own[:200]}; pass "
            "base_model=, the Hub id or folder of the same CLIP."
        )
    # The config's commit is one of its own base model; a folder of that name has none.
    revision = config.revision if name in (None, own) and not os.path.isdir(own) else None
    try:
        return load_backbone(name or own, revision=revision or "main", token=token).model
    except InputError as error:
        if name is not None:
            raise
        raise InputError(f"The base model of {adapter} can't be had; pass base_model=. {error}") from None

"""Adapters in the PEFT format: onto a model, checked, and into a folder."""

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
from .placing import absent_targets, lay_out, refusing_misfits


logger = logging.getLogger(__name__)


@python_door(model_name_or_path="base_model", adapter_name_or_path="repo_or_folder")
@own_settings()
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
        `PeftModel`: In evaluation mode; `get_image_features(...)` and `get_text_features(...)` go through the
        adapters, and `.pooler_output` of what they return is the projected, not normalised embedding.

    Raises:
        InputError: No adapter there, it is of no known method, it does not fit the base model, or the base model can't
        be
            loaded.

    Example:

    ```python
    model = load_adapters("clipselect_output/adapter")
    ```
    """
    adapter = fetch_adapter(repo_or_folder, revision=revision)
    if base_model is not None:
        warn_of_other_base(adapter, base_model if isinstance(base_model, str) else base_model.name_or_path)
    if base_model is None or isinstance(base_model, str):
        base_model = _load_base(adapter, base_model)
    return load_into(base_model, adapter)


def load_into(model: nn.Module, adapter: AdapterFiles) -> PeftModel:
    """Put adapters onto a model, in place.

    Args:
        model (`nn.Module`): The base model; it stays as it is where an error is raised.
        adapter (`AdapterFiles`): The adapters.

    Returns:
        `PeftModel`: In evaluation mode.

    Raises:
        InputError: As `check_fits`.
    """
    check_fits(adapter, model)
    config, _ = adapter.parsed_config
    # Of the random weights that peft draws, none is left, and the caller's random state stays.
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        adapter.write_to(Path(folder))
        return PeftModel.from_pretrained(model, folder, config=config, torch_device="cpu").eval()


def warn_of_other_base(adapter: AdapterFiles, name: str) -> None:
    """Log a warning where adapters are not said to be made for the model that they are put on.

    Args:
        adapter (`AdapterFiles`): The adapters.
        name (`str`): The model: Hub id, folder or `embedded/tiny-clip`; empty where it has none.
    """
    config, _ = adapter.parsed_config
    base = config.base_model_name_or_path
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
    """Check that the file holds exactly the weights that the adapters have on this model, before memory is taken for
    them.

    peft itself leaves random weights where the file has none, and only warns.

    Args:
        adapter (`AdapterFiles`): The adapters.
        model (`nn.Module`): The base model, which stays as it is.

    Returns:
        `PeftModel`: The model with the adapters on the meta device, in training mode.

    Raises:
        InputError: The config is refused or does not fit the model; weights are missing, too many, of another shape,
        or not
            finite.
    """
    config, unknown = adapter.parsed_config
    what = f"The {config.peft_type.value} config of {adapter}"
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
    if unknown:
        logger.warning(
            "The config of %s has keys that this version of peft does not know and ignores: %s.",
            adapter,
            ", ".join(unknown)[:300],
        )
    return layout


def save_adapters(adapted: PeftModel, folder: Path, *, base_model: str, base_revision: str | None) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`.

    Args:
        adapted (`PeftModel`): The trained adapters.
        folder (`Path`): Created if missing.
        base_model (`str`): Hub id, folder or `embedded/tiny-clip`, as the run named it; empty for a model without a
            name.
        base_revision (`str`, *optional*): Commit of the base model on the Hub.
    """
    config = adapted.peft_config["default"]
    # peft would write the place where transformers found the files: for the embedded model a path of this machine.
    config.base_model_name_or_path = os.path.abspath(base_model) if os.path.isdir(base_model) else base_model or None
    config.revision = base_revision
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as saved:  # where peft finds no README.md to change
        # "auto" asks the Hub for the base model's config; no embedding layer is ever adapted here.
        adapted.save_pretrained(saved, safe_serialization=True, save_embedding_layers=False)
        for name in (CONFIG_NAME, WEIGHTS_NAME):
            # A copy has the rights of any new file, and what safetensors writes can be read by its owner alone.
            shutil.copyfile(Path(saved, name), folder / name)


def _place(name: str) -> str:
    """A name of a model by which the same one is known: folders in full, and the embedded model by its own."""
    if not os.path.isdir(name):
        return name
    return EMBEDDED_MODEL if os.path.samefile(name, tiny_clip_path()) else os.path.realpath(name)


def _describe(tensor: torch.Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _load_base(adapter: AdapterFiles, name: str | None) -> PreTrainedModel:
    config, _ = adapter.parsed_config
    own = config.base_model_name_or_path
    if name is None and not own:
        raise InputError(
            f"The config of {adapter} does not name its base model; pass base_model=, the CLIP to put it on."
        )
    if name is None and is_local_path(own) and not os.path.isdir(own):
        raise InputError(
            f"The base model of {adapter} is a folder of the machine that it was trained on, {own[:200]}; pass "
            "base_model=, the Hub id or folder of the same CLIP."
        )
    # The commit that the config names is one of its own base model, and a folder of that name here has none.
    revision = config.revision if name in (None, own) and not os.path.isdir(own) else None
    try:
        return load_backbone(name or own, revision=revision or "main").model
    except InputError as error:
        if name is not None:
            raise
        raise InputError(f"The base model of {adapter} can't be had; pass base_model=. {error}") from None

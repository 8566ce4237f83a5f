"""Makes a backbone of a model that the caller has loaded: a copy, so that the caller's model stays as it is."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoImageProcessor, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.image_processing_utils import BaseImageProcessor

from ..errors import InputError
from ..runtime.failures import is_of_the_machine
from ..runtime.hub_ids import is_hub_id, lasting_name
from ..runtime.words import in_one_line
from .backbone import Backbone, check_heads, check_tokenizer, freeze


# Keys of a config that say where and how a model was loaded, not what it computes.
_INCIDENTAL = frozenset({"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"})


def check_passed(model: Any, processor: Any) -> tuple[PreTrainedModel, Any]:
    """Both, or `InputError` unless they are what [`copy_backbone`] takes, as far as their types tell."""
    if model is None or processor is None:
        given, missing = ("processor", "model") if model is None else ("model", "processor")
        raise InputError(
            f"{given} was passed without {missing}; pass both, as AutoModel and AutoProcessor load them, or "
            "model_name_or_path alone."
        )
    if not isinstance(model, PreTrainedModel):
        hint = " The name of a model is passed as model_name_or_path." if isinstance(model, str | os.PathLike) else ""
        raise InputError(
            f"model must be a PreTrainedModel of transformers, got a value of type {type(model).__name__}.{hint}"
        )
    parts = getattr(processor, "image_processor", None), getattr(processor, "tokenizer", None)
    if not isinstance(parts[0], BaseImageProcessor) or not isinstance(parts[1], PreTrainedTokenizerBase):
        raise InputError(
            "processor must have an image_processor and a tokenizer, as AutoProcessor.from_pretrained gives it, got "
            f"a value of type {type(processor).__name__}."
        )
    return model, processor


def copy_backbone(
    model: PreTrainedModel, processor: Any, *, device: torch.device | str = "cpu", precision: str = "float32"
) -> Backbone:
    """Make a backbone of a model in memory: a copy of its weights in float32, without its hooks, mode and device.

    The model is a dual encoder on any device, in any dtype and mode; the processor has `.image_processor` and
    `.tokenizer`. Both stay as they are, and the backbone is known by the hash of config and weights. `precision` is
    that of the towers, `"float32"` or `"bfloat16"`. Raises `InputError` where one of the two is missing or of another
    type, or the model is no dual encoder or was changed so that its config does not describe it.
    """
    check_passed(model, processor)
    image_processor, tokenizer = processor.image_processor, processor.tokenizer
    check_heads(model, "The model that was passed", example="")
    # Copied through its dictionary, which leaves out what loading noted in it, such as the kind of attention.
    config = type(model.config).from_dict(model.config.to_dict())
    with _refusing(
        f"The model that was passed (a {type(model).__name__}) can't be copied, as its weights are not those that its "
        "config describes",
        "Pass it as from_pretrained gives it: whole, on one device, not quantized and without adapters of PEFT.",
    ):
        copied = _copy(model, config)
    remedy = "Pass the one that AutoProcessor.from_pretrained gives for the model."
    with _refusing("The processor that was passed can't be copied", remedy), tempfile.TemporaryDirectory() as folder:
        image_processor.save_pretrained(folder)
        image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False)
        tokenizer.save_pretrained(folder)
        tokenizer = type(tokenizer).from_pretrained(folder)
        check_tokenizer(tokenizer)
    return freeze(
        copied,
        image_processor,
        tokenizer,
        device=device,
        precision=precision,
        name=copied.name_or_path,
        revision=None,
        weights_sha256=_hash(copied, config),
        in_memory=True,
    )


@contextmanager
def _refusing(what: str, remedy: str) -> Iterator[None]:
    """Turn what transformers raises, of any type, into an `InputError`."""
    try:
        yield
    except Exception as error:
        if is_of_the_machine(error):
            raise
        raise InputError(f"{what}: {in_one_line(error, 300)} {remedy}") from None


def _copy(model: PreTrainedModel, config: PreTrainedConfig) -> PreTrainedModel:
    # All its random weights are replaced, and the caller's random state stays.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        copied = type(model)(config).float()
    copied.load_state_dict(model.state_dict(), strict=True)
    copied.name_or_path = copied.config.name_or_path = _name(model)
    return copied


def _name(model: PreTrainedModel) -> str:
    """What the model says it was loaded from, if that is a repository or a folder; else an empty name."""
    name = str(model.name_or_path or "")
    return lasting_name(name) if name and (is_hub_id(name) or os.path.isdir(name)) else ""


def _hash(model: PreTrainedModel, config: PreTrainedConfig) -> str:
    described = {"class": f"{type(model).__module__}.{type(model).__qualname__}", "config": _essence(config.to_dict())}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().numpy().data)
    return digest.hexdigest()


def _essence(config: Any) -> Any:
    if isinstance(config, dict):
        return {str(key): _essence(value) for key, value in config.items() if key not in _INCIDENTAL}
    return [_essence(value) for value in config] if isinstance(config, list | tuple) else config

"""A frozen dual encoder: any model with `get_image_features`, `get_text_features` and two heads that adapters can sit on."""

import copy
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download

# The base of all errors of the HTTP library that huggingface_hub uses: httpx in 1.x, httpx2 in 2.x.
from huggingface_hub.errors import HTTPError
from safetensors import SafetensorError
from torch import nn
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, PreTrainedModel

from ..config import DEFAULT_MODEL, EMBEDDED_DATASET, EMBEDDED_MODEL
from ..dual_encoder import KNOWN, WITH_PROJECTIONS, Head, of_model, output_size
from ..embedded import tiny_clip_path
from ..errors import InputError
from ..failures import is_of_the_machine
from ..hub.naming import lasting_name, plain_name


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backbone:
    """A frozen dual encoder with its preprocessing.

    Args:
        model (`PreTrainedModel`): In evaluation mode, without gradients, with the two heads of its kind of dual encoder.
        image_processor, tokenizer: Its preprocessing, as `transformers` loads them.
        name (`str`): Hub id, absolute path of a folder, or `embedded/tiny-clip`.
        revision (`str`, *optional*): Commit on the Hub.
        weights_sha256 (`str`, *optional*): Hash of the weight files of a local folder, which has no commit.
        hidden_size (`int`): Size of the image features: of what is cached, the input of a linear head or the output of another.
        embed_dim (`int`): Size of the embeddings, the output of both heads.
    """

    model: PreTrainedModel
    image_processor: Any
    tokenizer: Any
    name: str
    revision: str | None
    weights_sha256: str | None
    hidden_size: int
    embed_dim: int

    def identity(self) -> dict[str, Any]:
        """What decides the features: weights, preprocessing, dtype, and the point of the network if it is not before projections."""
        kind = of_model(self.model)
        points = (
            {} if kind == WITH_PROJECTIONS else {"image_features": kind.image_head, "text_features": kind.text_head}
        )
        return {
            "model": self.name if self.revision else None,
            "revision": self.revision,
            "weights_sha256": self.weights_sha256,
            "image_processor": json.loads(self.image_processor.to_json_string()),
            "dtype": str(self.model.dtype),
            **{features: str(head) for features, head in points.items()},
        }


def load_backbone(
    name: str, *, revision: str = "main", device: torch.device | str = "cpu", bf16: bool = False
) -> Backbone:
    """Load a frozen dual encoder from safetensors.

    Args:
        name (`str`): Hub id, local folder or `embedded/tiny-clip`.
        revision (`str`, *optional*, defaults to `"main"`): Branch, tag or commit on the Hub.
        device (`torch.device`, *optional*, defaults to `"cpu"`): Where it runs.
        bf16 (`bool`, *optional*, defaults to `False`): bfloat16 towers; for a GPU alone.

    Returns:
        `Backbone`

    Raises:
        InputError: No such model, no safetensors, no dual encoder, no tokenizer, or bf16 on a CPU.
    """
    device = torch.device(device)
    if bf16 and device.type == "cpu":
        raise InputError("--bf16 is for a GPU; on a CPU it is several times slower than float32. Leave it out.")
    folder = _folder_or_id(name)
    local = Path(folder).is_dir()
    try:
        # All parts of one commit: a branch may move between them, and transformers does not tell which commit it took.
        commit = None if local else Path(hf_hub_download(folder, "config.json", revision=revision)).parent.name
        model = _load_model(folder, commit, name)
        # The PIL backend needs no torchvision and gives the same pixels on every machine.
        image_processor = AutoImageProcessor.from_pretrained(
            folder, revision=commit, trust_remote_code=False, backend="pil"
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, revision=commit, trust_remote_code=False)
        # What transformers makes up where there are no tokenizer files: every prompt would be the same.
        if len(tokenizer) <= len(tokenizer.all_special_tokens):
            raise ValueError("it has no tokenizer.")
    except InputError:
        raise
    # ImportError: a tokenizer that needs another package, which the message names.
    except (HTTPError, OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        if is_of_the_machine(error):
            raise
        raise InputError(
            f"--model_name_or_path {name} (revision {revision}) can't be loaded: {' '.join(str(error).split())[:400]} "
            f"Give a Hub id or folder of a CLIP with safetensors weights, e.g. {DEFAULT_MODEL}."
        ) from None
    if bf16:
        _towers_to_bf16(model)
    model = model.eval().requires_grad_(False).to(device)
    image_head = of_model(model).image_head
    last = model.get_submodule(image_head.name)
    return Backbone(
        model=model,
        image_processor=image_processor,
        tokenizer=tokenizer,
        name=lasting_name(name),
        revision=commit,
        weights_sha256=_hash_weights(Path(folder)) if local else None,
        hidden_size=last.in_features if image_head.cached == "input" else output_size(last),
        embed_dim=output_size(last),
    )


def warn_if_demonstration(backbone: Backbone, dataset_name: str) -> None:
    """The embedded model has hardly seen anything but digits: its choice on other images means little."""
    if backbone.name == EMBEDDED_MODEL and dataset_name != EMBEDDED_DATASET:
        logger.warning(
            "%s was trained on drawn digits and shapes; on %s its scores only show that the run works. "
            "Use --model_name_or_path %s for a selection worth training on.",
            EMBEDDED_MODEL,
            plain_name(dataset_name) or "this dataset",  # the report keeps the warning, and people publish it
            DEFAULT_MODEL,
        )


@contextmanager
def head_features(model: PreTrainedModel, head: Head) -> Iterator[Callable[[Callable[[], Any]], torch.Tensor]]:
    """Gives a function that runs a forward pass, in any thread, and returns what is cached of it: what goes into a head, or out.

    Hooks serve every dual encoder alike, whichever way it pools.
    """
    seen = threading.local()

    def before(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if head.cached == "input":
            seen.features = inputs[0]
        return (inputs[0].to(next(module.parameters()).dtype), *inputs[1:])

    def after(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if head.cached == "output":
            seen.features = output

    def run(forward: Callable[[], Any]) -> torch.Tensor:
        forward()
        return seen.features

    module = model.get_submodule(head.name)
    handles = module.register_forward_pre_hook(before), module.register_forward_hook(after)
    try:
        yield run
    finally:
        for handle in handles:
            handle.remove()


def _folder_or_id(name: str) -> str:
    """Where a model lies: a folder, or its id on the Hub."""
    if name == EMBEDDED_MODEL:
        logger.warning(
            "%s is a demonstration model that knows little but drawn digits; use --model_name_or_path %s for real work.",
            EMBEDDED_MODEL,
            DEFAULT_MODEL,
        )
        return str(tiny_clip_path())
    if name.startswith("embedded/"):
        raise InputError(
            f"--model_name_or_path {name} is not embedded in the package; the embedded model is {EMBEDDED_MODEL}."
        )
    return name


def _load_model(folder: str, commit: str | None, name: str) -> PreTrainedModel:
    model, loading = AutoModel.from_pretrained(
        folder,
        revision=commit,
        dtype=torch.float32,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    _check_heads(model, name)
    # transformers would fill them with random numbers; the features do not depend on the temperature.
    if missing := sorted(set(loading["missing_keys"]) - {"logit_scale", "logit_bias"}):
        raise ValueError(f"{len(missing)} weights are not in its files, the first is {missing[0]}.")
    return model


def _check_heads(model: PreTrainedModel, name: str) -> None:
    heads, modules = [head.name for head in of_model(model).heads], dict(model.named_modules())
    missing = [part for part in ("get_image_features", "get_text_features") if not hasattr(model, part)]
    missing += [head for head in heads if head not in modules]
    sizes = set() if missing else {output_size(modules[head]) for head in heads}
    if missing or None in sizes or len(sizes) > 1:
        raise InputError(
            f"--model_name_or_path {name} is a {type(model).__name__}"
            + (
                f" without {', '.join(missing)}"
                if missing
                else f" whose {' and '.join(heads)} are not linear layers or attention poolers of one size"
            )
            + f". A dual encoder of images and texts is needed ({KNOWN}), e.g. {DEFAULT_MODEL}."
        )


def _towers_to_bf16(model: PreTrainedModel) -> None:
    """Everything but the two heads: scores and adapters stand on those, and stay float32."""
    exact = {head.name: copy.deepcopy(model.get_submodule(head.name)) for head in of_model(model).heads}
    model.to(torch.bfloat16)
    for name, head in exact.items():
        model.set_submodule(name, head)


def _hash_weights(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in [folder / "config.json", *sorted(folder.glob("*.safetensors"))]:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()

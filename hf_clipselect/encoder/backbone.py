"""A frozen dual encoder: any model with `get_image_features`, `get_text_features` and two linear projections."""

import copy
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import hf_hub_download

# The base of all errors of the HTTP library that huggingface_hub uses: httpx in 1.x, httpx2 in 2.x.
from huggingface_hub.errors import HTTPError
from safetensors import SafetensorError
from torch import nn
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, PreTrainedModel

from ..config import DEFAULT_MODEL, EMBEDDED_DATASET, EMBEDDED_MODEL
from ..embedded import tiny_clip_path
from ..errors import InputError
from ..failures import is_of_the_machine
from ..hub.naming import lasting_name, plain_name
from .cache import cached_array
from .threads import in_order, one_thread_each


logger = logging.getLogger(__name__)

_PROMPTS_AT_ONCE = 256


@dataclass(frozen=True)
class Backbone:
    """A frozen dual encoder with its preprocessing.

    Args:
        model (`PreTrainedModel`): In evaluation mode, without gradients, with `visual_projection` and `text_projection`.
        image_processor, tokenizer: Its preprocessing, as `transformers` loads them.
        name (`str`): Hub id, absolute path of a folder, or `embedded/tiny-clip`.
        revision (`str`, *optional*): Commit on the Hub.
        weights_sha256 (`str`, *optional*): Hash of the weight files of a local folder, which has no commit.
        hidden_size (`int`): Size of the image features, the input of the visual projection.
        embed_dim (`int`): Size of the embeddings, the output of both projections.
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
        """What decides the features: weights, preprocessing, dtype."""
        return {
            "model": self.name if self.revision else None,
            "revision": self.revision,
            "weights_sha256": self.weights_sha256,
            "image_processor": json.loads(self.image_processor.to_json_string()),
            "dtype": str(self.model.dtype),
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
        InputError: No such model, no safetensors, no projections, no tokenizer, or bf16 on a CPU.
    """
    device = torch.device(device)
    if bf16 and device.type == "cpu":
        raise InputError("--bf16 is for a GPU; on a CPU it is several times slower than float32. Leave it out.")
    if name == EMBEDDED_MODEL:
        folder = str(tiny_clip_path())
        logger.warning(
            "%s is a demonstration model that knows little but drawn digits; use --model_name_or_path %s for real work.",
            EMBEDDED_MODEL,
            DEFAULT_MODEL,
        )
    elif name.startswith("embedded/"):
        raise InputError(
            f"--model_name_or_path {name} is not embedded in the package; the embedded model is {EMBEDDED_MODEL}."
        )
    else:
        folder = name
    local = Path(folder).is_dir()
    try:
        # All parts of one commit: a branch may move between them, and transformers does not tell which commit it took.
        commit = None if local else Path(hf_hub_download(folder, "config.json", revision=revision)).parent.name
        model, loading = AutoModel.from_pretrained(
            folder,
            revision=commit,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        _check_projections(model, name)
        # transformers would fill them with random numbers; the features do not depend on the temperature.
        if missing := sorted(set(loading["missing_keys"]) - {"logit_scale"}):
            raise ValueError(f"{len(missing)} weights are not in its files, the first is {missing[0]}.")
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
    except (HTTPError, OSError, ValueError, RuntimeError, SafetensorError) as error:
        if is_of_the_machine(error):
            raise
        raise InputError(
            f"--model_name_or_path {name} (revision {revision}) can't be loaded: {' '.join(str(error).split())[:400]} "
            f"Give a Hub id or folder of a CLIP with safetensors weights, e.g. {DEFAULT_MODEL}."
        ) from None
    if bf16:
        _towers_to_bf16(model)
    model = model.eval().requires_grad_(False).to(device)
    return Backbone(
        model=model,
        image_processor=image_processor,
        tokenizer=tokenizer,
        name=lasting_name(name),
        revision=commit,
        weights_sha256=_hash_weights(Path(folder)) if local else None,
        hidden_size=model.visual_projection.in_features,
        embed_dim=model.visual_projection.out_features,
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
def projection_inputs(projection: nn.Module) -> Iterator[Callable[[Callable[[], Any]], torch.Tensor]]:
    """Gives a function that runs a forward pass, in any thread, and returns what it feeds to `projection`.

    That is the pooled tower output, before the projection. A hook serves every dual encoder alike, whichever way it pools.
    """
    seen = threading.local()

    def keep_input(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        seen.input = inputs[0]
        return (inputs[0].to(module.weight.dtype), *inputs[1:])

    def run(forward: Callable[[], Any]) -> torch.Tensor:
        forward()
        return seen.input

    handle = projection.register_forward_pre_hook(keep_input)
    try:
        yield run
    finally:
        handle.remove()


def encode_prompts(backbone: Backbone, prompts: list[list[str]], folder: Path) -> torch.Tensor:
    """Text features of prompts, before the projection; read from `folder` if the same prompts were encoded before.

    Args:
        backbone (`Backbone`): The frozen encoder.
        prompts (`list[list[str]]`): Templates x classes.
        folder (`Path`): Features folder of the run.

    Returns:
        `torch.Tensor` of shape `(num_templates, num_classes, text_hidden_size)`, float32, on the CPU.
    """
    tokens = backbone.tokenizer(
        [prompt for row in prompts for prompt in row],
        padding=True,
        truncation=True,
        max_length=_max_length(backbone),
        return_tensors="pt",
    )
    # The tokens stand for the tokenizer, which no hash of the weights covers.
    hashes = {name: hashlib.sha256(values.numpy().tobytes()).hexdigest() for name, values in tokens.items()}
    key = {"prompts": prompts, "tokens": hashes, **backbone.identity()}
    features = cached_array(folder / "text.safetensors", key, lambda: _encode_tokens(backbone.model, tokens))
    return torch.from_numpy(features).reshape(len(prompts), len(prompts[0]), -1)


def _encode_tokens(model: PreTrainedModel, tokens: Mapping[str, torch.Tensor]) -> np.ndarray:
    batches = [
        {name: values[start : start + _PROMPTS_AT_ONCE].to(model.device) for name, values in tokens.items()}
        for start in range(0, len(tokens["input_ids"]), _PROMPTS_AT_ONCE)
    ]

    @torch.inference_mode()
    def encode(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return run(lambda: model.get_text_features(**batch)).float().cpu()

    with projection_inputs(model.text_projection) as run, one_thread_each(model.device) as threads:
        return torch.cat(list(in_order(encode, batches, threads=threads))).numpy()


def _max_length(backbone: Backbone) -> int:
    # Some tokenizers state an astronomic maximum; the position embeddings are the real bound.
    positions = backbone.model.config.text_config.max_position_embeddings
    return min(backbone.tokenizer.model_max_length, positions)


def _check_projections(model: PreTrainedModel, name: str) -> None:
    missing = [
        part
        for part in ("get_image_features", "get_text_features", "visual_projection", "text_projection")
        if not hasattr(model, part)
    ]
    linear = not missing and all(isinstance(p, nn.Linear) for p in (model.visual_projection, model.text_projection))
    if not linear or model.visual_projection.out_features != model.text_projection.out_features:
        raise InputError(
            f"--model_name_or_path {name} is a {type(model).__name__}"
            + (
                f" without {', '.join(missing)}"
                if missing
                else " whose two projections are not linear layers of one size"
            )
            + f". A dual encoder such as CLIP with visual_projection and text_projection is needed, e.g. {DEFAULT_MODEL}."
        )


def _towers_to_bf16(model: PreTrainedModel) -> None:
    """Everything but the two projections: scores and adapters stand on those, and stay float32."""
    names = ("visual_projection", "text_projection")
    exact = {name: copy.deepcopy(getattr(model, name)) for name in names}
    model.to(torch.bfloat16)
    for name, projection in exact.items():
        setattr(model, name, projection)


def _hash_weights(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in [folder / "config.json", *sorted(folder.glob("*.safetensors"))]:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()

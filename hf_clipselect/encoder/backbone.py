"""A frozen dual encoder: a model with `get_image_features`, `get_text_features` and two heads for adapters."""

import copy
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

# The base of all errors of the HTTP library that huggingface_hub uses: httpx in 1.x, httpx2 in 2.x.
from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from ..config.arguments import DEFAULT_MODEL, EMBEDDED_DATASET, EMBEDDED_MODEL
from ..errors import InputError
from ..runtime.downloads import is_outage
from ..runtime.failures import is_of_the_machine
from ..runtime.files import file_sha256
from ..runtime.hub_ids import lasting_name, plain_name
from ..runtime.words import in_one_line
from .dual_encoder import KNOWN, WITH_PROJECTIONS, Head, of_model, output_size
from .model_place import OPEN_CLIP_CONFIG, ModelPlace, example_but, find_model, quoted
from .open_clip_model import load_open_clip
from .precision import fastest_products
from .weights import Weights, find_weights, read_pickles


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backbone:
    """A frozen dual encoder with its preprocessing."""

    model: PreTrainedModel  # in evaluation mode, without gradients
    image_processor: Any  # as `transformers` loads it, and so the tokenizer
    tokenizer: Any
    name: str  # Hub id, absolute path of a folder, or `embedded/tiny-clip`
    revision: str | None  # commit on the Hub
    weights_sha256: str | None  # hash of config and weights where there is no commit
    hidden_size: int  # of the cached image features: the input of a linear head, or the output of another
    embed_dim: int  # the output of both heads
    # Where the weights come from, if not from safetensors of that commit or folder.
    weights: Weights = field(default_factory=Weights)
    format: str | None = None  # whose, if not that of transformers: see `ModelPlace.format`
    in_memory: bool = False  # the model was passed; its name is the one that it states, empty where that is no name
    products: str = "highest"  # how float32 products are computed: see `fastest_products`
    logit_scale: float | None = None  # what the model multiplies cosines with, in float32 whatever its towers run in

    @property
    def precision(self) -> str:
        """What the towers run in, `float32` or `bfloat16`; the heads are always float32."""
        return str(self.model.dtype).removeprefix("torch.")

    def describe(self) -> dict[str, Any]:
        """Name, commit and hash; where the weights come from, if not from safetensors of that commit or folder; and
        whose format it is, if not that of transformers.
        """
        known = {"name": self.name, "revision": self.revision, "weights_sha256": self.weights_sha256}
        weights = {"weights_revision": self.weights.revision, "weights_files": self.weights.hashes}
        more = {**weights, "format": self.format, "in_memory": self.in_memory}
        return {**known, **{name: value for name, value in more.items() if value}}

    def identity(self) -> dict[str, Any]:
        """What decides the features: weights, preprocessing, dtype, and where they are taken in unusual models."""
        kind = of_model(self.model)
        cached = {"image_features": str(kind.image_head), "text_features": str(kind.text_head)}
        known = {name: value for name, value in self.describe().items() if name not in ("name", "in_memory")}
        return {
            "model": self.name if self.revision else None,
            **known,
            "image_processor": json.loads(self.image_processor.to_json_string()),
            "dtype": str(self.model.dtype),
            **({} if self.products == "highest" else {"matmul_precision": self.products}),
            **({} if kind == WITH_PROJECTIONS else cached),
        }


def load_backbone(
    name: str,
    *,
    revision: str = "main",
    device: torch.device | str = "cpu",
    precision: str = "float32",
    token: str | None = None,
) -> Backbone:
    """Load a frozen dual encoder by Hub id, local folder or `embedded/tiny-clip`; runs no code that comes with it.

    CLIPs and SigLIPs in OpenCLIP's format, and CLIPs in that of sentence-transformers, are read like others.

    `revision` is a branch, tag or commit on the Hub; `precision` is that of the towers, `"float32"` or `"bfloat16"`;
    `token` is that of the Hub, by default the logged-in one. Raises `InputError` for no such model, no weights that
    can be read, no dual encoder, or no tokenizer.
    """
    what = f"--model_name_or_path {quoted(name)}"
    place = find_model(name, revision, token)
    if name == EMBEDDED_MODEL:
        what_it_is = f"{EMBEDDED_MODEL} is a demonstration model that knows little but drawn digits"
        logger.warning("%s; use --model_name_or_path %s for real work.", what_it_is, DEFAULT_MODEL)
    try:
        # All parts from one commit, because a branch may move between two downloads.
        if place.is_open_clip:
            weights = find_weights(place)
            converted = load_open_clip(place, weights, what)
            model, image_processor, tokenizer = converted.model, converted.image_processor, converted.tokenizer
        else:
            config = AutoConfig.from_pretrained(place.source, **place.options)
            weights = find_weights(place)
            model = _load_model(place, config, weights, what, example=example_but(name))
            # The PIL backend needs no torchvision and gives the same pixels on every machine.
            image_processor = AutoImageProcessor.from_pretrained(place.source, backend="pil", **place.options)
            tokenizer = AutoTokenizer.from_pretrained(place.source, config=config, **place.options)
        check_tokenizer(tokenizer)
    except InputError:
        raise
    except Exception as error:  # files from anybody make transformers raise anything
        if is_of_the_machine(error):
            raise
        remedy = f"Give a Hub id or folder of a CLIP{example_but(name)}."
        if _is_of_the_connection(error):
            remedy = "Check the connection and the token, and run the same again."
        raise InputError(
            f"{what} (revision {quoted(revision)}) can't be loaded: {in_one_line(error, 400).rstrip('.')}. {remedy}"
        ) from None
    return freeze(
        model,
        image_processor,
        tokenizer,
        device=device,
        precision=precision,
        name=name if name == EMBEDDED_MODEL else lasting_name(place.source),
        revision=place.commit,
        weights_sha256=_hash_folder(place, weights) if place.is_local else None,
        weights=weights,
        format=place.format,
    )


def check_tokenizer(tokenizer: Any) -> None:
    """Raise `ValueError` for what transformers makes up without tokenizer files: all prompts would be the same."""
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise ValueError("it has no tokenizer.")


def freeze(
    model: PreTrainedModel,
    image_processor: Any,
    tokenizer: Any,
    *,
    device: torch.device | str,
    precision: str,
    **origin: Any,
) -> Backbone:
    """The model itself as a backbone on `device`; `origin` are the fields of [`Backbone`] about where it is from."""
    scale = getattr(model, "logit_scale", None)
    logit_scale = None if scale is None else float(scale.detach().exp())
    if precision == "bfloat16":
        _towers_to_bf16(model)
    last = model.get_submodule(of_model(model).image_head.name)
    return Backbone(
        model=model.eval().requires_grad_(False).to(device),
        image_processor=image_processor,
        tokenizer=tokenizer,
        hidden_size=last.in_features if isinstance(last, nn.Linear) else output_size(last),
        embed_dim=output_size(last),
        products=fastest_products(precision, device),
        logit_scale=logit_scale,
        **origin,
    )


def warn_if_demonstration(backbone: Backbone, dataset_name: str) -> None:
    """Warn that the embedded model, which has seen little but digits, selects other images poorly."""
    if backbone.name == EMBEDDED_MODEL and dataset_name != EMBEDDED_DATASET:
        logger.warning(
            "%s was trained on drawn digits and shapes; on %s its scores only show that the run works. "
            "Use --model_name_or_path %s for a selection worth training on.",
            EMBEDDED_MODEL,
            plain_name(dataset_name) or "this dataset",  # no path, since the report repeats the warning
            DEFAULT_MODEL,
        )


@contextmanager
def head_features(model: PreTrainedModel, head: Head) -> Iterator[Callable[[Callable[[], Any]], torch.Tensor]]:
    """Gives a function that runs a forward pass, in any thread, and returns what is cached: a head's input or output.

    Hooks work for every dual encoder, however it pools.
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


def _load_model(
    place: ModelPlace, config: PreTrainedConfig, weights: Weights, what: str, *, example: str
) -> PreTrainedModel:
    options = {"dtype": torch.float32, "output_loading_info": True}
    if weights.pickles:
        # By its tensors: given the Hub id of pickles, transformers asks a service of the Hub to convert them, and
        # sends it the user's token.
        with torch.device("meta"):
            kind = type(AutoModel.from_config(config, trust_remote_code=False))
        model, loading = kind.from_pretrained(None, config=config, state_dict=read_pickles(weights), **options)
    else:
        model, loading = AutoModel.from_pretrained(
            place.source,
            config=config,
            use_safetensors=True,
            **{**place.options, "revision": weights.revision or place.commit},
            **options,
        )
    model.name_or_path = model.config.name_or_path = place.source
    check_heads(model, what, example=example)
    # transformers fills missing weights with random numbers; the features do not depend on the temperature.
    if missing := sorted(set(loading["missing_keys"]) - {"logit_scale", "logit_bias"}):
        raise ValueError(f"{len(missing)} weights are not in its files, the first is {missing[0]}.")
    return model


def _is_of_the_connection(error: BaseException | None) -> bool:
    """Whether the Hub could not be asked for a file: transformers raises its errors from those of the connection."""
    while error is not None:
        if isinstance(error, HTTPError | ConnectionError | LocalEntryNotFoundError) and is_outage(error):
            return True
        error = error.__cause__
    return False


def check_heads(model: PreTrainedModel, what: str, *, example: str) -> None:
    """Raise `InputError`, which begins with `what`, for a model that is no dual encoder with two heads of one size."""
    heads, modules = [head.name for head in of_model(model).heads], dict(model.named_modules())
    missing = [part for part in ("get_image_features", "get_text_features") if not hasattr(model, part)]
    missing += [head for head in heads if head not in modules]
    sizes = set() if missing else {output_size(modules[head]) for head in heads}
    if missing or 0 in sizes or len(sizes) > 1:
        problem = f"whose {' and '.join(heads)} are not linear layers or attention poolers of one size"
        if missing:
            problem = f"without {', '.join(missing)}"
        raise InputError(
            f"{what} is a {type(model).__name__} {problem}. "
            f"A dual encoder of images and texts is needed ({KNOWN}){example}."
        )


def _towers_to_bf16(model: PreTrainedModel) -> None:
    """Convert all but the two heads, which adapters and scores need in float32."""
    exact = {head.name: copy.deepcopy(model.get_submodule(head.name)) for head in of_model(model).heads}
    model.bfloat16()
    for name, head in exact.items():
        model.set_submodule(name, head)


def _hash_folder(place: ModelPlace, weights: Weights) -> str:
    digest, folder = hashlib.sha256(), place.snapshot
    config = folder / (OPEN_CLIP_CONFIG if place.is_open_clip else "config.json")
    for path in [config, *(weights.pickles or sorted(folder.glob("*.safetensors")))]:
        digest.update(path.name.encode())
        digest.update(bytes.fromhex(weights.hashes.get(path.name) or file_sha256(path)))
    return digest.hexdigest()

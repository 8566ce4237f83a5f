"""Loads a model in OpenCLIP's format as the CLIP or SigLIP of transformers that computes the same."""

from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from transformers import CLIPModel, PreTrainedModel, SiglipConfig, SiglipModel

from .model_place import OPEN_CLIP_CONFIG, ModelPlace
from .open_clip_config import read_open_clip_config, to_transformers_config
from .open_clip_inputs import image_processor_of, tokenizer_of
from .open_clip_weights import to_transformers_weights
from .weights import Weights, read_tensors


@dataclass(frozen=True)
class OpenClip:
    """A model of transformers, on the CPU in float32, with what prepares its inputs."""

    model: PreTrainedModel
    image_processor: Any
    tokenizer: Any


def load_open_clip(place: ModelPlace, weights: Weights, what: str) -> OpenClip:
    """Load a place that [`find_model`] says is OpenCLIP's; runs nothing that comes with it.

    Raises `InputError`, which begins with `what`, for a model that transformers has not; `ValueError`, or what
    transformers raises, for files that are damaged or do not fit together, and for embeddings that are not finite.
    """
    settings, preprocessing = read_open_clip_config(place.snapshot / OPEN_CLIP_CONFIG)
    tensors = read_tensors(weights)
    config: Any = to_transformers_config(settings, tensors, what)
    is_siglip = isinstance(config, SiglipConfig)
    kind: Any = SiglipModel if is_siglip else CLIPModel
    model, loading = kind.from_pretrained(
        None,
        config=config,
        state_dict=to_transformers_weights(tensors, is_siglip=is_siglip),
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    if wrong := sorted(loading["mismatched_keys"]):
        name, given, expected = wrong[0]
        raise ValueError(
            f"{len(wrong)} weights have not the shape that its {OPEN_CLIP_CONFIG} says; the first, {name} of "
            f"transformers, has {tuple(given)} in place of {tuple(expected)}."
        )
    if left_over := sorted(loading["unexpected_keys"]):
        raise ValueError(
            f"{len(left_over)} weights are of layers that its {OPEN_CLIP_CONFIG} does not count, the first is "
            f"{left_over[0]} of transformers."
        )
    # The features do not depend on the temperature.
    if missing := sorted(set(loading["missing_keys"]) - {"logit_scale", "logit_bias"}):
        raise ValueError(f"{len(missing)} weights are not in its files, the first is {missing[0]} of transformers.")
    model.name_or_path = model.config.name_or_path = place.source
    image_processor = image_processor_of(preprocessing, config.vision_config.image_size)
    tokenizer = tokenizer_of(place, settings["text_cfg"])
    _check_finite(model, image_processor, tokenizer)
    return OpenClip(model, image_processor, tokenizer)


@torch.inference_mode()
def _check_finite(model: Any, image_processor: Any, tokenizer: Any) -> None:
    pixels = image_processor(images=[Image.new("RGB", (32, 32))], return_tensors="pt")
    tokens = tokenizer(["a photo"], truncation=True, return_tensors="pt")["input_ids"]
    for output in (model.get_image_features(**pixels), model.get_text_features(input_ids=tokens)):
        if not output.pooler_output.isfinite().all():
            raise ValueError("its embeddings are not finite, so its weights are damaged.")

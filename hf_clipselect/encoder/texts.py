"""Runs the frozen text tower once over prompts or captions."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .backbone import Backbone, head_features
from .cache import read_array, write_array
from .dual_encoder import of_model
from .precision import encoder_arithmetic
from .threads import in_order, one_thread_each


_PROMPTS_AT_ONCE = 256


def encode_prompts(backbone: Backbone, prompts: list[list[str]], folder: Path) -> torch.Tensor:
    """The text head's inputs for prompts (templates x classes), `(num_templates, num_classes, text_hidden_size)`,
    float32, on the CPU; read from the features folder of the run if the same prompts were encoded before.
    """
    padded = of_model(backbone.model).pads_text
    tokens = backbone.tokenizer(
        [prompt for row in prompts for prompt in row],
        padding="max_length" if padded else True,
        truncation=True,
        max_length=_max_length(backbone),
        return_tensors="pt",
    )
    if padded:  # some tokenizers give a mask anyway
        tokens = {"input_ids": tokens["input_ids"]}
    # The tokens are part of the key because no hash of the weights covers the tokenizer.
    hashes = {name: hashlib.sha256(values.numpy().tobytes()).hexdigest() for name, values in tokens.items()}
    key = {"prompts": prompts, "tokens": hashes, **backbone.identity()}
    features = read_array(folder / "text.safetensors", key)
    if features is None:
        with encoder_arithmetic(backbone.products, backbone.model.device):
            features = _encode_tokens(backbone.model, tokens)
        write_array(folder / "text.safetensors", key, features)
    return torch.from_numpy(features).reshape(len(prompts), len(prompts[0]), -1)


def too_long_prompts(backbone: Backbone, prompts: list[list[str]]) -> tuple[np.ndarray, int]:
    """Classes with a prompt (templates x classes) longer than the model reads, which [`encode_prompts`] cuts: their
    numbers, int64, ascending; and the most tokens that the model reads, special tokens included.
    """
    limit = _max_length(backbone)
    found: set[int] = set()
    for row in prompts:
        for start in range(0, len(row), _PROMPTS_AT_ONCE):
            # Not verbose: transformers would warn of the first long prompt itself.
            tokens = backbone.tokenizer(row[start : start + _PROMPTS_AT_ONCE], verbose=False)["input_ids"]
            found.update(start + place for place, ids in enumerate(tokens) if len(ids) > limit)
    return np.array(sorted(found), dtype=np.int64), limit


def _encode_tokens(model: Any, tokens: Mapping[str, torch.Tensor]) -> np.ndarray:
    batches = [
        {name: values[start : start + _PROMPTS_AT_ONCE].to(model.device) for name, values in tokens.items()}
        for start in range(0, len(tokens["input_ids"]), _PROMPTS_AT_ONCE)
    ]

    @torch.inference_mode()
    def encode(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return run(lambda: model.get_text_features(**batch)).float().cpu()

    with head_features(model, of_model(model).text_head) as run, one_thread_each(model.device) as threads:
        return torch.cat(list(in_order(encode, batches, threads=threads))).numpy()


def _max_length(backbone: Backbone) -> int:
    # Some tokenizers state an astronomic maximum; the position embeddings are the true bound.
    positions = backbone.model.config.text_config.max_position_embeddings
    for name, module in backbone.model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa and its kin number positions from behind that of the padding.
            positions -= 0 if module.padding_idx is None else module.padding_idx + 1
    return min(backbone.tokenizer.model_max_length, positions)

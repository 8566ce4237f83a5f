"""Texts as the text tower reads them: tokens, cut where the positions of the model end.

Legend: N texts, T prompt templates, C classes or captions.
"""

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn

from .backbone import Backbone
from .dual_encoder import of_model


_TEXTS_AT_ONCE = 1024


@dataclass(frozen=True)
class Tokens:
    """The tokens of N texts: `values` are what the tokenizer gives, `input_ids` and mostly a mask, each of all texts
    one behind the other, int32. Text `n` has those from `starts[n]` to `starts[n + 1]`, of `starts` `(N + 1,)`, int64.

    `widths` `(N,)`, int64, is how many positions each text needs in the model. `too_long`, int64, rising, are the
    numbers of texts of more than `limit` tokens, special ones included, whose ends were cut off. `prompts` are the
    texts themselves, T lists of C.
    """

    prompts: list[list[str]]
    values: dict[str, np.ndarray]
    starts: np.ndarray
    widths: np.ndarray
    too_long: np.ndarray
    limit: int
    tokenizer: Any

    def padded(self, numbers: np.ndarray, width: int) -> dict[str, torch.Tensor]:
        """What the model takes for the texts of these numbers, each `(count, width)`, int64; as the tokenizer pads."""
        lengths = (self.starts[numbers + 1] - self.starts[numbers])[:, None]
        places = np.arange(width)[None]
        if self.tokenizer.padding_side == "left":
            places = places - (width - lengths)
        given = (places >= 0) & (places < lengths)
        at = (self.starts[numbers][:, None] + places)[given]
        filling = {"input_ids": self.tokenizer.pad_token_id, "token_type_ids": self.tokenizer.pad_token_type_id}
        tensors = {}
        for name, values in self.values.items():
            padded = np.full(given.shape, filling.get(name, 0), dtype=np.int64)
            padded[given] = values[at]
            tensors[name] = torch.from_numpy(padded)
        return tensors


def tokenize(backbone: Backbone, prompts: list[list[str]]) -> Tokens:
    """The tokens of prompts, templates x classes: text `t * C + c` is that of template `t` and class `c`."""
    limit, pads = _max_length(backbone), of_model(backbone.model).pads_text
    texts = list(chain.from_iterable(prompts))
    parts: dict[str, list[np.ndarray]] = {}
    lengths: list[int] = []
    too_long: list[int] = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        of_texts = _tokens_of(backbone.tokenizer, texts[start : start + _TEXTS_AT_ONCE], limit)
        too_long.extend(start + place for place in of_texts.pop("too_long"))
        lengths.extend(map(len, of_texts["input_ids"]))
        for name, rows in of_texts.items():
            parts.setdefault(name, []).append(np.fromiter(chain.from_iterable(rows), dtype=np.int32))
    if pads:  # some tokenizers give a mask anyway
        parts = {"input_ids": parts["input_ids"]}
    return Tokens(
        prompts=prompts,
        values={name: np.concatenate(arrays) for name, arrays in parts.items()},
        starts=np.concatenate([[0], np.cumsum(lengths)]),
        widths=np.full(len(texts), limit) if pads else np.array(lengths),
        too_long=np.array(too_long, dtype=np.int64),
        limit=limit,
        tokenizer=backbone.tokenizer,
    )


def _tokens_of(tokenizer: Any, texts: list[str], limit: int) -> dict[str, list]:
    """By name a list for each text, and the places of texts that had to be cut, under `too_long`."""
    # Not verbose: transformers would warn of the first long text itself.
    tokens = dict(tokenizer(texts, verbose=False))
    too_long = [place for place, ids in enumerate(tokens["input_ids"]) if len(ids) > limit]
    if too_long:
        cut = tokenizer([texts[place] for place in too_long], truncation=True, max_length=limit)
        for name, rows in cut.items():
            for place, row in zip(too_long, rows, strict=True):
                tokens[name][place] = row
    return {**tokens, "too_long": too_long}


def _max_length(backbone: Backbone) -> int:
    # Some tokenizers state an astronomic maximum; the position embeddings are the true bound.
    positions = backbone.model.config.text_config.max_position_embeddings
    for name, module in backbone.model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa and its kin number positions from behind that of the padding.
            positions -= 0 if module.padding_idx is None else module.padding_idx + 1
    return min(backbone.tokenizer.model_max_length, positions)

"""Runs the frozen text tower once over prompts or captions: batches of like lengths, kept in shards.

Legend: N texts, T prompt templates, C classes or captions, H' size of the text features: the text head's input.
"""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import tqdm

from ..runtime.processes import Processes
from . import cache
from .backbone import Backbone, head_features
from .dual_encoder import of_model
from .precision import encoder_arithmetic
from .threads import in_order, one_thread_each
from .tokens import Tokens, tokenize


# On a CPU a product of more rows is no faster, because it leaves the caches. The number for a GPU is not measured.
_TOKENS_AT_ONCE_ON_A_CPU = 1024
_TOKENS_AT_ONCE = 16384
# Fewer take less than five seconds, unless the text tower is very large.
_WORTH_A_BAR = 128


def encode_prompts(backbone: Backbone, prompts: list[list[str]], folder: Path) -> torch.Tensor:
    """As [`encode_texts`] in this process alone, for prompts that were not tokenized before."""
    return encode_texts(backbone, tokenize(backbone, prompts), folder, processes=Processes())


def encode_texts(backbone: Backbone, tokens: Tokens, folder: Path, *, processes: Processes) -> torch.Tensor:
    """The text head's inputs for prompts, `(T, C, H')`, float32, on the CPU. What the features folder of the run holds
    of the same texts is read, and not encoded again.

    The processes share the folder and the work; all of them return what is stored, because the last digits of a text
    may be others on another machine. Raises `RunError` where a file vanishes while the run is using it.
    """
    shards = _shards(backbone, tokens, folder, processes)
    mine = shards[processes.index :: processes.count]
    damaged = [shard.index for shard in mine if cache.read_array(shard.path, shard.key) is None]
    missing = [shards[index] for index in sorted(chain.from_iterable(processes.gather(damaged)))]
    for shard, features in _encode_shards(backbone, tokens, missing[processes.index :: processes.count]):
        cache.write_array(shard.path, shard.key, features)
    processes.wait()
    together = np.empty((len(tokens.widths), 0), dtype=np.float32)
    for shard in shards:
        stored = cache.read_written(shard.path, shard.key)
        if shard.index == 0:
            together = np.empty((len(tokens.widths), stored.shape[1]), dtype=np.float32)
        together[shard.start : shard.stop] = stored
    return torch.from_numpy(together).reshape(len(tokens.prompts), len(tokens.prompts[0]), -1)


def text_features(backbone: Backbone, prompts: list[list[str]]) -> torch.Tensor:
    """As [`encode_prompts`], of texts that nothing keeps and of which no progress is shown."""
    tokens = tokenize(backbone, prompts)
    count = len(tokens.widths)
    [(_, features)] = _encode_shards(backbone, tokens, [_TextShard(0, 0, count, Path(), {})], is_shown=False)
    return torch.from_numpy(features).reshape(len(prompts), len(prompts[0]), -1)


@dataclass(frozen=True)
class _TextShard:
    """Texts `start` to `stop` in one file, whose key is made of these texts alone."""

    index: int
    start: int
    stop: int
    path: Path
    key: dict[str, Any]


def _shards(backbone: Backbone, tokens: Tokens, folder: Path, processes: Processes) -> list[_TextShard]:
    """One file for the texts of one shard; and for more of them where an earlier version left it."""
    count, rows, identity = len(tokens.widths), cache.SHARD_ROWS, backbone.identity()
    path = folder / "text.safetensors"
    if count <= rows or all(processes.gather(path.exists())):
        key = {"prompts": tokens.prompts, "tokens": _hashes(tokens, 0, count), **identity}
        if count <= rows or all(processes.gather(cache.read_array(path, key) is not None)):
            return [_TextShard(0, 0, count, path, key)]
    texts = list(chain.from_iterable(tokens.prompts))
    shards = []
    for index, start in enumerate(range(0, count, rows)):
        stop = min(start + rows, count)
        key = {"prompts": texts[start:stop], "tokens": _hashes(tokens, start, stop), **identity}
        shards.append(_TextShard(index, start, stop, folder / f"texts-{index:05d}.safetensors", key))
    return shards


def _hashes(tokens: Tokens, start: int, stop: int) -> dict[str, str]:
    """Of the tokens of some texts, padded to the longest of them: no hash of the weights covers the tokenizer."""
    hashes = {name: hashlib.sha256() for name in tokens.values}
    width = int(tokens.widths[start:stop].max())
    for at in range(start, stop, cache.SHARD_ROWS):
        numbers = np.arange(at, min(at + cache.SHARD_ROWS, stop))
        for name, values in tokens.padded(numbers, width).items():
            hashes[name].update(values.numpy().data)
    return {name: value.hexdigest() for name, value in hashes.items()}


def _encode_shards(
    backbone: Backbone, tokens: Tokens, shards: list[_TextShard], *, is_shown: bool = True
) -> Iterator[tuple[_TextShard, np.ndarray]]:
    model: Any = backbone.model
    device = model.device
    most = _TOKENS_AT_ONCE_ON_A_CPU if device.type == "cpu" else _TOKENS_AT_ONCE
    batches_of = [
        [shard.start + batch for batch in like_lengths(tokens.widths[shard.start : shard.stop], most)]
        for shard in shards
    ]
    count = sum(shard.stop - shard.start for shard in shards)

    def padded() -> Iterator[dict[str, torch.Tensor]]:
        for batch in chain.from_iterable(batches_of):
            tensors = tokens.padded(batch, int(tokens.widths[batch].max()))
            yield {name: values.pin_memory() for name, values in tensors.items()} if device.type == "cuda" else tensors

    @torch.inference_mode()
    def encode(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        inputs = {name: values.to(device, non_blocking=True) for name, values in batch.items()}
        return run(lambda: model.get_text_features(**inputs))

    with ExitStack() as stack:
        stack.enter_context(encoder_arithmetic(backbone.products, device))
        run = stack.enter_context(head_features(model, of_model(model).text_head))
        threads = stack.enter_context(one_thread_each(device))
        progress = stack.enter_context(
            tqdm(total=count, desc="Encoding texts", unit=" texts", disable=not is_shown or count < _WORTH_A_BAR)
        )
        encoded = in_order(encode, padded(), threads=threads)
        for shard, own in zip(shards, batches_of, strict=True):
            parts = []
            for batch, features in zip(own, islice(encoded, len(own)), strict=True):
                # Kept on the device until the shard is complete: a GPU would wait for a copy in each step.
                parts.append(features)
                progress.update(len(batch))
            in_their_order = torch.cat(parts).float().cpu().numpy()
            array = np.empty_like(in_their_order)
            array[np.concatenate(own) - shard.start] = in_their_order
            yield shard, array


def like_lengths(widths: np.ndarray, most: int) -> list[np.ndarray]:
    """Batches of texts of `widths` `(N,)`, int64, the longest texts first: the numbers in each, every one once.

    A batch has at most `most` tokens, padding included, if it has several texts; at most an eighth of it is padding.
    It depends on the widths alone, because the company of a text may change the last digits of its features.
    """
    order = np.argsort(-widths, kind="stable")
    falling = widths[order]
    batches, start = [], 0
    while start < len(order):
        longest = int(falling[start])
        alike = int(np.searchsorted(-falling, -(longest - longest // 8), side="right"))
        stop = min(alike, start + max(1, most // longest))
        batches.append(order[start:stop])
        start = stop
    return batches

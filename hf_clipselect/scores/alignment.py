"""How well an image fits its class: the semantic alignment score (SAS), its margin, and the nearest class.

Shapes: N rows, C classes, D embedding dimension. Scores are float32. A tensor on another device is scored there.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import torch

from ..config.python_calls import python_door
from ..errors import InputError
from ..runtime.caller_state import own_settings
from .arrays import (
    Array,
    as_numpy,
    beside,
    checked_embeds,
    checked_labels,
    library,
    on_its_device,
    row_blocks,
    row_lengths,
    unit_rows,
)


@python_door()
@own_settings()
def semantic_alignment_score(
    image_embeds: Array, text_embeds: Array, labels: Array, *, kind: Literal["cosine", "margin"] = "cosine"
) -> np.ndarray:
    """How well each image fits the prompt of its given class (SAS, eq. 1 of https://huggingface.co/papers/2410.11215).

    Args:
        image_embeds (`np.ndarray` or `torch.Tensor` of shape `(num_rows, embed_dim)`): Image embeddings, normalised
            here.
        text_embeds (`np.ndarray` or `torch.Tensor` of shape `(num_classes, embed_dim)`): One prompt embedding per
            class.
        labels (`np.ndarray` or `torch.Tensor` of shape `(num_rows,)`): Given classes, integers in `[0, num_classes)`.
        kind (`str`, *optional*, defaults to `"cosine"`): "cosine" with the own class, in [-1, 1]; or "margin", that
            cosine minus the highest one with another class, in [-2, 2] and below 0 where another class fits better.
            With one class alone the margin is the cosine.

    Returns:
        `np.ndarray` of shape `(num_rows,)`: Scores, float32, higher is better aligned.

    Raises:
        InputError: Shapes don't match, a row is zero or not finite, a label is out of range, or the kind is unknown.
    """
    _, sas, margin = alignment_scores(image_embeds, text_embeds, labels)
    return sas if kind == "cosine" else margin


def alignment_scores(
    image_embeds: Array, text_embeds: Array, labels: Array
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest class and both kinds of SAS, from one product of images and prompts.

    Takes and raises what [`semantic_alignment_score`] does. Returns arrays of shape `(num_rows,)`: the class whose
    prompt is nearest, of equally near ones the lower, int64; the cosine and the margin, float32.
    """
    pairs = Pairs(image_embeds, text_embeds)
    labels = checked_labels(labels, num_rows=len(pairs.images), num_classes=len(pairs.texts))
    return _aligned(pairs.cosines(), labels, pairs.texts)


def unit_alignment(
    image_embeds: Array, text_embeds: Array, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What [`alignment_scores`] gives, of embeddings that are unit-norm and float32 already, and of int64 labels in
    `[0, C)`: nothing is checked or normalised again.
    """
    images, texts = on_its_device(image_embeds), on_its_device(text_embeds)
    blocks = row_blocks(len(images), width=max(texts.shape), of=images)
    return _aligned(((block, images[block] @ texts.T) for block in blocks), labels, texts)


def _aligned(
    blocks: Iterable[tuple[slice, Array]], labels: np.ndarray, texts: Array
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From cosines `(rows, C)`, a block at a time, which are overwritten; nothing is brought over before the end."""
    module, given_classes = library(texts), beside(texts, labels)
    numbers = beside(texts, np.arange(len(labels)))
    predicted, own, highest_other = [], [], []
    for block, cosines in blocks:
        predicted.append(cosines.argmax(1))
        given = (numbers[: len(cosines)], given_classes[block])
        own.append(cosines[given])
        if len(texts) > 1:
            cosines[given] = -np.inf
            highest_other.append(module.amax(cosines, 1))
    sas = as_numpy(module.concatenate(own))
    margin = sas - as_numpy(module.concatenate(highest_other)) if highest_other else sas
    return as_numpy(module.concatenate(predicted)), np.clip(sas, -1, 1), margin


class Pairs:
    """Images `(N, D)` as given, their lengths `(N,)`, and prompts `(C, D)`, unit-norm, float32, where the images are.

    Raises `InputError` where they don't share D, or a row is zero or not finite.
    """

    def __init__(self, image_embeds: Array, text_embeds: Array) -> None:
        self.images, texts = checked_embeds(image_embeds, "image_embeds"), checked_embeds(text_embeds, "text_embeds")
        self.lengths = row_lengths(self.images, "image_embeds")
        texts = unit_rows(texts, slice(None), row_lengths(texts, "text_embeds"))
        if self.images.shape[1] != texts.shape[1]:
            raise InputError(
                "image_embeds and text_embeds must share their last dimension, "
                f"got shapes {tuple(self.images.shape)} and {tuple(texts.shape)}."
            )
        on_cpu = isinstance(self.images, np.ndarray)
        self.texts = as_numpy(texts) if on_cpu else torch.as_tensor(texts, device=self.images.device)

    def cosines(self) -> Iterator[tuple[slice, Array]]:
        """Cosines `(rows, C)` of a block of images with all prompts."""
        for block in row_blocks(len(self.images), width=max(self.texts.shape), of=self.images):
            yield block, unit_rows(self.images, block, self.lengths) @ self.texts.T

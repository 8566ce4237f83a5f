"""How well an image fits its class: the semantic alignment score (SAS), its margin, and the nearest class.

Shapes: N rows, C classes, D embedding dimension. Scores are float32. A tensor on another device is scored there. On the CPU
everything is done by numpy: many short operations of torch spend more time in meetings of its threads than in the work.
"""

from collections.abc import Iterator
from types import ModuleType
from typing import Literal

import numpy as np
import torch

from .errors import InputError


Array = np.ndarray | torch.Tensor

# Elements of a working block: 16 MB of float32, which leaves a matrix product at full speed.
_BLOCK_ELEMENTS = 2**22


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
    if kind not in ("cosine", "margin"):
        raise InputError(f"kind must be one of cosine, margin, got {kind!r}.")
    _, sas, margin = alignment_scores(image_embeds, text_embeds, labels)
    return sas if kind == "cosine" else margin


def predicted_labels(image_embeds: Array, text_embeds: Array) -> np.ndarray:
    """The class whose prompt is nearest to each image; of equally near ones the lower.

    Args:
        image_embeds (`np.ndarray` or `torch.Tensor` of shape `(num_rows, embed_dim)`): Image embeddings, normalised
            here.
        text_embeds (`np.ndarray` or `torch.Tensor` of shape `(num_classes, embed_dim)`): One prompt embedding per
            class.

    Returns:
        `np.ndarray` of shape `(num_rows,)`: Classes, int64.

    Raises:
        InputError: Shapes don't match, or a row is zero or not finite.
    """
    pairs = _Pairs(image_embeds, text_embeds)
    predicted = np.empty(len(pairs.images), dtype=np.int64)
    for block, cosines in pairs.cosines():
        predicted[block] = as_numpy(cosines.argmax(1))
    return predicted


def alignment_scores(
    image_embeds: Array, text_embeds: Array, labels: Array
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest class and both kinds of SAS, from one product of images and prompts.

    Args:
        image_embeds (`np.ndarray` or `torch.Tensor` of shape `(num_rows, embed_dim)`): Image embeddings, normalised
            here.
        text_embeds (`np.ndarray` or `torch.Tensor` of shape `(num_classes, embed_dim)`): One prompt embedding per
            class.
        labels (`np.ndarray` or `torch.Tensor` of shape `(num_rows,)`): Given classes, integers in `[0, num_classes)`.

    Returns:
        `tuple[np.ndarray, np.ndarray, np.ndarray]`, each of shape `(num_rows,)`: The nearest class as in
        [`predicted_labels`], int64; the cosine and the margin as in [`semantic_alignment_score`], float32.

    Raises:
        InputError: Shapes don't match, a row is zero or not finite, or a label is out of range.
    """
    pairs = _Pairs(image_embeds, text_embeds)
    num_rows, num_classes = len(pairs.images), len(pairs.texts)
    labels = checked_labels(labels, num_rows=num_rows, num_classes=num_classes)
    predicted = np.empty(num_rows, dtype=np.int64)
    sas, margin = np.empty((2, num_rows), dtype=np.float32)
    for block, cosines in pairs.cosines():
        predicted[block] = as_numpy(cosines.argmax(1))
        given = (np.arange(len(cosines)), labels[block])
        own = as_numpy(cosines[given])
        sas[block], margin[block] = np.clip(own, -1, 1), own
        if num_classes > 1:
            cosines[given] = -np.inf
            margin[block] -= as_numpy(library(cosines).amax(cosines, 1))
    return predicted, sas, margin


class _Pairs:
    """Images and prompts that have passed their checks."""

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
        for block in _blocks(len(self.images), width=max(self.texts.shape)):
            yield block, unit_rows(self.images, block, self.lengths) @ self.texts.T


def library(array: Array) -> ModuleType:
    return np if isinstance(array, np.ndarray) else torch


def as_numpy(array: Array) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()


def on_its_device(embeds: Array) -> Array:
    """A tensor on the CPU as a numpy array of the same memory, or of float32 where numpy lacks the type.

    Args:
        embeds (`np.ndarray`, `torch.Tensor` or nested sequence): Numbers.

    Returns:
        `np.ndarray` or `torch.Tensor`: An array, or a tensor on another device.
    """
    if not isinstance(embeds, torch.Tensor):
        return np.asarray(embeds)
    embeds = embeds.detach()
    if embeds.device.type != "cpu":
        return embeds
    return (embeds.float() if embeds.dtype == torch.bfloat16 else embeds).numpy()


def checked_embeds(embeds: Array, name: str) -> Array:
    """Check that embeddings are numbers of shape `(rows, dimension)`, at least one.

    Args:
        embeds (`np.ndarray`, `torch.Tensor` or nested sequence): What a caller gave.
        name (`str`): Its name in the error.

    Returns:
        `np.ndarray` or `torch.Tensor`: As [`on_its_device`] gives them.

    Raises:
        InputError: They are something else.
    """
    embeds = on_its_device(embeds)
    kind = embeds.dtype.kind if isinstance(embeds, np.ndarray) else "c" if embeds.is_complex() else "f"
    if embeds.ndim != 2 or 0 in embeds.shape or kind not in "fiu":
        raise InputError(
            f"{name} must be numbers of shape (rows, dimension), got {embeds.dtype} of shape {tuple(embeds.shape)}."
        )
    return embeds


def row_lengths(embeds: Array, name: str) -> Array:
    """Length of every row, summed in float64 so that it neither overflows nor underflows.

    Args:
        embeds (`np.ndarray` or `torch.Tensor` of shape `(N, D)`): From [`checked_embeds`].
        name (`str`): Their name in the error.

    Returns:
        `np.ndarray` or `torch.Tensor` of shape `(N,)`: Float32, on the device of the embeddings.

    Raises:
        InputError: A row is zero or not finite.
    """
    squared = []
    for block in _blocks(len(embeds), width=embeds.shape[1]):
        rows = _as_float32(embeds[block])
        if isinstance(rows, np.ndarray):
            squared.append(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))
        else:
            squared.append(rows.double().square_().sum(dim=1))
    lengths = _as_float32(library(embeds).concatenate(squared) ** 0.5)
    checked = as_numpy(lengths)
    if (bad := ~np.isfinite(checked) | (checked == 0)).any():
        row = int(np.argmax(bad))
        problem = "all zero" if checked[row] == 0 else "not finite"
        raise InputError(f"{name} must have finite rows with a direction; row {row} is {problem}.")
    return lengths


def unit_rows(embeds: Array, rows: np.ndarray | slice, lengths: Array) -> Array:
    """Some rows as a new array of unit-norm rows.

    Args:
        embeds (`np.ndarray` or `torch.Tensor` of shape `(N, D)`): From [`checked_embeds`].
        rows (`np.ndarray` or `slice`): Which, B of them.
        lengths (`np.ndarray` or `torch.Tensor` of shape `(N,)`): From [`row_lengths`].

    Returns:
        `np.ndarray` or `torch.Tensor` of shape `(B, D)`: Float32, on the device of the embeddings.
    """
    taken, divisor = _as_float32(embeds[rows]), lengths[rows][:, None]
    if isinstance(rows, slice):
        return taken / divisor
    taken /= divisor  # rows by number are a copy already
    return taken


def checked_labels(labels: Array, *, num_rows: int, num_classes: int | None = None) -> np.ndarray:
    """Check given classes.

    Args:
        labels (`np.ndarray` or `torch.Tensor`): What a caller gave.
        num_rows (`int`): How many there must be.
        num_classes (`int`, *optional*): Labels must be below it.

    Returns:
        `np.ndarray` of shape `(num_rows,)`: Labels, int64.

    Raises:
        InputError: They are no integers, not one per row, negative, or too high.
    """
    if isinstance(labels, torch.Tensor):
        labels = labels.detach().cpu().numpy()
    labels = np.asarray(labels)
    if labels.shape != (num_rows,) or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels must be {num_rows} integers, one per row, got {labels.dtype} of shape {labels.shape}."
        )
    outside = labels < 0 if num_classes is None else (labels < 0) | (labels >= num_classes)
    if outside.any():
        row = int(np.argmax(outside))
        expected = "0 or more" if num_classes is None else f"in [0, {num_classes}), the rows of text_embeds"
        raise InputError(f"labels must be {expected}, got {labels[row]} in row {row}.")
    return labels.astype(np.int64, copy=False)


def _blocks(num_rows: int, *, width: int) -> Iterator[slice]:
    """Slices of rows, so that a block of that width keeps to the working size."""
    step = max(1, _BLOCK_ELEMENTS // width)
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))


def _as_float32(array: Array) -> Array:
    return array.astype(np.float32, copy=False) if isinstance(array, np.ndarray) else array.float()

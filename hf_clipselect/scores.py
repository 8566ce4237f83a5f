"""Scores of single rows: how well an image fits its class (SAS), how far it is from its like (SDS).

Shapes: N rows, C classes, D embedding dimension, k neighbours. Everything is float32, and no N x N matrix is ever
built.
"""

import logging
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch

from .errors import InputError
from .selection.counts import round_half_up


logger = logging.getLogger(__name__)

Array = np.ndarray | torch.Tensor

# Elements of a working block: 16 MB of float32, which leaves a matrix product at full speed.
_BLOCK_ELEMENTS = 2**22
# With fewer neighbours the distances are taken from difference vectors; see `_class_diversity`.
_DIRECT_BELOW = 50
# A squared distance below this is the rounding of 2 - 2 cos in float32.
_SQUARED_ROUNDING = 2e-6


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
    images, texts = _paired_embeddings(image_embeds, text_embeds)
    labels = _checked_labels(labels, num_rows=len(images), num_classes=len(texts))
    scores = np.empty(len(images), dtype=np.float32)
    for block, cosines in _cosine_blocks(images, texts):
        own = (np.arange(len(cosines)), labels[block])
        scores[block] = cosines[own]
        if kind == "margin" and len(texts) > 1:
            cosines[own] = -np.inf
            scores[block] -= cosines.max(axis=1)
    return np.clip(scores, -1, 1) if kind == "cosine" else scores


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
    images, texts = _paired_embeddings(image_embeds, text_embeds)
    predicted = np.empty(len(images), dtype=np.int64)
    for block, cosines in _cosine_blocks(images, texts):
        predicted[block] = cosines.argmax(axis=1)
    return predicted


def sample_diversity_score(
    image_embeds: Array, labels: Array, *, neighbor_fraction: float = 0.1, num_neighbors: int | None = None
) -> np.ndarray:
    """How far each image is from its like (SDS, eq. 2 of https://huggingface.co/papers/2410.11215).

    The mean L2 distance between unit-norm embeddings to the k nearest rows of the same given class, the row itself
    left out by its number. k is `floor(neighbor_fraction * N_c + 0.5)` or `num_neighbors`, within `[1, N_c - 1]`. A
    class of one row has score 0, with a warning. Costs O(N_c^2 D) time per class of N_c rows, and memory for a block
    of rows.

    Args:
        image_embeds (`np.ndarray` or `torch.Tensor` of shape `(num_rows, embed_dim)`): Image embeddings, normalised
            here.
        labels (`np.ndarray` or `torch.Tensor` of shape `(num_rows,)`): Given classes, integers from 0.
        neighbor_fraction (`float`, *optional*, defaults to `0.1`): Neighbours as a fraction of the class, in `(0, 1]`.
        num_neighbors (`int`, *optional*): Fixed number of neighbours, at least 1; wins over the fraction.

    Returns:
        `np.ndarray` of shape `(num_rows,)`: Scores, float32, in [0, 2], higher is more diverse.

    Raises:
        InputError: Shapes don't match, a row is zero or not finite, a label is negative, or k is out of range.
    """
    if not 0 < neighbor_fraction <= 1:
        raise InputError(f"neighbor_fraction must lie in (0, 1], got {neighbor_fraction}.")
    if num_neighbors is not None and not (isinstance(num_neighbors, (int, np.integer)) and num_neighbors >= 1):
        raise InputError(f"num_neighbors must be an integer of at least 1, got {num_neighbors}.")
    images = _unit_rows(image_embeds, "image_embeds")
    labels = _checked_labels(labels, num_rows=len(images))
    scores = np.zeros(len(images), dtype=np.float32)
    by_class = np.argsort(labels, kind="stable")
    classes, starts = np.unique(labels[by_class], return_index=True)
    singles = []
    for label, rows in zip(classes, np.split(by_class, starts[1:]), strict=True):
        if len(rows) == 1:
            singles.append(int(label))
            continue
        wanted = round_half_up(neighbor_fraction, len(rows)) if num_neighbors is None else num_neighbors
        scores[rows] = _class_diversity(images[rows], min(max(wanted, 1), len(rows) - 1))
    if singles:
        named = ", ".join(map(str, singles[:10])) + (", ..." if len(singles) > 10 else "")
        logger.warning("%d classes have one row, whose diversity score is 0: classes %s.", len(singles), named)
    return scores


def _class_diversity(embeds: np.ndarray, k: int) -> np.ndarray:
    """Mean distance to the k nearest other rows, k < len(embeds), a block of rows at a time."""
    num_rows = len(embeds)
    scores = np.empty(num_rows, dtype=np.float32)
    for block in _blocks(num_rows, width=num_rows):
        cosines = embeds[block] @ embeds.T
        # By number: under rounding, and between duplicates, the nearest row need not be the row itself.
        cosines[np.arange(len(cosines)), np.arange(num_rows)[block]] = -np.inf
        if k < _DIRECT_BELOW:
            neighbors = np.argpartition(cosines, num_rows - k, axis=1)[:, num_rows - k :]
            scores[block] = _direct_mean_distance(embeds, block, neighbors)
        else:
            cosines.partition(num_rows - k, axis=1)
            squared = 2 - 2 * cosines[:, num_rows - k :]
            squared[squared < _SQUARED_ROUNDING] = 0
            scores[block] = np.sqrt(squared, out=squared).mean(axis=1)
    return scores


def _direct_mean_distance(embeds: np.ndarray, block: slice, neighbors: np.ndarray) -> np.ndarray:
    """By difference vectors: 2 - 2 cos cancels where rows are close, and few neighbours do not average it out."""
    total = np.zeros(len(neighbors), dtype=np.float32)
    for column in neighbors.T:
        difference = embeds[block] - embeds[column]
        total += np.sqrt(np.einsum("nd,nd->n", difference, difference))
    return total / neighbors.shape[1]


def _blocks(num_rows: int, *, width: int) -> Iterator[slice]:
    """Slices of rows, so that a block of that width keeps to the working size."""
    step = max(1, _BLOCK_ELEMENTS // width)
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))


def _cosine_blocks(images: np.ndarray, texts: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    for block in _blocks(len(images), width=len(texts)):
        yield block, images[block] @ texts.T  # (rows of the block, C)


def _paired_embeddings(image_embeds: Array, text_embeds: Array) -> tuple[np.ndarray, np.ndarray]:
    images, texts = _unit_rows(image_embeds, "image_embeds"), _unit_rows(text_embeds, "text_embeds")
    if images.shape[1] != texts.shape[1]:
        raise InputError(
            "image_embeds and text_embeds must share their last dimension, "
            f"got shapes {images.shape} and {texts.shape}."
        )
    return images, texts


def _unit_rows(embeds: Array, name: str) -> np.ndarray:
    """Embeddings as a new float32 array of unit-norm rows."""
    if isinstance(embeds, torch.Tensor):
        embeds = embeds.detach().float().cpu().numpy()  # numpy knows no bfloat16
    embeds = np.asarray(embeds)
    if embeds.ndim != 2 or embeds.size == 0 or embeds.dtype.kind not in "fiu":
        raise InputError(
            f"{name} must be numbers of shape (rows, dimension), got {embeds.dtype} of shape {embeds.shape}."
        )
    embeds = embeds.astype(np.float32, copy=False)
    norms = np.sqrt(np.einsum("nd,nd->n", embeds, embeds, dtype=np.float64))  # neither overflows nor underflows
    bad = ~np.isfinite(norms) | (norms == 0)
    if bad.any():
        row = int(np.argmax(bad))
        problem = "all zero" if norms[row] == 0 else "not finite"
        raise InputError(f"{name} must have finite rows with a direction; row {row} is {problem}.")
    return embeds / norms.astype(np.float32)[:, None]


def _checked_labels(labels: Array, *, num_rows: int, num_classes: int | None = None) -> np.ndarray:
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


def alignment_scores(image_embeds: Array, text_embeds: Array, labels: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Placeholder of the lead until helper SDS replaces it."""
    return (
        predicted_labels(image_embeds, text_embeds),
        semantic_alignment_score(image_embeds, text_embeds, labels),
        semantic_alignment_score(image_embeds, text_embeds, labels, kind="margin"),
    )

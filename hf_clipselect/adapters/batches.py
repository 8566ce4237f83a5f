"""Batches of cached features on the device that trains: all that a step reads is sent before it, for many batches.

Legend: N rows, B rows of a batch, c distinct texts among theirs, T templates, C classes or captions, H and H' hidden
sizes of the towers.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from ..encoder.feature_rows import FeatureRows


# Rows whose features are read and sent together, since a single batch has few rows in each shard.
_ROWS_AHEAD = 8192
# Of the free memory of a GPU, what features that stay there may take.
_RESIDENT_SHARE = 0.25


@dataclass(frozen=True)
class Batch:
    """B rows, on the device: nothing about them has to be looked up, counted or waited for any more."""

    images: torch.Tensor  # features (B, H)
    texts: torch.Tensor  # (c,) int64, numbers of the distinct texts of the rows
    own_text: torch.Tensor  # (B,) int64, number of each row's text among these
    log_counts: torch.Tensor  # (c,) log of how many rows have each


def batches_of(
    rows: Iterable[np.ndarray],
    image_features: FeatureRows | torch.Tensor,
    labels: np.ndarray,
    *,
    device: torch.device,
    texts_on: torch.device,
) -> Iterator[Batch]:
    """The batches of these rows, int64 numbers in `[0, N)`; the next ones are sent while the steps of some are taken.

    Image features `(N, H)` are cached ones or, as from [`resident_images`], a tensor on the device; labels `(N,)` are
    numbers of texts, int64, of which `Batch.texts` lies on `texts_on`.
    """
    rows, sent = iter(rows), None
    while ahead := list(islice(rows, 1)):
        ahead += islice(rows, max(0, _ROWS_AHEAD // len(ahead[0]) - 1))
        before, sent = sent, _sent(ahead, image_features, labels, device, texts_on)
        yield from before or ()
    yield from sent or ()


def _sent(
    rows: list[np.ndarray],
    image_features: FeatureRows | torch.Tensor,
    labels: np.ndarray,
    device: torch.device,
    texts_on: torch.device,
) -> Iterator[Batch]:
    numbers, sizes = np.concatenate(rows), [len(some) for some in rows]
    if isinstance(image_features, torch.Tensor):
        images = image_features.index_select(0, _send(numbers, device))
    else:
        images = _send(image_features.take(numbers), device)
    grouped = [np.unique(labels[some], return_inverse=True, return_counts=True) for some in rows]
    texts, own_text, counts = (np.concatenate(parts) for parts in zip(*grouped, strict=True))
    kinds = [len(distinct) for distinct, _, _ in grouped]
    log_counts = torch.from_numpy(counts).log().numpy()
    return map(
        Batch,
        images.split(sizes),
        _send(texts, texts_on).split(kinds),
        _send(own_text, device).split(sizes),
        _send(log_counts, device).split(kinds),
    )


def resident_images(
    image_features: FeatureRows, device: torch.device, *, num_rows_read: int
) -> FeatureRows | torch.Tensor:
    """All features `(N, H)` on a GPU, if they fit and a training reads as many rows; else as they are.

    Of the CPU they are part already.
    """
    shape = len(image_features), image_features.hidden_size
    if num_rows_read < len(image_features) or not _fits(4 * shape[0] * shape[1], device):
        return image_features
    resident = torch.empty(shape, device=device)
    for start in range(0, len(image_features), _ROWS_AHEAD):
        rows = np.arange(start, min(start + _ROWS_AHEAD, len(image_features)))
        resident[start : start + len(rows)] = _send(image_features.take(rows), device)
    return resident


def resident_texts(text_features: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Features `(T, C, H')` on the device, or as they are where they do not fit on a GPU; see [`take_texts`]."""
    if device.type == "cuda" and not _fits(text_features.nbytes, device):
        return text_features
    return text_features.to(device)


def take_texts(texts: torch.Tensor, numbers: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Some texts `(T, c, H')` on the device, of those that [`resident_texts`] gives; their numbers lie beside them."""
    taken = texts.index_select(1, numbers)
    # What is taken is pinned: from other memory a copy to a GPU would be waited for.
    return taken if taken.device.type == device.type else taken.pin_memory().to(device, non_blocking=True)


def _fits(num_bytes: int, device: torch.device) -> bool:
    return device.type == "cuda" and num_bytes <= _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]


def _send(values: np.ndarray, device: torch.device) -> torch.Tensor:
    tensor = torch.from_numpy(values)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)

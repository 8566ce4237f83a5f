"""Embeddings and labels as callers give them: checked, normalised, each where it is.

A tensor on another device stays there. On the CPU all arrays are numpy's: in many short operations torch's threads
wait for each other longer than they work, and numpy's products took 0.6 to 0.95 of the time of torch's (AMD EPYC).

Shapes: N rows, D embedding dimension, B some of the rows.
"""

from collections.abc import Iterator, Sequence
from types import ModuleType

import numpy as np
import torch

from ..config.argument_types import shown
from ..errors import InputError


Array = np.ndarray | torch.Tensor

# Elements of a working block: 16 MB of float32, which leaves a matrix product at full speed; 256 MB on another device
# than the CPU, for which that is a millisecond's work.
_BLOCK_ELEMENTS, _BLOCK_ELEMENTS_ELSEWHERE = 2**22, 2**26
# Rows whose largest number lies outside are scaled: float32 rounds smaller ones, and larger ones overflow.
_SMALLEST, _LARGEST = 1e-30, 1e30


def library(array: Array) -> ModuleType:
    """The module whose functions take an array: numpy or torch."""
    return np if isinstance(array, np.ndarray) else torch


def as_numpy(array: Array) -> np.ndarray:
    """An array of either kind, on any device, as one of numpy's."""
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()


def on_its_device(array: Array | Sequence, name: str = "image_embeds") -> Array:
    """What a caller gave as an array of numpy's, or as a tensor where it is one on another device than the CPU.

    A tensor on the CPU shares its memory with the array unless it is float16 or bfloat16. Raises `InputError`, with
    the name, for a ragged list and for a tensor that is not dense.
    """
    if not isinstance(array, torch.Tensor):
        try:
            return np.asarray(array)
        except (ValueError, TypeError, RuntimeError):
            raise InputError(
                f"{name} must be an array, with as many numbers in each row, got {shown(array)}."
            ) from None
    if array.layout != torch.strided or array.is_quantized or array.is_nested or array.device.type == "meta":
        kind = "quantised" if array.is_quantized else str(array.layout).removeprefix("torch.")
        raise InputError(
            f"{name} must be a dense tensor that holds its numbers, got a {kind} one on the device {array.device}."
        )
    array = array.detach()
    if array.device.type != "cpu":
        return array
    if array.is_floating_point() and array.dtype != torch.float64:
        array = array.float()  # numpy knows no bfloat16
    return array.resolve_conj().resolve_neg().numpy()


def checked_embeds(embeds: Array, name: str) -> Array:
    """Embeddings of shape `(rows, dimension)`, at least one, as [`on_its_device`] gives them; rows that float32 can't
    hold are scaled, since only their direction counts. Raises `InputError`, with the name, for anything else.
    """
    embeds = on_its_device(embeds, name)
    kind = embeds.dtype.kind if isinstance(embeds, np.ndarray) else _kind(embeds.dtype)
    if embeds.ndim != 2 or 0 in embeds.shape or kind not in "fiu":
        raise InputError(
            f"{name} must be numbers of shape (rows, dimension), got {embeds.dtype} of shape {tuple(embeds.shape)}."
        )
    return _within_float32(embeds)


def row_lengths(embeds: Array, name: str) -> Array:
    """Length `(N,)` of every row of embeddings from [`checked_embeds`], float32, on their device; summed in float64 so
    that it neither overflows nor underflows. Raises `InputError`, with the name, where a row is zero or not finite.
    """
    squared = []
    for block in row_blocks(len(embeds), width=embeds.shape[1], of=embeds):
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


def unit_rows(embeds: Array, rows: Array | slice, lengths: Array) -> Array:
    """Some rows `(B, D)` divided by their lengths: a new array, float32, on the device of the embeddings.

    The embeddings `(N, D)` are from [`checked_embeds`], the lengths `(N,)` from [`row_lengths`].
    """
    taken, divisor = _as_float32(embeds[rows]), lengths[rows][:, None]
    if isinstance(rows, slice):
        return taken / divisor
    taken /= divisor  # rows by number are a copy already
    return taken


def checked_labels(labels: Array | Sequence[int], *, num_rows: int, num_classes: int | None = None) -> np.ndarray:
    """Given classes `(num_rows,)`, int64, in `[0, num_classes)`; raises `InputError` for anything else."""
    labels = as_numpy(on_its_device(labels, "labels"))
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


def is_elsewhere(array: Array) -> bool:
    """Whether an array is a tensor on another device than the CPU."""
    return isinstance(array, torch.Tensor) and array.device.type != "cpu"


def beside(array: Array, numbers: np.ndarray) -> Array:
    """Numbers where an array is: as a tensor on its device where it is one."""
    return numbers if isinstance(array, np.ndarray) else torch.from_numpy(numbers).to(array.device)


def row_blocks(num_rows: int, *, width: int, of: Array | None = None) -> Iterator[slice]:
    """Slices of rows whose blocks of that width take at most 16 MB of float32; of an array elsewhere 256 MB."""
    elements = _BLOCK_ELEMENTS if of is None or not is_elsewhere(of) else _BLOCK_ELEMENTS_ELSEWHERE
    step = max(1, elements // width)
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))


def _kind(dtype: torch.dtype) -> str:
    """The kind of a tensor's numbers, in numpy's letters."""
    if dtype.is_complex or dtype == torch.bool:
        return "c" if dtype.is_complex else "b"
    return "f" if dtype.is_floating_point else "i"


def _within_float32(embeds: Array) -> Array:
    """The same array, or a copy in which rows that are too long or short for float32 are divided by their peak."""
    numbers = embeds.dtype.kind == "f" if isinstance(embeds, np.ndarray) else embeds.dtype.is_floating_point
    if not numbers or embeds.dtype.itemsize < 4:
        return embeds
    module = library(embeds)
    blocks = [embeds[block] for block in row_blocks(len(embeds), width=embeds.shape[1], of=embeds)]
    peaks = module.concatenate([module.maximum(module.amax(rows, 1), -module.amin(rows, 1)) for rows in blocks])
    finite = module.isfinite(peaks) & (peaks > 0)  # of the others the error tells
    outside = finite & ((peaks < _SMALLEST) | (peaks > _LARGEST))
    if not outside.any():
        return embeds
    scaled = embeds.copy() if isinstance(embeds, np.ndarray) else embeds.clone()
    scaled[outside] /= peaks[outside][:, None]
    return scaled


def _as_float32(array: Array) -> Array:
    return array.astype(np.float32, copy=False) if isinstance(array, np.ndarray) else array.float()

"""Rows that are copies of rows of a reference, such as a test split, by their embeddings.

Shapes: n rows of one class, M rows of the reference, D embedding dimension.
"""

import numpy as np

from ..selection.neighbor_graph import DUPLICATE_WEIGHT, NUM_NEAREST, likeness, zero_cosine
from .arrays import Array, as_numpy, is_elsewhere, library, on_its_device
from .diversity import nearest_cosines


# Rows of a class that tell how alike its rows are.
_SAMPLED_ROWS = 1024
# Elements of a block of cosines, 32 MB, on another device than the CPU 256 MB, and rows of the reference in it.
_BLOCK_ELEMENTS, _BLOCK_ELEMENTS_ELSEWHERE, _BLOCK_REFERENCES = 2**23, 2**26, 2**14


def usual_cosine(embeds: Array) -> np.float32 | None:
    """The cosine that means no likeness among the rows of a class, `zero_cosine` of up to 1,024 of its rows.

    Takes their unit-norm float32 embeddings `(n, D)`; a class of one row tells nothing, `None`. Which rows of a larger
    class count depends on its size alone.
    """
    num_rows = len(embeds)
    if num_rows == 1:
        return None
    rows = np.arange(num_rows)
    if num_rows > _SAMPLED_ROWS:
        rows = np.sort(np.random.default_rng(num_rows).choice(num_rows, _SAMPLED_ROWS, replace=False))
    return zero_cosine(nearest_cosines(embeds, rows, NUM_NEAREST))


def nearest_references(embeds: Array, references: Array) -> tuple[np.ndarray, np.ndarray]:
    """The row of a reference that is nearest to each row, `(n,)`, int64, and its cosine with it, `(n,)`, float32.

    Takes unit-norm float32 embeddings `(n, D)` and `(M, D)`, M at least 1, on one device. Costs O(n M D) time, and
    memory for a block of cosines.
    """
    embeds, references = on_its_device(embeds), on_its_device(references)
    module = library(embeds)
    elements = _BLOCK_ELEMENTS_ELSEWHERE if is_elsewhere(embeds) else _BLOCK_ELEMENTS
    step = elements // min(_BLOCK_REFERENCES, len(references))
    nearest, highest = [], []
    for start in range(0, len(embeds), step):
        some = embeds[start : start + step]
        places, values = [], []
        for first in range(0, len(references), _BLOCK_REFERENCES):
            cosines = some @ references[first : first + _BLOCK_REFERENCES].T
            place = cosines.argmax(1)
            places.append(place + first)
            values.append(cosines[module.arange(len(some)), place])
        block = module.stack(values).argmax(0)
        each = module.arange(len(some))
        nearest.append(module.stack(places)[block, each])
        highest.append(module.stack(values)[block, each])
    return as_numpy(module.concatenate(nearest)).astype(np.int64), as_numpy(module.concatenate(highest))


def copies(nearest: np.ndarray, cosines: np.ndarray, usual: np.float32) -> np.ndarray:
    """The row of the reference that each row of a class is a copy of, `(n,)`, int64; -1 for a copy of none.

    A copy is as like its nearest row of the reference as near duplicates of the class are like each other, for which
    `usual` is the [`usual_cosine`] of the class. Takes what [`nearest_references`] gives.
    """
    return np.where(likeness(cosines, usual) >= DUPLICATE_WEIGHT, nearest, -1)

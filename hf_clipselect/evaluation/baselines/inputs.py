"""What callers give to the baselines, checked.

Shapes: N rows, D embedding dimension.
"""

import numpy as np

from ...errors import InputError
from ...scores.arrays import Array, as_numpy, checked_embeds, row_lengths, unit_rows
from ...selection.counts import is_count
from ...selection.exact import finite_scores


def unit_embeds(embeds: Array) -> np.ndarray:
    """Embeddings as unit-norm rows, as every selection here takes them.

    Args:
        embeds (`np.ndarray` or `torch.Tensor` of shape `(N, D)`): Embeddings of any norm but 0.

    Returns:
        `np.ndarray` of shape `(N, D)`: Float32, a new array.

    Raises:
        InputError: They are no numbers of that shape, or a row is zero or not finite.
    """
    embeds = checked_embeds(embeds, "embeds")
    return as_numpy(unit_rows(embeds, slice(None), row_lengths(embeds, "embeds")))


def checked_count(count: int, most: int | None = None, name: str = "count") -> int:
    """Check a number of rows, or of something else.

    Args:
        count (`int`): What a caller gave.
        most (`int`, *optional*): The number of rows, where there can't be more.
        name (`str`, *optional*, defaults to "count"): Its name in the error.

    Returns:
        `int`: The count.

    Raises:
        InputError: It is no integer of at least 1, or more than `most`.
    """
    if not is_count(count) or count < 1 or (most is not None and count > most):
        expected = "of at least 1" if most is None else f"from 1 to the number of rows, {most}"
        raise InputError(f"{name} must be an integer {expected}, got {count!r}.")
    return int(count)


def checked_scores(scores: np.ndarray, num_rows: int | None = None) -> np.ndarray:
    """Check scores, one for each row.

    Args:
        scores (`np.ndarray` of shape `(N,)`): What a caller gave.
        num_rows (`int`, *optional*): How many there must be; without it any number but 0.

    Returns:
        `np.ndarray` of shape `(N,)`: Float64, so that what is added up or divided keeps their order.

    Raises:
        InputError: There are none or too many or few, or one is not finite.
    """
    scores = finite_scores(scores).astype(np.float64)
    if len(scores) == 0 or num_rows not in (None, len(scores)):
        raise InputError(f"scores must be one number per row, {num_rows or 'at least 1'}, got {len(scores)}.")
    return scores

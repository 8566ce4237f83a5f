"""What a seed may be."""

from numbers import Integral
from typing import Any

from ..errors import InputError


_SEEDS = 2**32


def check_seed(seed: Any, name: str = "seed") -> None:
    """Refuse what is no seed for numpy, scikit-learn and torch alike.

    Args:
        seed (`int`): What a caller gave.
        name (`str`, *optional*, defaults to `"seed"`): Its name in the error.

    Raises:
        InputError: It is no whole number in [0, 2^32).
    """
    if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= seed < _SEEDS:
        raise InputError(f"{name} must be a whole number in [0, 2^32), got {seed!r}.")

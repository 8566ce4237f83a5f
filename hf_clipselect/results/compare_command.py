"""The command that tells a user whether the rows that a run kept are worth it."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ..selection import Size, config_name


def compare_command(
    arguments: Mapping[str, Any], captions: Mapping[str, Any] | None, sizes: Sequence[Size]
) -> str | None:
    """The command that trains on the rows of the first size, on as many random rows, and on all rows.

    `arguments` are those of the run, `captions` what its report says of them. There is none, `None`, for a run that
    leaves nothing behind, and for image-text pairs, which have no classes to train on.
    """
    folder, size = arguments.get("output_dir"), sizes[0]
    if not isinstance(folder, str) or captions is not None:
        return None
    is_ratio = isinstance(size, float)
    subset = ["--selection_ratio", str(size)] if is_ratio else ["--dataset_config_name", config_name(size)]
    command = ["python", "recipes/train_classifier.py", "--dataset_name", folder, *subset]
    return shlex.join([*command, "--compare_with", "random", "full"])

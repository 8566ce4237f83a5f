"""Knobs that have a meaning for classes alone, which captions have not."""

from ..errors import InputError
from ..selection import Objective


def check_knobs_for_captions(objective: Objective) -> None:
    """Raise `InputError` for knobs that only classes have a meaning for."""
    if objective.alignment == "ensemble":
        raise InputError(
            "--alignment ensemble learns what the images of a class have in common, and captions have no classes; "
            "pass margin or cosine."
        )
    if objective.class_quotas and objective.balance_by == "class":
        raise InputError(
            "--class_quotas_file names classes, and captions have none, only clusters that are not known before the "
            "images are encoded; leave it out, or give quotas of groups with --group_column and --balance_by group."
        )

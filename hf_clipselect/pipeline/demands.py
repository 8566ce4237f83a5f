"""What is asked of the rows, checked before anything is encoded."""

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from ..results.subsets import check_demands
from ..scores.clusters import check_num_clusters
from ..scores.folds import check_num_folds
from ..selection import Objective, Size
from .prepared import GivenRows


def check_row_demands(rows: GivenRows, objective: Objective, sizes: Sequence[Size], *, num_folds: int) -> None:
    """Raise `InputError` for sizes, quotas, lists of rows, clusters and folds that these rows can't give, and for
    knobs that have no meaning for captions.
    """
    if num_folds:
        check_num_folds(num_folds, len(rows.labels))
    if not rows.has_captions:
        check_demands(rows.labels, rows.class_names, rows.facts, objective, sizes)
        return
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
    check_num_clusters(rows.num_clusters, len(rows.labels))
    check_demands(np.zeros_like(rows.labels), ["all"], rows.facts, objective, sizes)  # there are no clusters yet

"""Methods that are told how many labels are wrong, by the same noise model as the objective `robust`.

Legend: N rows.
"""

from collections.abc import Sequence

import numpy as np

from ...results.scores_table import column_values
from ...selection import class_quotas, selection_count
from ..baselines.ccs import ccs_rows
from .method import Selected
from .setting import Setting


# Another stream than those that draw wrong labels, random rows and folds with the seed.
_CCS_STREAM = 11


def select_by_ccs(setting: Setting, ratios: Sequence[float]) -> Selected:
    """CCS with a cutoff: the hardest rows are dropped, as many as labels are estimated to be wrong.

    The paper searches the cutoff for each data set and ratio, on models trained on rows with right labels. Without any
    such row the estimate of the noise model takes its place, within each class as far as the quota allows. The score
    is the paper's: the area under the margin, here of the probe that other methods share.
    """
    margins = setting.proxy[0].margins
    share = float(column_values(setting.scored[0].scores, "label_error_probability").mean(dtype=np.float64))
    seed = int(np.random.default_rng([setting.seed, _CCS_STREAM]).integers(2**31))
    if setting.class_balance == "none":
        groups = [np.arange(setting.num_rows)]
    else:
        groups = [np.flatnonzero(setting.labels == label) for label in range(setting.num_classes)]
    kept = {}
    for ratio in ratios:
        count = selection_count(ratio, setting.num_rows)
        quotas = [count]
        if setting.class_balance != "none":
            quotas = class_quotas(
                setting.labels, count, balance=setting.class_balance, num_classes=setting.num_classes
            ).tolist()
        parts = [
            rows[ccs_rows(-margins[rows], quota, cutoff=min(share, 1 - quota / len(rows)), seed=seed)]
            for rows, quota in zip(groups, quotas, strict=True)
            if quota
        ]
        kept[ratio] = np.sort(np.concatenate(parts))
    return Selected(kept, margins)

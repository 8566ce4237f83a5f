"""CCS that is told how many labels are wrong, by the same noise model as the objective `robust`."""

from collections.abc import Sequence

import numpy as np

from ...results.scores_table import column_values
from ..baselines import select_baseline
from .method import Selected
from .setting import Setting


def select_by_ccs(setting: Setting, ratios: Sequence[float]) -> Selected:
    """CCS with a cutoff: the hardest rows are dropped, as many as labels are estimated to be wrong.

    The paper searches the cutoff for each data set and ratio, on models trained on rows with right labels. Without any
    such row the estimate of the noise model takes its place, within each class as far as the quota allows. The score
    is the paper's: the area under the margin, here of the proxy that other methods share.
    """
    dynamics = setting.proxy[0]
    share = float(column_values(setting.scored[0].scores, "label_error_probability").mean(dtype=np.float64))
    kept = {}
    for ratio in ratios:
        result = select_baseline(
            "ccs",
            setting.embeddings.images,
            setting.labels,
            selection_ratio=ratio,
            class_balance=setting.class_balance,
            seed=setting.seed,
            dynamics=dynamics,
            settings={"cutoff": share},
        )
        kept[ratio] = result.selected
    return Selected(kept, dynamics.margins)

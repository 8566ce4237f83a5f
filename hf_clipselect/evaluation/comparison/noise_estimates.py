"""How well the noise model knows the planted wrong labels: how many there are, and which, beside other judges.

Legend: N rows, C classes.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from ...scores.alignment import semantic_alignment_score
from ...scores.noise_model import estimate_label_noise
from .cells import code_digest
from .peers import cleanlab_issue_scores, is_installed
from .setting import Setting
from .sweep import Row


# Figures of a setting: shares of the rows, then areas under the ROC curve (NaN without wrong labels), all in [0, 1].
SHARES = ("share", "share_error", "cleanlab_share")
JUDGES = ("noise_model", "clip_margin", "regression")


def noise_estimates(settings: Sequence[Setting]) -> Iterator[Row]:
    """Measure the noise model on plain embeddings, without any selection.

    Args:
        settings (`Sequence[Setting]`): Data with known wrong labels.

    Returns:
        `Iterator[dict]`: A row for each setting: `data`, `noise_kind`, `noise_rate` and `seed`; `true_share` of wrong
        labels; `share` and `share_error` by the noise model; `cleanlab_share`, the part that `find_label_issues` flags
        (NaN where cleanlab is not installed); and the AUROC for wrong labels of `noise_model`, of `clip_margin`, and
        of `regression`, the probability of the given label by a logistic regression that has not seen the row.
    """
    for setting in settings:
        damage = setting.damage
        key = {
            "what": "noise",
            "content": setting.content,
            "seed": setting.seed,
            "code": code_digest(),
            "cleanlab": is_installed("cleanlab"),
        }
        values = setting.cells.find(key)
        if values is None:
            with threadpool_limits(1):
                measured = _measure(setting)
            values = {name: np.asarray(value) for name, value in measured.items()}
            setting.cells.store(key, values)
        yield {
            "data": setting.name,
            "noise_kind": damage.noise_kind,
            "noise_rate": damage.noise_rate,
            "seed": damage.seed,
            "true_share": float(setting.is_noisy.mean()),
            **{name: values[name].item() for name in (*SHARES, *JUDGES)},
        }


def _measure(setting: Setting) -> dict[str, float]:
    images, texts, labels = setting.embeddings.images, setting.embeddings.texts, setting.labels
    noise = estimate_label_noise(images, texts, labels, seed=setting.seed)
    regression, _ = setting.out_of_fold
    right = {
        "noise_model": -noise.error_probability,
        "clip_margin": semantic_alignment_score(images, texts, labels, kind="margin"),
        "regression": regression[np.arange(len(labels)), np.searchsorted(np.unique(labels), labels)],
    }
    flagged = float("nan")
    if is_installed("cleanlab"):
        flagged = float((cleanlab_issue_scores(regression, labels, seed=setting.seed) < 0).mean())
    return {
        "share": noise.share,
        "share_error": noise.share_error,
        "cleanlab_share": flagged,
        **{name: _auroc(setting.is_noisy, scores) for name, scores in right.items()},
    }


def _auroc(is_noisy: np.ndarray, scores: np.ndarray) -> float:
    return float(roc_auc_score(~is_noisy, scores)) if is_noisy.any() else float("nan")

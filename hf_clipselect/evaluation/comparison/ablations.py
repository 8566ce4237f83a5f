"""Parts of the paper's objective and of ours left out or replaced: tables 5, 9, 10 and 11 of
https://huggingface.co/papers/2410.11215.

Without the loss that holds the ratio the paper sorts the scores, which is what `paper` itself does here: `paper_loop`
has the loss and its loop, and keeps the same rows to within theta N.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...pipeline.embeddings import select_embeddings
from ...selection import selection_count, sgd_select, top_k
from .method import Method, Selected, selected_by_ours
from .setting import Setting


ABLATION = "ablation"


def _by_loop(setting: Setting, ratios: Sequence[float], *, theta: float) -> Selected:
    sas, sds = _scores(setting, ratios[0])
    rows = {}
    for ratio in ratios:
        count = selection_count(ratio, setting.num_rows)
        rows[ratio] = sgd_select(sas + ratio * sds, count, theta=theta).rows  # alpha is the ratio
    return Selected(rows, sas)


def _without_sas(setting: Setting, ratios: Sequence[float]) -> Selected:
    _, sds = _scores(setting, ratios[0])
    rows = {ratio: np.sort(top_k(sds, selection_count(ratio, setting.num_rows))) for ratio in ratios}
    return Selected(rows, sds)


def _scores(setting: Setting, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    scores = setting.select(objective="paper", ratio=ratio).scores.with_format("numpy")
    return scores["sas"][:], scores["sds"][:]


def _with_image_means(setting: Setting, ratios: Sequence[float], *, objective: str) -> Selected:
    """The mean embedding of a class, wrong labels and all, in the place of its text."""
    images = setting.embeddings.images
    means = np.stack([images[setting.labels == label].mean(axis=0) for label in range(setting.num_classes)])
    result = select_embeddings(
        images,
        means,
        setting.labels,
        selection_ratio=ratios[0],
        objective=objective,
        adaptation="off",
        seed=setting.seed,
    )
    return selected_by_ours(result, ratios)


def _ours_with(setting: Setting, ratios: Sequence[float], *, objective: str, **knobs: Any) -> Selected:
    return selected_by_ours(setting.select(objective=objective, ratio=ratios[0], **knobs), ratios)


def _ablation(
    name: str, select: Callable[..., Selected], *, uses: frozenset[str] = frozenset(), **settings: Any
) -> Method:
    return Method(name, ABLATION, partial(select, **settings), uses, settings=settings)


_EMBEDDINGS = frozenset({"embeddings"})

ABLATIONS = [
    _ablation("diverse_without_adapters", _ours_with, objective="diverse", adaptation="off"),
    _ablation("diverse_with_image_means", _with_image_means, uses=_EMBEDDINGS, objective="diverse"),
    _ablation("paper_loop", _by_loop, theta=5e-4),
    _ablation("paper_loop_theta_5e-5", _by_loop, theta=5e-5),
    _ablation("paper_without_sas", _without_sas),
    _ablation("paper_without_sds", _ours_with, objective="paper", diversity_weight=0.0),
    _ablation("paper_without_adapters", _ours_with, objective="paper", adaptation="off"),
    _ablation("paper_with_image_means", _with_image_means, uses=_EMBEDDINGS, objective="paper"),
]

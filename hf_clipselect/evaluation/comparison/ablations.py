"""Parts of the paper's objective and of ours left out or replaced: tables 5, 9, 10 and 11 of
https://huggingface.co/papers/2410.11215.

Adapters are trained always, as the paper's are, or not at all where its name says so. The columns of table 5, whose
losses are L_sa (alignment), L_sd (diversity) and L_s (the loop that holds the ratio):

- ours: `paper_loop`;
- w/o L_s, which the paper replaces by sorting: `paper`;
- w/o L_sa: `paper_without_sas`; w/o L_sd: `paper_without_sds`; both sort, since the loop keeps what sorting keeps to
  within theta N rows;
- w/o adapters: `paper_without_adapters_loop`; with each of the above `paper_without_adapters`,
  `paper_without_adapters_sas` and `paper_without_adapters_sds`;
- w/o adapters, L_sd and L_sa: `paper_without_adapters_sas_sds`. Only the ratio is left: all rows have one gradient, so
  the loop keeps all of them or none, and nothing but chance can tell k of them apart. It is random rows here.

Tables 9 and 11 take `paper_loop`, whose theta is 5e-4, and `paper_loop_theta_5e-5`. Where theta N is below 1 the loop
stops at the exact count, whatever theta is, so the second is refused there. Table 10 takes `paper_with_image_means`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from ...adapters.decision import adapt
from ...adapters.projections import IdentityProjections, Projections, embed_rows
from ...config.arguments import AdaptationArguments
from ...encoder.feature_rows import FeatureRows
from ...errors import InputError
from ...pipeline.embeddings import select_embeddings
from ...results.scores_table import column_values
from ...runtime.launch import make_accelerator
from ...scores.arrays import as_numpy
from ...selection import selection_count, sgd_select, top_k
from ...selection.objective import PRESETS
from ..baselines.inputs import unit_embeds
from .method import Method, Selected, selected_by_objective, selected_by_ours
from .setting import Setting


ABLATION = "ablation"
_THETA, _SMALL_THETA = 5e-4, 5e-5
# Another stream than those that draw wrong labels, random rows, folds and controls with the seed.
_STREAM = 13


def _by_loop(setting: Setting, ratios: Sequence[float], *, scored: str, theta: float) -> Selected:
    table = getattr(setting, scored)[0].scores
    sas, sds = column_values(table, "sas"), column_values(table, "sds")
    rows = {}
    for ratio in ratios:
        count = selection_count(ratio, setting.num_rows)
        rows[ratio] = sgd_select(sas + ratio * sds, count, theta=theta).rows  # alpha is the ratio
    return Selected(rows, sas)


def _check_theta(setting: Setting, ratios: Sequence[float]) -> None:
    if _SMALL_THETA * setting.num_rows < 1:
        raise InputError(
            f"A theta of 5e-5 is less than one of {setting.num_rows} rows: the loop stops at the exact count, as with "
            f"any theta below {1 / setting.num_rows:.2g}, so there is nothing to compare. Leave paper_loop_theta_5e-5 "
            f"out of --methods, or take at least {1 / _SMALL_THETA:.0f} rows."
        )


def _by_diversity(setting: Setting, ratios: Sequence[float], *, scored: str) -> Selected:
    sds = column_values(getattr(setting, scored)[0].scores, "sds")
    rows = {ratio: np.sort(top_k(sds, selection_count(ratio, setting.num_rows))) for ratio in ratios}
    return Selected(rows, sds)


def _by_the_ratio_alone(setting: Setting, ratios: Sequence[float]) -> Selected:
    drawn = np.random.default_rng([setting.seed, _STREAM]).random(setting.num_rows)
    rows = {ratio: np.sort(top_k(drawn, selection_count(ratio, setting.num_rows))) for ratio in ratios}
    return Selected(rows, None)


def _with_image_means(setting: Setting, ratios: Sequence[float], *, objective: str, adaptation: str) -> Selected:
    """The mean embedding of a class, wrong labels and all, in the place of its text in eq. 1.

    The embeddings are those of adapters that learned from the texts, or of plain CLIP.
    """
    images = setting.embeddings.images if adaptation == "off" else adapted_images(setting)
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


def adapted_images(setting: Setting) -> np.ndarray:
    """Embeddings of the images by adapters that are trained on ready embeddings, as `select_embeddings` trains them.

    Args:
        setting ([`Setting`]): Its embeddings and given labels.

    Returns:
        `np.ndarray` of shape `(N, D)`: Float32, of norm 1.
    """
    images, texts = unit_embeds(setting.embeddings.images), unit_embeds(setting.embeddings.texts)
    accelerator, features = make_accelerator(), FeatureRows([images])
    model, _ = adapt(
        IdentityProjections(images.shape[1]).to(accelerator.device),
        features,
        torch.from_numpy(texts)[None],
        setting.labels,
        arguments=AdaptationArguments(adaptation="always"),
        seed=setting.seed,
        accelerator=accelerator,
    )
    return as_numpy(embed_rows(Projections(model), features, np.arange(setting.num_rows)))


def _ours_with(setting: Setting, ratios: Sequence[float], *, objective: str, **knobs: Any) -> Selected:
    return selected_by_ours(setting.select(objective=objective, ratio=ratios[0], **knobs), ratios)


def _ablation(
    name: str, select: Callable[..., Selected], *, uses: frozenset[str] = frozenset(), **settings: Any
) -> Method:
    return Method(name, ABLATION, partial(select, **settings), uses, settings=settings)


def _of_paper(name: str, scored: str, **knobs: Any) -> Method:
    """The paper's objective with other knobs, on the scores of one of the runs of a setting."""
    objective = replace(PRESETS["paper"], **knobs)
    select = partial(selected_by_objective, scored=scored, objective=objective)
    return Method(name, ABLATION, select, frozenset({scored}), settings={**objective.to_dict(), "scored": scored})


_EMBEDDINGS, _ADAPTED, _PLAIN = (frozenset({step}) for step in ("embeddings", "adapted_scored", "plain_scored"))

ABLATIONS = [
    _ablation("diverse_without_adapters", _ours_with, objective="diverse", adaptation="off"),
    _ablation("diverse_with_image_means", _with_image_means, uses=_EMBEDDINGS, objective="diverse", adaptation="off"),
    _ablation("paper_loop", _by_loop, uses=_ADAPTED, scored="adapted_scored", theta=_THETA),
    replace(
        _ablation("paper_loop_theta_5e-5", _by_loop, uses=_ADAPTED, scored="adapted_scored", theta=_SMALL_THETA),
        check=_check_theta,
    ),
    _ablation("paper_without_sas", _by_diversity, uses=_ADAPTED, scored="adapted_scored"),
    _of_paper("paper_without_sds", "adapted_scored", diversity_weight=0.0),
    _ablation("paper_without_adapters_loop", _by_loop, uses=_PLAIN, scored="plain_scored", theta=_THETA),
    _of_paper("paper_without_adapters", "plain_scored"),
    _ablation("paper_without_adapters_sas", _by_diversity, uses=_PLAIN, scored="plain_scored"),
    _of_paper("paper_without_adapters_sds", "plain_scored", diversity_weight=0.0),
    _ablation("paper_without_adapters_sas_sds", _by_the_ratio_alone),
    _ablation("paper_with_image_means", _with_image_means, uses=_EMBEDDINGS, objective="paper", adaptation="always"),
]

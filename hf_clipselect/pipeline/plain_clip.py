"""What CLIP without adapters makes of the rows, before adapters take the place of its heads.

Legend: N readable rows, C classes with rows, D embed_dim.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from torch import nn

from ..adapters.projections import IdentityProjections, Projections, embed_prompts
from ..adapters.text_alignment import align_rows
from ..data.decisions import is_right
from ..runtime.progress import Progress
from ..scores.arrays import as_numpy
from ..scores.checked_labels import with_checked_labels
from ..scores.ensemble import ensemble_alignment
from ..scores.judges import CLIP_LOGIT_SCALE
from ..scores.label_judge import LabelJudge
from ..scores.noise_model import LabelNoise, check_auto, estimate_label_noise, fit_label_judge
from ..scores.targets import Classes
from ..selection import AUTO
from .encode import EncodedRows
from .prepared import AnyPrepared, ImageInputs


logger = logging.getLogger(__name__)

# The best text of each row, SAS and margin, each of shape (N,): what `align_rows` gives.
Alignment = tuple[np.ndarray, np.ndarray, np.ndarray]
Judgement = TypeVar("Judgement")


@dataclass(frozen=True)
class PlainClip:
    """The scores of plain CLIP, which tell what adapters changed, and serve where none are kept.

    `class_embeds` `(C, D)` are the unit-norm prompts of the classes, empty for captions; `ensemble` `(N,)` is what
    `ensemble_alignment` gives, and `noise` what `estimate_label_noise` does, where the objective or a size needs it.
    """

    alignment: Alignment
    class_embeds: np.ndarray
    ensemble: np.ndarray | None
    noise: LabelNoise | None

    @property
    def predicted(self) -> np.ndarray:
        """The best text of each row, `(N,)`, int64, among those with rows."""
        return self.alignment[0]


def align_with_plain_clip(prepared: AnyPrepared, rows: EncodedRows) -> PlainClip:
    """Align all rows with their texts by CLIP as it is; all processes get all scores.

    Raises `InputError` where a size is "auto" and the share of wrong labels can't be trusted for it.
    """
    model, targets = prepared.inputs.model, rows.targets
    class_embeds = _class_embeds(model, rows) if isinstance(targets, Classes) else np.empty((0, 0), dtype=np.float32)
    alignment = align_rows(
        model, *rows.features.both, targets.labels, references=targets.references, processes=prepared.processes
    )
    ensemble = noise = None
    decision = prepared.rows.facts.decision
    if prepared.objective.alignment == "ensemble":
        ensemble = _judged(ensemble_alignment, prepared, rows, class_embeds)
    if prepared.objective.needs_noise_model or AUTO in prepared.sizes:
        noise = _judged(estimate_label_noise, prepared, rows, class_embeds)
        if decision is not None:
            noise = with_checked_labels(noise, targets.labels, is_right(decision[rows.numbers]))
        for notice in noise.notices:
            logger.warning(notice)
        if AUTO in prepared.sizes:
            check_auto(noise)
    return PlainClip(alignment, class_embeds, ensemble, noise)


def label_judge(prepared: AnyPrepared, rows: EncodedRows) -> LabelJudge | None:
    """What judges the labels of other rows of the same classes; `None` where [`fit_label_judge`] gives none."""
    return _judged(fit_label_judge, prepared, rows, _class_embeds(prepared.inputs.model, rows))


def _class_embeds(model: nn.Module, rows: EncodedRows) -> np.ndarray:
    if isinstance(model, IdentityProjections):  # those that were passed stay as they are
        return as_numpy(rows.features.texts[0])
    return as_numpy(embed_prompts(Projections(model), rows.features.texts))


def _judged(
    judge: Callable[..., Judgement], prepared: AnyPrepared, rows: EncodedRows, class_embeds: np.ndarray
) -> Judgement:
    """What a function of embeddings and labels makes of all rows: the main process calls it.

    By plain CLIP even where adapters are kept, since adapters were trained on the labels that they would judge.
    """
    inputs, judgement = prepared.inputs, None
    if prepared.processes.index == 0:
        scale = inputs.backbone.logit_scale if isinstance(inputs, ImageInputs) else None
        with Progress() as progress:
            judgement = judge(
                rows.features.plain_embeds(inputs.model, np.arange(len(rows.numbers))),
                class_embeds,
                rows.targets.labels,
                logit_scale=CLIP_LOGIT_SCALE if scale is None else scale,
                seed=prepared.seed,
                told=progress,
            )
    return prepared.processes.broadcast(judgement)

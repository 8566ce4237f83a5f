"""What CLIP without adapters makes of the rows, before adapters take the place of its heads.

Legend: N readable rows, C classes with rows, D embed_dim.
"""

from dataclasses import dataclass

import numpy as np
from torch import nn

from ..adapters.projections import IdentityProjections, Projections, embed_prompts
from ..adapters.text_alignment import align_rows
from ..scores.arrays import as_numpy
from ..scores.ensemble import ensemble_alignment
from ..scores.judges import CLIP_LOGIT_SCALE
from ..scores.targets import Classes
from .encode import EncodedRows
from .prepared import AnyPrepared


# The best text of each row, SAS and margin, each of shape (N,): what `align_rows` gives.
Alignment = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class PlainClip:
    """The scores of plain CLIP, which tell what adapters changed, and serve where none are kept.

    `class_embeds` `(C, D)` are the unit-norm prompts of the classes, empty for captions; `ensemble` `(N,)` is what
    `ensemble_alignment` gives, where the objective needs it.
    """

    alignment: Alignment
    class_embeds: np.ndarray
    ensemble: np.ndarray | None

    @property
    def predicted(self) -> np.ndarray:
        """The best text of each row, `(N,)`, int64, among those with rows."""
        return self.alignment[0]


def align_with_plain_clip(prepared: AnyPrepared, rows: EncodedRows) -> PlainClip:
    """Align all rows with their texts by CLIP as it is; all processes get all scores."""
    model, targets = prepared.inputs.model, rows.targets
    class_embeds = _class_embeds(model, rows) if isinstance(targets, Classes) else np.empty((0, 0), dtype=np.float32)
    alignment = align_rows(
        model, *rows.features.both, targets.labels, references=targets.references, processes=prepared.processes
    )
    ensemble = None
    if prepared.objective.alignment == "ensemble":
        ensemble = _ensemble(prepared, rows, class_embeds)
    return PlainClip(alignment, class_embeds, ensemble)


def _class_embeds(model: nn.Module, rows: EncodedRows) -> np.ndarray:
    if isinstance(model, IdentityProjections):  # those that were passed stay as they are
        return as_numpy(rows.features.texts[0])
    return as_numpy(embed_prompts(Projections(model), rows.features.texts))


def _ensemble(prepared: AnyPrepared, rows: EncodedRows, class_embeds: np.ndarray) -> np.ndarray:
    """By plain CLIP even where adapters are kept, since adapters were trained on the labels that they would judge."""
    model, scores = prepared.inputs.model, None
    if prepared.processes.index == 0:
        scale = getattr(model, "logit_scale", None)  # embeddings come without one
        scores = ensemble_alignment(
            rows.features.plain_embeds(model, np.arange(len(rows.numbers))),
            class_embeds,
            rows.targets.labels,
            logit_scale=CLIP_LOGIT_SCALE if scale is None else float(scale.exp()),
            seed=prepared.seed,
        )
    return prepared.processes.broadcast(scores)

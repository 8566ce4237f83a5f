"""How well rows fit their texts, classes or captions, computed from cached features.

Legend: N rows, B some of them, T templates, C texts, H and H' hidden sizes of the towers, D embed_dim.
"""

import numpy as np
import torch
from torch import nn

from ..encoder.feature_rows import FeatureRows
from ..runtime.processes import Processes
from ..runtime.progress import Progress
from ..scores.alignment import unit_alignment
from ..scores.captions import caption_alignment
from .projections import Projections, embed_prompts, embed_rows


# Rows that are embedded at once; the same for any number of processes, since the last digits may depend on it.
_CHUNK_ROWS = 4096


class TextAlignment:
    """The texts that rows are compared with: all classes, or some captions and each row's own.

    Takes text features `(T, C, H')` as cached, and the numbers `(R,)` of the captions to compare with, as from
    `draw_references`; None where the texts are classes. Raises `InputError` where an embedding is zero or not finite.
    """

    def __init__(
        self, projections: Projections, text_features: torch.Tensor, references: np.ndarray | None = None
    ) -> None:
        self._projections, self._text_features, self._references = projections, text_features, references
        self._embeds = embed_prompts(
            projections, text_features if references is None else text_features[:, references]
        )

    def __call__(self, image_embeds: torch.Tensor, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The best text, SAS and margin of some rows, as `alignment_scores` or `caption_alignment` gives them."""
        if self._references is None:
            return unit_alignment(image_embeds, self._embeds, labels)
        own = embed_prompts(self._projections, self._text_features[:, labels])
        return caption_alignment(image_embeds, own, labels, self._embeds, self._references)


def align_rows(
    model: nn.Module,
    image_features: FeatureRows,
    text_features: torch.Tensor,
    labels: np.ndarray,
    *,
    references: np.ndarray | None = None,
    processes: Processes | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best text (int64), SAS and margin (float32) of all rows, each `(N,)`.

    Takes features as cached, of images `(N, H)` and of texts `(T, C, H')`; labels `(N,)`, the row's own text, int64 in
    `[0, C)`; and references as [`TextAlignment`]. The processes share the rows, and all get all scores. Raises
    `InputError` where an embedding is zero or not finite.
    """
    processes = processes or Processes()
    projections = Projections(model)
    align = TextAlignment(projections, text_features, references)
    chunks = np.split(np.arange(len(labels)), range(_CHUNK_ROWS, len(labels), _CHUNK_ROWS))
    own, mine = chunks[processes.index :: processes.count], []
    with Progress(is_shown=processes.index == 0) as progress:
        for rows in own:
            mine.append(align(embed_rows(projections, image_features, rows), labels[rows]))
            progress("Comparing with texts", len(mine) / len(own))
    gathered = processes.gather(mine)
    in_order = [gathered[number % processes.count][number // processes.count] for number in range(len(chunks))]
    predicted, sas, margin = (np.concatenate(column) for column in zip(*in_order, strict=True))
    return predicted, sas, margin

"""The third stage: features to the scores of every row, class by class, so that no array of all embeddings is held.

Legend: N readable rows, T templates, C classes or captions with rows, H and H' hidden sizes of the towers.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import nn

from ..adapters.decision import PeftModel
from ..adapters.projections import Projections, embed_rows
from ..adapters.text_alignment import TextAlignment
from ..encoder.feature_rows import FeatureRows
from ..runtime.processes import Processes
from ..runtime.progress import Progress
from ..scores.diversity import class_diversity, estimate_notice, neighbor_count, warn_of_singles
from ..scores.noise_model import LabelNoise
from ..scores.sample_scores import SampleScores
from ..scores.targets import Targets
from ..selection import (
    NUM_NEAREST,
    NeighborGraph,
    class_graph,
    class_order,
    duplicate_groups,
    joined_graph,
    safe_pool,
)
from .adapt import Adapted, align_out_of_fold
from .encode import EncodedRows
from .plain_clip import Alignment
from .prepared import AnyPrepared


logger = logging.getLogger(__name__)

# Rows of small classes that are embedded at once. The groups are the same for any number of processes: the last digits
# of a matrix product may depend on its shape, and they decide ties.
_GROUP_ROWS = 512


@dataclass(frozen=True)
class Herding:
    """What orders the rows of each class: which are safe, bool, and how probably a label is wrong, both `(N,)`."""

    in_pool: np.ndarray
    error_probability: np.ndarray
    seed: int

    def ranks(self, embeds: torch.Tensor, rows: np.ndarray) -> np.ndarray:
        """Places `(n,)` in the order of one class, of which these are the embeddings `(n, D)` and the rows `(n,)`."""
        return class_order(embeds, self.in_pool[rows], self.error_probability[rows], seed=self.seed)


def score(prepared: AnyPrepared, rows: EncodedRows, adapted: Adapted) -> tuple[SampleScores, NeighborGraph | None]:
    """Scores of the readable rows, by the kept adapters or by plain CLIP; predictions are numbers of texts.

    The graph tells which rows are alike, where the objective weighs redundancy.
    """
    chosen, kept, noise = prepared.arguments.selection, adapted.adaptation.kept, adapted.plain.noise
    scores, graph = score_rows(
        adapted.model,
        *rows.features.both,
        rows.targets,
        neighbor_fraction=chosen.neighbor_fraction,
        num_neighbors=chosen.num_neighbors,
        num_nearest=NUM_NEAREST if prepared.objective.redundancy_weight else 0,
        processes=prepared.processes,
        alignment=None if kept else adapted.plain.alignment,
        herding=_herding(prepared, rows, noise),
    )
    scores = replace(scores, ensemble=adapted.plain.ensemble)
    if noise is not None:
        scores = replace(scores, label_error_probability=noise.error_probability, clean_label=noise.clean_label)
    if prepared.arguments.adaptation.num_folds and isinstance(adapted.model, PeftModel):
        num_steps = adapted.adaptation.num_steps
        predicted, sas, margin = align_out_of_fold(prepared, rows, adapted.model, num_steps=num_steps)
        scores = replace(scores, predicted_label=predicted, sas=sas, margin=margin)
    return scores, graph


def score_rows(
    model: nn.Module,
    features: FeatureRows,
    text_features: torch.Tensor,
    targets: Targets,
    *,
    neighbor_fraction: float,
    num_neighbors: int | None,
    processes: Processes,
    num_nearest: int = 0,
    alignment: Alignment | None = None,
    herding: Herding | None = None,
) -> tuple[SampleScores, NeighborGraph | None]:
    """Scores of rows; each class, or cluster, is scored by one process, and all processes get all scores.

    Takes features as cached, of images `(N, H)` and of texts `(T, C, H')`; the neighbours as in
    `sample_diversity_score`; the alignment, if what `align_rows` gives for this model is known already; and what rows
    are herded by, if they are. Predictions are numbers of texts. The graph tells which rows are alike, by the
    `num_nearest` rows of each; there is none for 0. Raises `InputError` where an embedding is zero or not finite.
    """
    projections = Projections(model)
    align = _aligner(projections, text_features, targets, alignment)
    cells, names = targets.cells, targets.cell_numbers
    sizes = np.bincount(cells, minlength=len(names))
    by_cell = np.split(np.argsort(cells, kind="stable"), np.cumsum(sizes)[:-1])
    mine, parts, notices = [], [], []
    groups, costs = _shares(sizes, processes.count)[processes.index], _costs(sizes)
    total, done = sum(costs[cell] for group in groups for cell in group), 0
    with Progress(is_shown=processes.index == 0) as progress:
        for group in groups:
            rows = np.concatenate([by_cell[cell] for cell in group])
            embeds = embed_rows(projections, features, rows)
            predicted, sas, margin = align(rows, embeds)
            sds, ranks = [], []
            for cell, of_cell in zip(group, embeds.split([int(sizes[cell]) for cell in group]), strict=True):
                k = neighbor_count(len(of_cell), neighbor_fraction, num_neighbors)
                told = partial(_tell, progress, done / total, costs[cell] / total)
                diversity = class_diversity(of_cell, k, num_nearest=num_nearest, told=told)
                done += costs[cell]
                if diversity.nearest is not None and diversity.cosines is not None:
                    parts.append((by_cell[cell], class_graph(diversity.nearest, diversity.cosines)))
                sds.append(diversity.scores)
                if herding is not None:
                    ranks.append(herding.ranks(of_cell, by_cell[cell]))
                if diversity.num_references is not None:
                    notices.append(estimate_notice(int(names[cell]), len(of_cell), diversity))
            class_rank = np.concatenate(ranks) if ranks else None
            mine.append((rows, SampleScores(predicted, sas, margin, np.concatenate(sds), class_rank=class_rank)))
    gathered = processes.gather((mine, parts, notices))
    for notice in sorted(notice for *_, theirs in gathered for notice in theirs):
        logger.warning(notice)
    warn_of_singles(names[sizes == 1].tolist())
    scores = _at_their_rows([part for theirs, *_ in gathered for part in theirs])
    if not num_nearest:
        return scores, None
    graph = joined_graph([part for _, theirs, _ in gathered for part in theirs], len(cells))
    return replace(scores, duplicate_group=duplicate_groups(graph)), graph


def _tell(progress: Progress, before: float, share: float, part: float) -> None:
    """A part of one class, which is a share of the work, is done, after what came before."""
    progress("Comparing within classes", before + share * part)


def _herding(prepared: AnyPrepared, rows: EncodedRows, noise: LabelNoise | None) -> Herding | None:
    if noise is None or not prepared.objective.herding:
        return None
    must_drop = prepared.rows.facts.must_drop
    excluded = None if must_drop is None else must_drop[rows.numbers]
    in_pool = safe_pool(noise.error_probability, excluded=excluded)
    return Herding(in_pool, noise.error_probability, prepared.seed)


def _aligner(
    projections: Projections, text_features: torch.Tensor, targets: Targets, known: Alignment | None
) -> Callable[[np.ndarray, torch.Tensor], Alignment]:
    """Row numbers `(B,)` and their embeddings `(B, D)` -> alignment of these rows, computed or looked up."""
    if known is not None:
        return lambda rows, _: (known[0][rows], known[1][rows], known[2][rows])
    align = TextAlignment(projections, text_features, targets.references)
    return lambda rows, embeds: align(embeds, targets.labels[rows])


def _shares(sizes: np.ndarray, count: int) -> list[list[list[int]]]:
    """Groups of classes for each process, large classes alone: by falling cost to whoever has least."""
    groups: list[list[int]] = [[]]
    for label in range(len(sizes)):
        if groups[-1] and max(sizes[label], sizes[groups[-1]].sum()) >= _GROUP_ROWS:
            groups.append([])
        groups[-1].append(label)
    each = _costs(sizes)
    costs = [sum(each[label] for label in group) for group in groups]
    shares: list[list[list[int]]] = [[] for _ in range(count)]
    loads = [0] * count
    for number in sorted(range(len(groups)), key=lambda number: (-costs[number], number)):
        process = loads.index(min(loads))
        shares[process].append(groups[number])
        loads[process] += costs[number]
    return shares


def _costs(sizes: np.ndarray) -> list[int]:
    """What each class costs: products within it grow with its square, those with prompts are the same for any row."""
    wide = sizes.astype(np.int64)
    costs: list[int] = (wide**2 + len(sizes) * wide).tolist()
    return costs


def _at_their_rows(parts: list[tuple[np.ndarray, SampleScores]]) -> SampleScores:
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    columns = {
        name: np.concatenate([scores.columns()[name] for _, scores in parts])[order] for name in parts[0][1].columns()
    }
    return SampleScores(**columns)

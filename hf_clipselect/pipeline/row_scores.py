"""Cached features -> the scores of every row, class by class, so that no array of all embeddings is ever held.

Legend: N rows, H hidden size, C classes, D embed_dim.
"""

import logging
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ..adapters.projections import Projections, embed_rows
from ..adapters.text_alignment import TextAlignment
from ..encoder.feature_rows import FeatureRows
from ..runtime.processes import Processes
from ..scores.diversity import class_diversity, estimate_notice, neighbor_count, warn_of_singles
from ..scores.sample_scores import SampleScores
from ..selection import NeighborGraph, class_graph, duplicate_groups, joined_graph


logger = logging.getLogger(__name__)

# Rows of small classes that are embedded at once. The groups are the same for any number of processes: the last digits
# of a matrix product may depend on its shape, and they decide ties.
_GROUP_ROWS = 512


def score_rows(
    model: nn.Module,
    features: FeatureRows,
    text_features: torch.Tensor,
    labels: np.ndarray,
    classes: np.ndarray,
    *,
    neighbor_fraction: float,
    num_neighbors: int | None,
    processes: Processes,
    num_nearest: int = 0,
    clusters: np.ndarray | None = None,
    references: np.ndarray | None = None,
) -> tuple[SampleScores, NeighborGraph | None]:
    """All scores of the readable rows; each class, or cluster, is scored by one process, and all processes get all
    scores.

    Args:
        model (`nn.Module`): Dual encoder, with or without adapters.
        features ([`FeatureRows`] `(N, H)`), text_features (`torch.Tensor` of shape `(T, C, H')`): As cached.
        labels (`np.ndarray` of shape `(N,)`), classes (`np.ndarray` of shape `(C,)`): From `present_classes`.
        neighbor_fraction (`float`), num_neighbors (`int`, *optional*): As in `sample_diversity_score`.
        processes ([`Processes`]): Those of the run.
        num_nearest (`int`, *optional*, defaults to 0): Nearest rows of each row in the graph; 0 for no graph.
        clusters (`np.ndarray` of shape `(N,)`, *optional*):
            Where labels are captions: what stands in for classes in the diversity, numbered from 0, none empty.
        references (`np.ndarray` of shape `(R,)`, *optional*): Where labels are captions: those to compare with.

    Returns:
        `tuple[SampleScores, NeighborGraph | None]`: Scores of all rows, with predictions in the numbering of the
        dataset's own
            labels; and which rows are alike.

    Raises:
        InputError: An embedding is zero or not finite.
    """
    projections = Projections(model)
    align = TextAlignment(projections, text_features, references)
    cells, names = (labels, classes) if clusters is None else (clusters, np.arange(clusters.max() + 1))
    sizes = np.bincount(cells, minlength=len(names))
    by_class = np.split(np.argsort(cells, kind="stable"), np.cumsum(sizes)[:-1])
    mine, parts, notices = [], [], []
    for group in _shares(sizes, processes.count)[processes.index]:
        rows = np.concatenate([by_class[label] for label in group])
        embeds = embed_rows(projections, features, rows)
        predicted, sas, margin = align(embeds, labels[rows])
        sds = []
        for label, of_class in zip(group, embeds.split([int(sizes[label]) for label in group]), strict=True):
            k = neighbor_count(len(of_class), neighbor_fraction, num_neighbors)
            diversity = class_diversity(of_class, k, num_nearest=num_nearest)
            if num_nearest:
                parts.append((by_class[label], class_graph(diversity.nearest, diversity.cosines)))
            sds.append(diversity.scores)
            if diversity.num_references is not None:
                notices.append(estimate_notice(int(names[label]), len(of_class), diversity))
        mine.append((rows, SampleScores(classes[predicted], sas, margin, np.concatenate(sds))))
    gathered = processes.gather((mine, parts, notices))
    for notice in sorted(notice for *_, theirs in gathered for notice in theirs):
        logger.warning(notice)
    warn_of_singles(names[sizes == 1].tolist())
    scores = _at_their_rows([part for theirs, *_ in gathered for part in theirs])
    if not num_nearest:
        return scores, None
    graph = joined_graph([part for _, theirs, _ in gathered for part in theirs], len(labels))
    return replace(scores, duplicate_group=duplicate_groups(graph)), graph


def _shares(sizes: np.ndarray, count: int) -> list[list[list[int]]]:
    """Groups of classes for each process: large classes alone, small ones together, by falling cost to whoever has
    least.
    """
    groups: list[list[int]] = [[]]
    for label in range(len(sizes)):
        if groups[-1] and max(sizes[label], sizes[groups[-1]].sum()) >= _GROUP_ROWS:
            groups.append([])
        groups[-1].append(label)
    # Products within a class grow with its square; those with the prompts are the same for any row.
    costs = [int((sizes[group].astype(np.int64) ** 2 + len(sizes) * sizes[group]).sum()) for group in groups]
    shares: list[list[list[int]]] = [[] for _ in range(count)]
    loads = [0] * count
    for number in sorted(range(len(groups)), key=lambda number: (-costs[number], number)):
        process = loads.index(min(loads))
        shares[process].append(groups[number])
        loads[process] += costs[number]
    return shares


def _at_their_rows(parts: list[tuple[np.ndarray, SampleScores]]) -> SampleScores:
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    columns = {
        name: np.concatenate([scores.columns()[name] for _, scores in parts])[order] for name in parts[0][1].columns()
    }
    return SampleScores(**columns)

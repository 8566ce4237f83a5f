"""Placeholder of the lead until helper SDS writes this file (overwrite it)."""

from dataclasses import dataclass

import numpy as np
import torch

from .scores import _class_diversity
from .selection.counts import round_half_up


@dataclass(frozen=True)
class ClassDiversity:
    scores: np.ndarray
    num_references: int | None = None
    relative_error: float | None = None


def neighbor_count(num_rows: int, fraction: float, num_neighbors: int | None) -> int:
    wanted = round_half_up(fraction, num_rows) if num_neighbors is None else num_neighbors
    return min(max(wanted, 1), num_rows - 1)


def class_diversity(embeds: torch.Tensor, k: int) -> ClassDiversity:
    if len(embeds) == 1:
        return ClassDiversity(np.zeros(1, np.float32))
    return ClassDiversity(_class_diversity(embeds.cpu().numpy(), k))


def estimate_notice(label: int, num_rows: int, diversity: ClassDiversity) -> str:
    return ""

"""The baselines by name, and what each needs.

Legend: N rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...scores.arrays import Array, as_numpy
from .ccs import ccs_rows
from .cg_score import cg_scores
from .d2_pruning import d2_rows
from .dynamics import TrainingDynamics
from .glister import glister_rows
from .herding import herding_rows
from .k_center import k_center_rows
from .moderate import moderate_scores
from .prototypes import prototype_scores
from .random import random_scores


_STREAM = 7


@dataclass(frozen=True)
class Given:
    """What a baseline selects from, checked.

    Args:
        embeds (`np.ndarray` or `torch.Tensor` of shape `(N, D)`): Image embeddings.
        labels (`np.ndarray` of shape `(N,)`, int64): Given classes.
        seed (`int`): Of everything that is drawn.
        max_gigabytes (`float`): The largest matrix allowed.
        dynamics ([`TrainingDynamics`], *optional*): Of a proxy, where the method needs one.
        val_labels (`np.ndarray` of shape `(num_val_rows,)`, *optional*): Of the validation rows of the dynamics.
    """

    embeds: Array
    labels: np.ndarray
    seed: int
    max_gigabytes: float
    dynamics: TrainingDynamics | None = None
    val_labels: np.ndarray | None = None

    @property
    def own_seed(self) -> int:
        """For methods that draw with a seed as it is: by `seed` they would draw the rows of `add_label_noise`."""
        return int(np.random.default_rng([self.seed, _STREAM]).integers(2**31))

    @property
    def trained(self) -> TrainingDynamics:
        """The dynamics, for a method that names them in its `needs`."""
        if self.dynamics is None:
            raise LookupError('a method that takes dynamics must have "dynamics" in its needs')
        return self.dynamics

    @property
    def validation(self) -> tuple[np.ndarray, np.ndarray]:
        """Features and labels of the validation rows, for a method that names them in its `needs`."""
        if self.trained.early_val_features is None or self.val_labels is None:
            raise LookupError('a method that takes validation rows must have "validation" in its needs')
        return self.trained.early_val_features, self.val_labels

    def embeds_of(self, rows: np.ndarray) -> np.ndarray:
        return as_numpy(self.embeds[rows])

    def difficulty_of(self, rows: np.ndarray) -> np.ndarray:
        """The highest area under the margin less that of each row: 0 for the easiest row, more for harder ones."""
        margins = self.trained.margins
        return margins.max() - margins[rows]


@dataclass(frozen=True)
class ScoringBaseline:
    """A method that scores rows, of which the highest are kept.

    Args:
        summary (`str`): What it keeps, in a few words.
        scores (`Callable`): Scores `(N,)` of what is given.
        needs (`frozenset[str]`): Of "labels", "dynamics" (a proxy is trained where none are given) and "validation"
            rows.
    """

    summary: str
    scores: Callable[[Given], np.ndarray]
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PickingBaseline:
    """A method that picks rows.

    Args:
        summary (`str`), needs (`frozenset[str]`): As of [`ScoringBaseline`].
        rows (`Callable`): So many of some rows of what is given, by their places among these.
        in_order (`bool`): Whether the first n of the picked rows are what it picks where n are wanted.
    """

    summary: str
    rows: Callable[[Given, np.ndarray, int], np.ndarray]
    needs: frozenset[str] = frozenset()
    in_order: bool = True


Baseline = ScoringBaseline | PickingBaseline


def _glister_scores(given: Given) -> np.ndarray:
    dynamics, num_rows = given.trained, len(given.labels)
    val_features, val_labels = given.validation
    order = glister_rows(
        dynamics.early_features,
        given.labels,
        val_features,
        val_labels,
        dynamics.early_head,
        num_rows,
    )
    scores = np.empty(num_rows, dtype=np.float32)
    scores[order] = -np.arange(num_rows, dtype=np.float32)
    return scores


_LABELS, _TRAINED = frozenset({"labels"}), frozenset({"labels", "dynamics"})

# What every baseline is called in tables and recipes.
BASELINES: dict[str, Baseline] = {
    "random": ScoringBaseline("random rows", scores=lambda given: random_scores(len(given.labels), seed=given.seed)),
    "herding": PickingBaseline(
        "rows whose mean follows the mean of their class",
        needs=_LABELS,
        rows=lambda given, rows, count: herding_rows(given.embeds_of(rows), given.labels[rows], count),
    ),
    "moderate": ScoringBaseline(
        "rows at the median distance to the centre of their class",
        needs=_LABELS,
        scores=lambda given: moderate_scores(given.embeds, given.labels),
    ),
    "el2n": ScoringBaseline(
        "the largest errors early in a training", needs=_TRAINED, scores=lambda given: given.trained.error_norms
    ),
    "grand": ScoringBaseline(
        "the largest gradients early in a training", needs=_TRAINED, scores=lambda given: given.trained.gradient_norms
    ),
    "forgetting": ScoringBaseline(
        "rows that a training forgets most often",
        needs=_TRAINED,
        scores=lambda given: given.trained.forgetting_events,
    ),
    "prototypes": ScoringBaseline(
        "rows far from every k-means centre, as many as classes",
        needs=_LABELS,
        scores=lambda given: prototype_scores(
            given.embeds, num_clusters=len(np.unique(given.labels)), seed=given.own_seed
        ),
    ),
    "cg_score": ScoringBaseline(
        "rows that make a class harder to tell from the others for a wide network",
        needs=_LABELS,
        scores=lambda given: cg_scores(given.embeds, given.labels, seed=given.seed, max_gigabytes=given.max_gigabytes),
    ),
    "glister": ScoringBaseline(
        "rows whose gradients lower the loss on validation rows",
        needs=_TRAINED | {"validation"},
        scores=_glister_scores,
    ),
    "moso": ScoringBaseline(
        "rows whose gradients agree with those of all others", needs=_TRAINED, scores=lambda given: given.trained.moso
    ),
    "ccs": PickingBaseline(
        "rows of every difficulty",
        needs=_TRAINED,
        rows=lambda given, rows, count: ccs_rows(given.difficulty_of(rows), count, seed=given.own_seed),
        in_order=False,
    ),
    "k_center": PickingBaseline(
        "rows such that none is far from a kept one",
        rows=lambda given, rows, count: k_center_rows(given.embeds_of(rows), count, seed=given.own_seed),
    ),
    "d2_pruning": PickingBaseline(
        "hard rows that differ",
        needs=_TRAINED,
        rows=lambda given, rows, count: d2_rows(given.embeds_of(rows), given.difficulty_of(rows), count),
    ),
}

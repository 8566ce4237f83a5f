"""The baselines by name, and what each needs.

Legend: N rows.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

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
        """For methods that draw with a seed as it is; with the given one they would find the rows of
        `add_label_noise`.
        """
        return int(np.random.default_rng([self.seed, _STREAM]).integers(2**31))

    def embeds_of(self, rows: np.ndarray) -> np.ndarray:
        return as_numpy(self.embeds[rows])

    def difficulty_of(self, rows: np.ndarray) -> np.ndarray:
        """The area under the margin turned round, so that the easiest row of all has 0 and harder ones more."""
        margins = self.dynamics.margins
        return margins.max() - margins[rows]


@dataclass(frozen=True)
class Baseline:
    """A method: either scores, of which the highest are kept, or rows that are picked.

    Args:
        summary (`str`): What it keeps, in a few words.
        needs (`frozenset[str]`): Of "labels", "dynamics" (a proxy is trained where none are given) and "validation"
            rows.
        scores (`Callable`, *optional*): Scores `(N,)` of what is given.
        rows (`Callable`, *optional*): So many of some rows of what is given, by their places among these.
        in_order (`bool`): Whether the first n of the picked rows are what it picks where n are wanted.
    """

    summary: str
    needs: frozenset[str] = field(default_factory=frozenset)
    scores: Callable[[Given], np.ndarray] | None = None
    rows: Callable[[Given, np.ndarray, int], np.ndarray] | None = None
    in_order: bool = True


def _glister_scores(given: Given) -> np.ndarray:
    dynamics, num_rows = given.dynamics, len(given.labels)
    order = glister_rows(
        dynamics.early_features,
        given.labels,
        dynamics.early_val_features,
        given.val_labels,
        dynamics.early_head,
        num_rows,
    )
    scores = np.empty(num_rows, dtype=np.float32)
    scores[order] = -np.arange(num_rows, dtype=np.float32)
    return scores


_LABELS, _TRAINED = frozenset({"labels"}), frozenset({"labels", "dynamics"})

# What every baseline is called in tables and recipes.
BASELINES: dict[str, Baseline] = {
    "random": Baseline("random rows", scores=lambda given: random_scores(len(given.labels), seed=given.seed)),
    "herding": Baseline(
        "rows whose mean follows the mean of their class",
        needs=_LABELS,
        rows=lambda given, rows, count: herding_rows(given.embeds_of(rows), given.labels[rows], count),
    ),
    "moderate": Baseline(
        "rows at the median distance to the centre of their class",
        needs=_LABELS,
        scores=lambda given: moderate_scores(given.embeds, given.labels),
    ),
    "el2n": Baseline(
        "the largest errors early in a training", needs=_TRAINED, scores=lambda given: given.dynamics.error_norms
    ),
    "grand": Baseline(
        "the largest gradients early in a training", needs=_TRAINED, scores=lambda given: given.dynamics.gradient_norms
    ),
    "forgetting": Baseline(
        "rows that a training forgets most often",
        needs=_TRAINED,
        scores=lambda given: given.dynamics.forgetting_events,
    ),
    "prototypes": Baseline(
        "rows far from every k-means centre, as many as classes",
        needs=_LABELS,
        scores=lambda given: prototype_scores(
            given.embeds, num_clusters=len(np.unique(given.labels)), seed=given.own_seed
        ),
    ),
    "cg_score": Baseline(
        "rows that make a class harder to tell from the others for a wide network",
        needs=_LABELS,
        scores=lambda given: cg_scores(given.embeds, given.labels, seed=given.seed, max_gigabytes=given.max_gigabytes),
    ),
    "glister": Baseline(
        "rows whose gradients lower the loss on validation rows",
        needs=_TRAINED | {"validation"},
        scores=_glister_scores,
    ),
    "moso": Baseline(
        "rows whose gradients agree with those of all others", needs=_TRAINED, scores=lambda given: given.dynamics.moso
    ),
    "ccs": Baseline(
        "rows of every difficulty",
        needs=_TRAINED,
        rows=lambda given, rows, count: ccs_rows(given.difficulty_of(rows), count, seed=given.own_seed),
        in_order=False,
    ),
    "k_center": Baseline(
        "rows such that none is far from a kept one",
        rows=lambda given, rows, count: k_center_rows(given.embeds_of(rows), count, seed=given.own_seed),
    ),
    "d2_pruning": Baseline(
        "hard rows that differ",
        needs=_TRAINED,
        rows=lambda given, rows, count: d2_rows(given.embeds_of(rows), given.difficulty_of(rows), count),
    ),
}

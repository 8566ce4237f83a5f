"""The baselines by name, and what each needs.

Legend: N rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...config.checks import check_choice, is_finite_number
from ...errors import InputError
from ...scores.arrays import Array, as_numpy
from .ccs import ccs_rows
from .cg_score import cg_scores
from .d2_pruning import d2_rows
from .dynamics import TrainingDynamics
from .glister import glister_rows
from .herding import herding_rows
from .inputs import checked_count
from .k_center import k_center_rows
from .moderate import moderate_scores
from .prototypes import prototype_scores
from .random import random_scores


_STREAM = 7
# Which rows the prototypes keep.
HARDEST, EASIEST = "hardest", "easiest"


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
        settings (`Mapping[str, Any]`): A value for each setting of the method.
    """

    embeds: Array
    labels: np.ndarray
    seed: int
    max_gigabytes: float
    dynamics: TrainingDynamics | None = None
    val_labels: np.ndarray | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

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
        settings (`Mapping[str, Any]`): What its paper sets for each dataset and ratio, by the names that
            [`check_setting`] knows, with the values that hold where none are given.
    """

    summary: str
    scores: Callable[[Given], np.ndarray]
    needs: frozenset[str] = frozenset()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PickingBaseline:
    """A method that picks rows.

    Args:
        summary (`str`), needs (`frozenset[str]`), settings (`Mapping[str, Any]`): As of [`ScoringBaseline`].
        rows (`Callable`): So many of some rows of what is given, by their places among these.
        in_order (`bool`): Whether the first n of the picked rows are what it picks where n are wanted.
    """

    summary: str
    rows: Callable[[Given, np.ndarray, int], np.ndarray]
    needs: frozenset[str] = frozenset()
    in_order: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)


Baseline = ScoringBaseline | PickingBaseline


def check_setting(name: str, value: Any) -> None:
    """Refuse a value that no method can take.

    Args:
        name (`str`): A key of the settings of a baseline.
        value: What a caller gave.

    Raises:
        InputError: `cutoff` is not in [0, 1), `gamma` is no number of at least 0, `num_neighbors` no integer of at
            least 1, or `keep` neither "hardest" nor "easiest".
    """
    if name == "keep":
        check_choice(name, value, (HARDEST, EASIEST))
    elif name == "num_neighbors":
        checked_count(value, name=name)
    elif not (is_finite_number(value) and 0 <= value < (1 if name == "cutoff" else np.inf)):
        expected = "in [0, 1)" if name == "cutoff" else "of at least 0"
        raise InputError(f"{name} must be a number {expected}, got {value!r}.")


def _glister_scores(given: Given) -> np.ndarray:
    dynamics, num_rows = given.trained, len(given.labels)
    val_features, val_labels = given.validation
    # The same logits from features about their mean. A network's features share a direction; along it the validation
    # gradient tells only how well the classes are balanced, and rows with wrong labels, whose errors are large, lead.
    mean, head = dynamics.early_features.mean(axis=0), dynamics.early_head.copy()
    head[:, -1] += head[:, :-1] @ mean
    order = glister_rows(dynamics.early_features - mean, given.labels, val_features - mean, val_labels, head, num_rows)
    scores = np.empty(num_rows, dtype=np.float32)
    scores[order] = -np.arange(num_rows, dtype=np.float32)
    return scores


def _prototype_scores(given: Given) -> np.ndarray:
    num_clusters = len(np.unique(given.labels))
    distances = prototype_scores(given.embeds, num_clusters=num_clusters, seed=given.own_seed)
    return distances if given.settings["keep"] == HARDEST else -distances


def _ccs_rows(given: Given, rows: np.ndarray, count: int) -> np.ndarray:
    """The hardest rows are dropped as far as those that are to be kept allow."""
    cutoff = min(given.settings["cutoff"], (len(rows) - count + 0.5) / len(rows))  # half a row, to be rounded down
    return ccs_rows(given.difficulty_of(rows), count, cutoff=cutoff, seed=given.own_seed)


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
        "rows far from every k-means centre, as many as classes, or near one",
        needs=_LABELS,
        scores=_prototype_scores,
        settings={"keep": HARDEST},
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
        "rows of every difficulty but the highest",
        needs=_TRAINED,
        rows=_ccs_rows,
        in_order=False,
        settings={"cutoff": 0.0},
    ),
    "k_center": PickingBaseline(
        "rows such that none is far from a kept one",
        rows=lambda given, rows, count: k_center_rows(given.embeds_of(rows), count, seed=given.own_seed),
    ),
    "d2_pruning": PickingBaseline(
        "hard rows that differ",
        needs=_TRAINED,
        rows=lambda given, rows, count: d2_rows(
            given.embeds_of(rows), given.difficulty_of(rows), count, **given.settings
        ),
        settings={"gamma": 1.0, "num_neighbors": 10},
    ),
}

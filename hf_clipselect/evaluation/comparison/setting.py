"""One setting of a sweep: data with a known damage of one seed, as every method gets it.

Legend: N rows, C classes, D embedding dimension.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ...results.selection_result import SelectionResult
from ...selection import class_quotas
from ...selection.objective import DEFAULT_PRESET
from ..baselines import TrainingDynamics, train_probe
from ..cost import Cost, measured
from ..robustness import add_label_noise, similarity_transition_matrix
from ..robustness.label_noise import NoiseKind
from .cells import Cells, code_digest, digest_of
from .peers import out_of_fold_probabilities


# Streams of their own: the seed alone draws the rows with wrong labels, [seed, 1] the damaged ones.
_VALIDATION_STREAM = 8


@dataclass(frozen=True)
class Damage:
    """What is done to the training rows.

    Args:
        noise_kind (`str`), noise_rate (`float`): Wrong labels, as in `add_label_noise`.
        corruption_rate (`float`), corruption_severity (`int`): Damaged images, as in `corrupt_images`.
        seed (`int`): Of both, and of the selections and trainings that follow.
    """

    noise_kind: NoiseKind
    noise_rate: float
    corruption_rate: float
    corruption_severity: int
    seed: int


def describe_setting(name: str, damage: Damage) -> str:
    """Data and damage in words.

    Args:
        name (`str`): Of the data.
        damage ([`Damage`]): What was done to them.

    Returns:
        `str`: For headings; the seed is not in it.
    """
    parts = [name]
    parts.append(
        f"{damage.noise_rate:.0%} wrong labels ({damage.noise_kind})" if damage.noise_rate else "right labels"
    )
    if damage.corruption_rate:
        parts.append(f"{damage.corruption_rate:.0%} damaged images (severity {damage.corruption_severity})")
    return ", ".join(parts)


@dataclass(frozen=True)
class Embeddings:
    """CLIP embeddings of the images and the class names, and what computing them cost.

    Args:
        images (`np.ndarray` of shape `(N, D)`), texts (`np.ndarray` of shape `(C, D)`): Float32.
        cost ([`Cost`]): Zero where they were ready.
    """

    images: np.ndarray
    texts: np.ndarray
    cost: Cost


class Setting(ABC):
    """Data with a known damage of one seed.

    Args:
        name (`str`): Of the data, for tables.
        damage ([`Damage`]): What was done to it.
        clean_labels (`np.ndarray` of shape `(N,)`): The right classes, int64.
        cells ([`Cells`]): Where embeddings are kept.
        num_val_rows (`int`): Rows that Glister is given to validate on.
        max_gigabytes (`float`): The largest matrix that a method may build.
        class_balance (`str`): Quotas of all methods but the objectives of this package, which have their own.
    """

    # Names of what is trained on the kept rows.
    models: tuple[str, ...]

    def __init__(
        self,
        name: str,
        damage: Damage,
        clean_labels: np.ndarray,
        *,
        cells: Cells,
        num_val_rows: int,
        max_gigabytes: float,
        class_balance: str,
    ) -> None:
        self.name, self.damage, self.clean_labels = name, damage, clean_labels
        self.cells, self.num_val_rows, self.max_gigabytes = cells, num_val_rows, max_gigabytes
        self.num_rows, self.seed, self.class_balance = len(clean_labels), damage.seed, class_balance
        # Of the same damage and other seeds, on whose test accuracy methods are tuned.
        self.tuning: Sequence[Setting] = ()

    @property
    @abstractmethod
    def is_corrupted(self) -> np.ndarray:
        """Whether each image is damaged, bool `(N,)`."""

    @property
    @abstractmethod
    def images_digest(self) -> str:
        """Hash of the images, damaged ones as they are, and of what encodes them."""

    @abstractmethod
    def embed(self) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings of the images `(N, D)` and of the class names `(C, D)`."""

    @abstractmethod
    def select(self, *, objective: str, ratio: float, **knobs: Any) -> SelectionResult:
        """Select from the given labels as a user of this package does, images or ready embeddings in."""

    @abstractmethod
    def train_and_test(self, model: str, rows: np.ndarray) -> float:
        """Train a model on some rows with their given labels; accuracy on the untouched test rows, in [0, 1]."""

    def train_and_measure(self, model: str, rows: np.ndarray) -> dict[str, float]:
        """`accuracy` as of [`train_and_test`], `train_seconds`, and what else a setting measures of a training."""
        start = time.perf_counter()
        accuracy = self.train_and_test(model, rows)
        return {"accuracy": accuracy, "train_seconds": time.perf_counter() - start}

    def figures(self, model: str, rows: np.ndarray) -> dict[str, float]:
        """What [`train_and_measure`] gives, from the cells where it is there; no seconds of an earlier version's."""
        key = {"what": "accuracy", **self.training_key(model, rows)}
        values = self.cells.find(key)
        if values is None:
            values = {name: np.asarray(figure) for name, figure in self.train_and_measure(model, rows).items()}
            self.cells.store(key, values)
        return {
            "train_seconds": float("nan"),
            **{name: value.item() for name, value in values.items() if name != "key"},
        }

    @abstractmethod
    def embed_test_rows(self, model: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Train a model on some rows: its embeddings of the test rows, `(num_test_rows, H)`; their right classes."""

    def test_embeds(self, model: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What [`embed_test_rows`] gives, from the cells where it is there."""
        key = {"what": "test_embeds", **self.training_key(model, rows)}
        values = self.cells.find(key)
        if values is None:
            embeds, labels = self.embed_test_rows(model, rows)
            values = {"embeds": embeds, "labels": labels}
            self.cells.store(key, values)
        return values["embeds"], values["labels"]

    @abstractmethod
    def training_key(self, model: str, rows: np.ndarray) -> dict[str, Any]:
        """All that decides [`train_and_test`] and [`embed_test_rows`]."""

    @cached_property
    def labels(self) -> np.ndarray:
        """The given classes, wrong ones among them, int64 `(N,)`."""
        damage, num_classes = self.damage, self.num_classes
        matrix = None
        if damage.noise_kind == "class_dependent":
            matrix = similarity_transition_matrix(self.embeddings.texts)
        return add_label_noise(
            self.clean_labels,
            num_classes,
            rate=damage.noise_rate,
            seed=damage.seed,
            kind=damage.noise_kind,
            transition_matrix=matrix,
        )

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """C."""

    @property
    @abstractmethod
    def num_test_rows(self) -> int:
        """Rows of the test split, which `accuracy` is of."""

    @property
    def is_noisy(self) -> np.ndarray:
        """Whether each label is wrong, bool `(N,)`."""
        return self.labels != self.clean_labels

    @cached_property
    def content(self) -> str:
        """Hash of all that a selection sees."""
        return digest_of(self.images_digest, self.labels, self.clean_labels)

    @cached_property
    def embeddings(self) -> Embeddings:
        """Of the images as they are, computed once."""
        key = {"what": "embeddings", "images": self.images_digest, "code": code_digest()}
        values = self.cells.find(key)
        if values is None:
            with measured() as cost:
                images, texts = self.embed()
            cost = self.as_at_first({"step": "encoding", "images": self.images_digest}, cost)
            values = {"images": images, "texts": texts, "cost": cost.as_array()}
            self.cells.store(key, values)
        return Embeddings(values["images"], values["texts"], Cost(*values["cost"].tolist()))

    @cached_property
    def scored(self) -> tuple[SelectionResult, Cost]:
        """Scores of all rows by one run of this package, once for all of its objectives, and what the run cost.

        The table of the default objective has the columns of every other preset, and from it the others select what
        their own run would. So one training of adapters serves them all, and each counts the cost of the default.
        """
        return self._scored(DEFAULT_PRESET, "auto")

    @cached_property
    def adapted_scored(self) -> tuple[SelectionResult, Cost]:
        """The same with adapters whatever they are worth, as the paper has them, for the methods that are the paper's.

        Without the noise model, which the paper has not either.
        """
        return self._scored("paper", "always")

    @cached_property
    def plain_scored(self) -> tuple[SelectionResult, Cost]:
        """The same by plain CLIP."""
        return self._scored("paper", "off")

    def _scored(self, objective: str, adaptation: str) -> tuple[SelectionResult, Cost]:
        with threadpool_limits(1), measured() as cost:
            result = self.select(objective=objective, ratio=0.5, adaptation=adaptation)
        step = {"step": "scores", "content": self.content, "objective": objective, "adaptation": adaptation}
        return result, self.as_at_first({**step, "seed": self.seed}, cost)

    def as_at_first(self, step: dict[str, Any], cost: Cost) -> Cost:
        """What a step costs a user; where a later run finds what it left, what it cost the run that left it.

        Args:
            step (`dict`): Which step, as plain JSON types.
            cost ([`Cost`]): Of it now.

        Returns:
            [`Cost`]
        """
        return cost

    @cached_property
    def out_of_fold(self) -> tuple[np.ndarray, Cost]:
        """Probabilities of the classes `(N, C)` by a regression that has not seen the row, and what they cost."""
        with threadpool_limits(1), measured() as cost:
            probabilities = out_of_fold_probabilities(
                self.embeddings.images, self.labels, num_classes=self.num_classes, seed=self.seed
            )
        return probabilities, cost

    @property
    def proxy_name(self) -> str:
        """What [`train_proxy`] trains, in a few words."""
        return "linear probe"

    @property
    def proxy_key(self) -> dict[str, Any]:
        """What decides the proxy beside rows, seed and the code of selections."""
        return {"proxy": self.proxy_name}

    def train_proxy(self, rows: np.ndarray, val_rows: np.ndarray) -> TrainingDynamics:
        """Train the classifier that EL2N, GraNd, Forgetting, MoSo, Glister, CCS and D2 look at.

        An image classifier where there are images, as in their papers; here a linear probe on the embeddings.

        Args:
            rows (`np.ndarray` of shape `(n,)`): Row numbers, int64: what it learns, with the given labels.
            val_rows (`np.ndarray` of shape `(m,)`): Rows whose features are wanted beside; there may be none.

        Returns:
            [`TrainingDynamics`]
        """
        embeds = self.embeddings.images
        val_embeds = embeds[val_rows] if len(val_rows) else None
        return train_probe(embeds[rows], self.labels[rows], val_image_embeds=val_embeds, seed=self.seed)

    @cached_property
    def proxy(self) -> tuple[TrainingDynamics, Cost]:
        """A proxy trained on all rows, once for every method that needs a training, and what that cost."""
        return self._trained_proxy(np.arange(self.num_rows), np.empty(0, dtype=np.int64))

    @cached_property
    def validated_proxy(self) -> tuple[TrainingDynamics, Cost]:
        """One trained on all rows but those that Glister validates on, and what that cost."""
        return self._trained_proxy(self.rows_to_validate, self.validation_rows)

    def _trained_proxy(self, rows: np.ndarray, val_rows: np.ndarray) -> tuple[TrainingDynamics, Cost]:
        key = {
            "what": "proxy",
            **self.proxy_key,
            "rows": digest_of(rows, val_rows),
            "content": self.content,
            "seed": self.seed,
            "code": code_digest(),
        }
        values = self.cells.find(key)
        if values is None:
            with measured() as cost:
                dynamics = self.train_proxy(rows, val_rows)
            values = {name: value for name, value in vars(dynamics).items() if value is not None}
            values["cost"] = cost.as_array()
            self.cells.store(key, values)
        measures: dict[str, Any] = {
            field.name: values[field.name] for field in fields(TrainingDynamics) if field.name in values
        }
        return TrainingDynamics(**measures), Cost(*values["cost"].tolist())

    @cached_property
    def validation_rows(self) -> np.ndarray:
        """Rows for Glister, of every class its share, rising."""
        quotas = class_quotas(
            self.clean_labels, self.num_val_rows, balance="proportional", num_classes=self.num_classes
        )
        rng = np.random.default_rng([self.seed, _VALIDATION_STREAM])
        rows = [
            rng.choice(np.flatnonzero(self.clean_labels == label), size=quota, replace=False)
            for label, quota in enumerate(quotas)
        ]
        return np.sort(np.concatenate(rows))

    @property
    def rows_to_validate(self) -> np.ndarray:
        """All rows but those, rising: what Glister selects from."""
        return np.setdiff1d(np.arange(self.num_rows), self.validation_rows)

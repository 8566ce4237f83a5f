"""The one training that the methods that need one share: of a probe on embeddings, or of an image classifier.

Legend: N rows, C classes, H hidden size (the input of the last layer), B rows of a batch.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import cos, pi
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import tqdm
from torch import nn
from torch.nn import functional

from ..errors import InputError
from .dynamics import TrainingDynamics
from .el2n import el2n_scores
from .forgetting import ForgettingCounter
from .grand import grand_scores
from .moso import mean_gradient, moso_scores


logger = logging.getLogger(__name__)

_STREAM = 6
OPTIMIZERS = {"sgd": partial(torch.optim.SGD, momentum=0.9), "adamw": torch.optim.AdamW}
# A last epoch that is no better than this much above the share of the largest class has shown nothing of the rows.
_LEARNT = 0.05


class Proxy(Protocol):
    """What is trained, and what on."""

    def new_model(self) -> nn.Module:
        """A model with weights drawn from torch's random state; it takes the inputs of a batch and gives features and logits."""

    def last_layer(self, model: nn.Module) -> nn.Linear:
        """Where the logits come from."""

    def fixed_features(self, *, validation: bool = False) -> np.ndarray | None:
        """The input of the last layer where the training does not change it, else `None`."""

    def batches(self, batches: Sequence[np.ndarray], *, validation: bool = False) -> Iterator[Any]:
        """The inputs of some rows after the other, on the CPU or where the model is."""


@dataclass(frozen=True)
class ProxyTraining:
    """How a proxy is trained, and when it is looked at.

    The learning rate falls to 0 along a cosine.

    Args:
        num_epochs (`int`): Epochs of the training.
        num_runs (`int`): Trainings from different initial weights that EL2N and GraNd are averaged over; all but the first end as soon as
            both are measured.
        batch_size (`int`): Rows of a batch, of all processes together.
        learning_rate (`float`): At the start.
        weight_decay (`float`): Of all weights.
        optimizer (`str`): "sgd", with momentum 0.9, as the papers have it, or "adamw", without which transformers hardly learn.
        early_epochs (`int`): Epochs after which EL2N and GraNd are measured; a tenth of the training in the paper.
        num_checkpoints (`int`): Epochs, spread evenly over the training, after which MoSo is measured.
        seed (`int`): Decides initial weights and batches.

    Raises:
        InputError: A value is out of range.
    """

    num_epochs: int
    num_runs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    optimizer: str
    early_epochs: int
    num_checkpoints: int
    seed: int

    def __post_init__(self) -> None:
        for name in ("num_epochs", "num_runs", "batch_size", "early_epochs", "num_checkpoints"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} must be a whole number of at least 1, got {value!r}.")
        for name in ("early_epochs", "num_checkpoints"):
            if getattr(self, name) > self.num_epochs:
                raise InputError(
                    f"{name} must be at most num_epochs, {self.num_epochs}, got {getattr(self, name)}; train longer or lower it."
                )
        if self.optimizer not in OPTIMIZERS:
            raise InputError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}.")
        if not 0 < self.learning_rate < float("inf"):
            raise InputError(f"learning_rate must be a number above 0, got {self.learning_rate!r}.")

    def steps_per_epoch(self, num_rows: int) -> int:
        return -(-num_rows // self.batch_size)

    def learning_rate_at(self, step: int, num_rows: int) -> float:
        return self.learning_rate * (1 + cos(pi * step / (self.num_epochs * self.steps_per_epoch(num_rows)))) / 2

    def checkpoints(self) -> set[int]:
        """Numbers of epochs from 1, the last one always among them."""
        return {round(self.num_epochs * part / self.num_checkpoints) for part in range(1, self.num_checkpoints + 1)}


def train_proxy(
    proxy: Proxy, labels: np.ndarray, training: ProxyTraining, *, num_val_rows: int, accelerator: Accelerator
) -> TrainingDynamics:
    """Train a proxy, and take down what the methods need.

    Beside the training, all rows are read once in every run for EL2N and GraNd, and twice at each checkpoint of MoSo, without
    gradients. The caller's random state stays as it was.

    Args:
        proxy ([`Proxy`]): What is trained.
        labels (`np.ndarray` of shape `(N,)`, int64): Given classes.
        training ([`ProxyTraining`]): How.
        num_val_rows (`int`): Validation rows whose features are wanted, 0 for none.
        accelerator (`Accelerator`): Each process takes its part of every batch.

    Returns:
        [`TrainingDynamics`]

    Raises:
        InputError: There are fewer rows than two, or than processes, or the training diverged.
    """
    if len(labels) < max(2, accelerator.num_processes):
        raise InputError(
            f"A proxy cannot be trained on {len(labels)} rows by {accelerator.num_processes} processes; give at least two rows, and "
            "one for each process."
        )
    device = accelerator.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        full = _Run(proxy, labels, training, 0, accelerator)
        full.train(training.num_epochs, num_val_rows=num_val_rows)
        norms = full.early.norms / training.num_runs
        for number in range(1, training.num_runs):
            run = _Run(proxy, labels, training, number, accelerator)
            run.train(training.early_epochs)
            norms += run.early.norms / training.num_runs
        features = full.features(len(labels))
        accelerator.free_memory()
    largest = float(np.bincount(labels).max() / len(labels))
    if full.train_accuracy <= largest + _LEARNT:
        logger.warning(
            "The proxy learnt next to nothing: it got %.1f %% of the rows right in its last epoch, and the largest class has %.1f %%. "
            "What it says of rows is chance; train it longer, or with another learning_rate or optimizer.",
            100 * full.train_accuracy,
            100 * largest,
        )
    return TrainingDynamics(
        error_norms=norms[0].astype(np.float32),
        gradient_norms=norms[1].astype(np.float32),
        forgetting_events=full.forgetting.scores(),
        moso=full.moso.astype(np.float32),
        margins=full.margins.astype(np.float32),
        features=features,
        early_features=full.early.features,
        early_head=full.early.head,
        train_accuracy=full.train_accuracy,
        early_val_features=full.early.val_features,
    )


@dataclass
class _Early:
    """What a run shows after the early epochs; norms `(2, N)` of errors and gradients in every run, the rest in the first alone."""

    norms: np.ndarray
    features: np.ndarray | None = None
    head: np.ndarray | None = None
    val_features: np.ndarray | None = None


class _Run:
    """One training from its own initial weights."""

    def __init__(
        self, proxy: Proxy, labels: np.ndarray, training: ProxyTraining, number: int, accelerator: Accelerator
    ) -> None:
        self._proxy, self._labels, self._training, self._number = proxy, labels, training, number
        self._accelerator = accelerator
        torch.manual_seed(int(np.random.default_rng([training.seed, _STREAM, number]).integers(2**31)))
        self._device_labels = torch.from_numpy(labels).to(accelerator.device)
        self._plain_model = proxy.new_model().to(accelerator.device)
        self._model = accelerator.prepare(self._plain_model)
        self._optimizer = OPTIMIZERS[training.optimizer](
            self._model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        self.early: _Early | None = None
        self.forgetting = ForgettingCounter(len(labels))
        self.moso, self.margins = np.zeros((2, len(labels)))
        self.train_accuracy = 0.0

    def train(self, num_epochs: int, *, num_val_rows: int = 0) -> None:
        """The first epochs of the training, or all."""
        training, num_rows = self._training, len(self._labels)
        rng = np.random.default_rng([training.seed, _STREAM, self._number, 1])
        per_epoch, checkpoints = training.steps_per_epoch(num_rows), training.checkpoints()
        with tqdm(
            total=num_epochs * per_epoch, desc=f"Proxy {self._number + 1}", unit=" steps", mininterval=0.5
        ) as progress:
            for epoch in range(1, num_epochs + 1):
                # Batches of nearly one size: a last one of a few rows would count as much as a full one.
                batches = np.array_split(rng.permutation(num_rows), per_epoch)
                margins = self._train_epoch(batches, first_step=(epoch - 1) * per_epoch, progress=progress)
                self._check_finite(margins, epoch)
                self.forgetting.add_epoch(margins > 0)
                self.margins += margins / training.num_epochs
                self.train_accuracy = float((margins > 0).mean())
                if epoch == training.early_epochs:
                    self.early = _Early(self._early_norms())
                    if self._number == 0:
                        self.early.features, self.early.head = self.features(num_rows), self._head()
                        self.early.val_features = (
                            self.features(num_val_rows, validation=True) if num_val_rows else None
                        )
                if self._number == 0 and epoch in checkpoints:
                    rate = training.learning_rate_at(epoch * per_epoch - 1, num_rows)
                    num_steps = training.num_epochs * per_epoch
                    self.moso += self._moso_products() * rate * num_steps / num_rows / len(checkpoints)

    def _train_epoch(self, batches: Sequence[np.ndarray], *, first_step: int, progress: tqdm) -> np.ndarray:
        """One pass over all rows; gives the margin of each as it came up, before the step on it."""
        margins = np.zeros(len(self._labels))
        self._model.train()
        for place, (rows, _, logits) in enumerate(self._forward(self._model, batches)):
            for group in self._optimizer.param_groups:
                group["lr"] = self._training.learning_rate_at(first_step + place, len(self._labels))
            labels = self._device_labels[rows]
            losses = functional.cross_entropy(logits, labels, reduction="sum")
            self._optimizer.zero_grad()
            # Data parallelism takes the mean over the processes of what is each one's part of a mean over the batch.
            self._accelerator.backward(losses * (self._accelerator.num_processes / len(batches[place])))
            self._optimizer.step()
            margins[rows] = _margins(logits.detach(), labels)
            progress.update()
        return self._over_processes(margins)

    def _head(self) -> np.ndarray:
        """Weights and bias of the last layer, `(C, H + 1)`."""
        layer = self._proxy.last_layer(self._plain_model)
        bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias.detach().cpu()
        return torch.cat([layer.weight.detach().cpu(), bias[:, None]], dim=1).float().numpy()

    def features(self, num_rows: int, *, validation: bool = False) -> np.ndarray:
        """What the last layer takes, `(num_rows, H)`."""
        if (fixed := self._proxy.fixed_features(validation=validation)) is not None:
            return fixed
        gathered = np.zeros((num_rows, self._proxy.last_layer(self._plain_model).in_features), dtype=np.float32)
        for rows, features, _ in self._look(num_rows, validation=validation):
            gathered[rows] = features.float().cpu().numpy()
        return self._over_processes(gathered)

    def _early_norms(self) -> np.ndarray:
        norms = np.zeros((2, len(self._labels)))
        for rows, features, logits in self._look(len(self._labels)):
            given = logits.softmax(dim=1), self._device_labels[rows]
            norms[:, rows] = el2n_scores(*given), grand_scores(*given, features)
        return self._over_processes(norms)

    def _moso_products(self) -> np.ndarray:
        num_rows, gradient = len(self._labels), 0.0
        for rows, features, logits in self._look(num_rows):
            part = mean_gradient(logits.softmax(dim=1), self._device_labels[rows], features)
            gradient = gradient + part.double() * (len(rows) / num_rows)
        gradient = self._accelerator.reduce(gradient, reduction="sum").float()
        products = np.zeros(num_rows)
        for rows, features, logits in self._look(num_rows):
            products[rows] = moso_scores(
                logits.softmax(dim=1), self._device_labels[rows], features, gradient, num_rows=num_rows
            )
        return self._over_processes(products)

    @torch.no_grad()
    def _look(
        self, num_rows: int, *, validation: bool = False
    ) -> Iterator[tuple[np.ndarray, torch.Tensor, torch.Tensor]]:
        """Rows, features and logits of all rows in their order, as the model is now."""
        self._plain_model.eval()
        batches = np.array_split(np.arange(num_rows), -(-num_rows // self._training.batch_size))
        yield from self._forward(self._plain_model, batches, validation=validation)

    def _forward(
        self, model: nn.Module, batches: Sequence[np.ndarray], *, validation: bool = False
    ) -> Iterator[tuple[np.ndarray, torch.Tensor, torch.Tensor]]:
        """This process's rows of each batch, with their features and logits."""
        own = [
            np.array_split(rows, self._accelerator.num_processes)[self._accelerator.process_index] for rows in batches
        ]
        for rows, inputs in zip(own, self._proxy.batches(own, validation=validation), strict=True):
            yield rows, *model(inputs)

    def _over_processes(self, array: np.ndarray) -> np.ndarray:
        """Each row is filled by one process and 0 in all others."""
        if self._accelerator.num_processes == 1:
            return array
        return (
            self._accelerator.reduce(torch.from_numpy(array).to(self._accelerator.device), reduction="sum")
            .cpu()
            .numpy()
        )

    def _check_finite(self, margins: np.ndarray, epoch: int) -> None:
        if not np.isfinite(margins).all():
            raise InputError(
                f"The proxy diverged in epoch {epoch} with learning_rate {self._training.learning_rate}; lower it."
            )


def _margins(logits: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """Logit of the given class less the largest other one; above 0 where the row is classified as its label says."""
    own = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], float("-inf")).amax(dim=1)
    return (own - others).double().cpu().numpy()

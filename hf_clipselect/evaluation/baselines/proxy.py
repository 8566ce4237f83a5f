"""The one training that the methods that need one share: of a probe on embeddings, or of an image classifier.

Legend: N rows, C classes, H hidden size (the input of the last layer), B rows of a batch.
"""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import tqdm
from torch import nn
from torch.nn import functional

from ...errors import InputError
from .dynamics import TrainingDynamics
from .el2n import el2n_scores
from .forgetting import ForgettingCounter
from .grand import grand_scores
from .moso import mean_gradient, moso_scores
from .proxy_training import OPTIMIZERS, Proxy, ProxyTraining


logger = logging.getLogger(__name__)

_STREAM = 6
# A proxy whose accuracy exceeds the share of the largest class by no more than this has learnt nothing of the rows.
_LEARNT = 0.05


def train_proxy(
    proxy: Proxy, labels: np.ndarray, training: ProxyTraining, *, num_val_rows: int, accelerator: Accelerator
) -> TrainingDynamics:
    """Train a proxy, and record what the methods need.

    Beside the training, all rows are read once in every run for EL2N and GraNd, and twice at each checkpoint of MoSo,
    without gradients. The caller's random state stays as it was.

    Args:
        proxy ([`Proxy`]): What is trained.
        labels (`np.ndarray` of shape `(N,)`, int64): Given classes.
        training ([`ProxyTraining`]): How.
        num_val_rows (`int`): Validation rows whose features are wanted, 0 for none.
        accelerator (`Accelerator`): Each process takes its part of every batch.

    Returns:
        [`TrainingDynamics`]

    Raises:
        InputError: There are no two classes, a batch has fewer rows than there are processes, or the training
            diverged.
    """
    _check_rows(labels, training, accelerator.num_processes)
    device = accelerator.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        full = _Run(proxy, labels, training, 0, accelerator)
        full.train(training.num_epochs, num_val_rows=num_val_rows)
        norms = full.early_norms / training.num_runs
        for number in range(1, training.num_runs):
            run = _Run(proxy, labels, training, number, accelerator)
            run.train(training.early_epochs)
            norms += run.early_norms / training.num_runs
        features = full.features(len(labels))
        accelerator.free_memory()
    largest = float(np.bincount(labels).max() / len(labels))
    if full.train_accuracy <= largest + _LEARNT:
        logger.warning(
            "The proxy learnt next to nothing: it got %.1f %% of the rows right in its last epoch, and the largest "
            "class has %.1f %%. What it says of rows is chance; train it longer, or with another learning_rate or "
            "optimizer.",
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
        early_features=full.early_features,
        early_head=full.early_head,
        train_accuracy=full.train_accuracy,
        early_val_features=full.early_val_features,
    )


def _check_rows(labels: np.ndarray, training: ProxyTraining, num_processes: int) -> None:
    num_classes = len(np.unique(labels))
    if num_classes < 2:
        raise InputError(f"A proxy learns to tell classes apart; the labels need at least two, got {num_classes}.")
    smallest = len(labels) // training.steps_per_epoch(len(labels))
    if smallest < num_processes:
        raise InputError(
            f"Batches of {smallest} of the {len(labels)} rows cannot be shared by {num_processes} processes; raise "
            "batch_size, or launch fewer."
        )


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
        # Filled after the early epochs; all but the norms only in the first run.
        self.early_norms = np.zeros((2, len(labels)))
        self.early_features, self.early_head = np.zeros((2, 0, 0), dtype=np.float32)
        self.early_val_features: np.ndarray | None = None
        self.forgetting = ForgettingCounter(len(labels))
        self.moso, self.margins = np.zeros((2, len(labels)))
        self.train_accuracy = 0.0

    def train(self, num_epochs: int, *, num_val_rows: int = 0) -> None:
        """The first epochs of the training, or all."""
        training, num_rows = self._training, len(self._labels)
        rng = np.random.default_rng([training.seed, _STREAM, self._number, 1])
        per_epoch = training.steps_per_epoch(num_rows)
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
                self._measure_after(epoch, num_val_rows)

    def _measure_after(self, epoch: int, num_val_rows: int) -> None:
        training, num_rows, is_first = self._training, len(self._labels), self._number == 0
        if epoch == training.early_epochs:
            self.early_norms = self._norms()
            if is_first:
                self.early_features, self.early_head = self.features(num_rows), self._head()
            if is_first and num_val_rows:
                self.early_val_features = self.features(num_val_rows, validation=True)
        checkpoints = training.checkpoints()
        if is_first and epoch in checkpoints:
            per_epoch = training.steps_per_epoch(num_rows)
            rate = training.learning_rate_at(epoch * per_epoch - 1, num_rows)
            self.moso += self._moso_products() * rate * training.num_epochs * per_epoch / num_rows / len(checkpoints)

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

    def _norms(self) -> np.ndarray:
        """EL2N and GraNd of all rows, `(2, N)`."""
        norms = np.zeros((2, len(self._labels)))
        for rows, features, logits in self._look(len(self._labels)):
            given = logits.softmax(dim=1), self._device_labels[rows]
            norms[:, rows] = el2n_scores(*given), grand_scores(*given, features)
        return self._over_processes(norms)

    def _moso_products(self) -> np.ndarray:
        num_rows, nothing = len(self._labels), torch.zeros((), device=self._accelerator.device)
        gradient, mean = nothing, nothing
        for rows, features, logits in self._look(num_rows):
            part = mean_gradient(logits.softmax(dim=1), self._device_labels[rows], features)
            gradient = gradient + part * (len(rows) / num_rows)
            mean = mean + features.sum(dim=0) / num_rows
        gradient, mean = (self._accelerator.reduce(part, reduction="sum") for part in (gradient, mean))
        gradient[:, :-1] -= gradient[:, -1:] * mean  # of a layer that takes the features about their mean
        products = np.zeros(num_rows)
        for rows, features, logits in self._look(num_rows):
            products[rows] = moso_scores(
                logits.softmax(dim=1), self._device_labels[rows], features - mean, gradient, num_rows=num_rows
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
        shares = [
            np.array_split(rows, self._accelerator.num_processes)[self._accelerator.process_index] for rows in batches
        ]
        own = [rows for rows in shares if len(rows)]  # of a few validation rows there may be none
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
    return (own - others).cpu().numpy()

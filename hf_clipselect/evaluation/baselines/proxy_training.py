"""What is trained as a proxy, and how."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import cos, pi
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from ...config.checks import check_seed
from ...errors import InputError


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, momentum=0.9),
    "adamw": torch.optim.AdamW,
}


class Proxy(Protocol):
    """What is trained, and what on."""

    def new_model(self) -> nn.Module:
        """A model with weights from torch's random state, which turns inputs of a batch into features and logits."""

    def last_layer(self, model: Any) -> nn.Linear:
        """Where the logits of what `new_model` gave come from."""

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
        num_runs (`int`): Trainings from different initial weights that EL2N and GraNd are averaged over; all but the
            first end as soon as both are measured.
        batch_size (`int`): Rows of a batch, of all processes together.
        learning_rate (`float`): At the start.
        weight_decay (`float`): Of all weights.
        optimizer (`str`): "sgd", with momentum 0.9, as the papers have it, or "adamw", without which transformers
            hardly learn.
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
                    f"{name} must be at most num_epochs, {self.num_epochs}, got {getattr(self, name)}; train longer "
                    "or lower it."
                )
        check_seed(self.seed)
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

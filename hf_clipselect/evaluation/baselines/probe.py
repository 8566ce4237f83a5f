"""A linear probe on embeddings as the proxy: seconds instead of hours, and no image is read."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from ...encoder.threads import one_thread_each
from ...errors import InputError
from ...runtime.launch import make_accelerator
from ...scores.arrays import Array, checked_labels
from .dynamics import TrainingDynamics
from .inputs import unit_embeds
from .proxy import train_proxy
from .proxy_training import ProxyTraining


def train_probe(
    image_embeds: Array,
    labels: Array,
    *,
    val_image_embeds: Array | None = None,
    num_epochs: int = 20,
    num_runs: int = 10,
    batch_size: int = 256,
    learning_rate: float = 0.3,
    weight_decay: float = 0.0,
    early_epochs: int = 2,
    num_checkpoints: int = 10,
    seed: int = 0,
) -> TrainingDynamics:
    """Train a linear classifier on embeddings, and record what EL2N, GraNd, Forgetting, MoSo and Glister need.

    The embeddings are normalised, the mean of all is taken off, and what remains is scaled to a mean squared length of
    1: embeddings of CLIP share a direction that a probe would take long to learn, and with embeddings of one length
    GraNd would be a multiple of EL2N. On the CPU one thread does the work, so that the same seed gives the same bytes
    on any number of cores.

    Args:
        image_embeds (`np.ndarray` or `torch.Tensor` of shape `(num_rows, embed_dim)`): Embeddings, normalised here.
        labels (`np.ndarray` or `torch.Tensor` of shape `(num_rows,)`): Given classes, integers from 0.
        val_image_embeds (`np.ndarray` or `torch.Tensor` of shape `(num_val_rows, embed_dim)`, *optional*):
            Validation rows, for Glister.
        num_epochs, num_runs, batch_size, learning_rate, weight_decay, early_epochs, num_checkpoints, seed:
            As in [`ProxyTraining`].

    Returns:
        [`TrainingDynamics`]: Its `features` are the embeddings as the probe takes them.

    Raises:
        InputError: Shapes don't match, a row is zero or not finite, a label is negative, or the training diverged.
    """
    training = ProxyTraining(
        num_epochs, num_runs, batch_size, learning_rate, weight_decay, "sgd", early_epochs, num_checkpoints, seed
    )
    rows = unit_embeds(image_embeds)
    labels = checked_labels(labels, num_rows=len(rows))
    val_rows = None if val_image_embeds is None else unit_embeds(val_image_embeds)
    if val_rows is not None and val_rows.shape[1] != rows.shape[1]:
        raise InputError(
            f"image_embeds and val_image_embeds must share their last dimension, got {rows.shape[1]} and "
            f"{val_rows.shape[1]}."
        )
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    rows -= mean
    scale = np.sqrt(np.einsum("nd,nd->", rows, rows, dtype=np.float64) / len(rows)).astype(np.float32)
    scale = scale or np.float32(1)  # all rows are one
    rows /= scale
    if val_rows is not None:
        val_rows = (val_rows - mean) / scale
    accelerator = make_accelerator()
    probe = _Probe(rows, val_rows, int(labels.max()) + 1, accelerator)
    with one_thread_each(accelerator.device):
        return train_proxy(
            probe, labels, training, num_val_rows=0 if val_rows is None else len(val_rows), accelerator=accelerator
        )


class _Linear(nn.Module):
    def __init__(self, hidden_size: int, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(hidden_size, num_classes)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return features, self.head(features)


class _Probe:
    def __init__(
        self, rows: np.ndarray, val_rows: np.ndarray | None, num_classes: int, accelerator: Accelerator
    ) -> None:
        self._fixed, self._num_classes = (rows, val_rows), num_classes
        self._rows = torch.from_numpy(rows).to(accelerator.device)

    def new_model(self) -> nn.Module:
        return _Linear(self._rows.shape[1], self._num_classes)

    def last_layer(self, model: _Linear) -> nn.Linear:
        return model.head

    def fixed_features(self, *, validation: bool = False) -> np.ndarray | None:
        return self._fixed[validation]

    def batches(self, batches: Sequence[np.ndarray], *, validation: bool = False) -> Iterator[torch.Tensor]:
        return (self._rows[numbers] for numbers in batches)  # of validation rows only the features are asked for

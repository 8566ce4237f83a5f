"""A network on arrays of pixels as the proxy: an image classifier as in the papers, where images are arrays in memory.

Shapes: N rows, M validation rows, H hidden size (the input of the last layer).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from ...encoder.threads import one_thread_each
from ...errors import InputError
from ...runtime.launch import make_accelerator
from ...scores.arrays import Array, checked_labels
from .dynamics import TrainingDynamics
from .proxy import train_proxy
from .proxy_training import ProxyTraining


class PixelNetwork(Protocol):
    """A module that tells the input of its last layer."""

    head: nn.Linear

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Input of the last layer, `(B, H)`."""


def train_pixel_proxy(
    new_network: Callable[[], PixelNetwork],
    pixels: np.ndarray,
    labels: Array,
    *,
    val_pixels: np.ndarray | None = None,
    as_inputs: Callable[[np.ndarray], torch.Tensor] = torch.from_numpy,
    num_epochs: int = 10,
    num_runs: int = 3,
    batch_size: int = 64,
    learning_rate: float = 0.1,
    weight_decay: float = 5e-4,
    early_epochs: int = 2,
    num_checkpoints: int = 5,
    seed: int = 0,
) -> TrainingDynamics:
    """Train a network on pixels, and record what EL2N, GraNd, Forgetting, MoSo and Glister need.

    SGD with momentum, as in the papers, which train it for up to 200 epochs and crop and flip the images; here for few
    epochs and without. On the CPU one thread does the work, so that the same seed gives the same bytes on any number
    of cores.

    Args:
        new_network (`Callable`): Gives a network with weights from torch's random state.
        pixels (`np.ndarray` of shape `(N, ...)`): Rows as `as_inputs` takes them.
        labels (`np.ndarray` or `torch.Tensor` of shape `(N,)`): Given classes, integers from 0.
        val_pixels (`np.ndarray` of shape `(M, ...)`, *optional*): Validation rows, for Glister.
        as_inputs (`Callable`, *optional*): Turns some of the rows into what the network takes, float32.
        num_epochs, num_runs, batch_size, learning_rate, weight_decay, early_epochs, num_checkpoints, seed:
            As in [`ProxyTraining`].

    Returns:
        [`TrainingDynamics`]

    Raises:
        InputError: Shapes don't match, a label is negative, or the training diverged.
    """
    training = ProxyTraining(
        num_epochs, num_runs, batch_size, learning_rate, weight_decay, "sgd", early_epochs, num_checkpoints, seed
    )
    labels = checked_labels(labels, num_rows=len(pixels))
    if val_pixels is not None and val_pixels.shape[1:] != pixels.shape[1:]:
        raise InputError(
            f"pixels and val_pixels must be of one shape, got {pixels.shape[1:]} and {val_pixels.shape[1:]} for a row."
        )
    accelerator = make_accelerator()
    proxy = _PixelProxy(new_network, (pixels, val_pixels), as_inputs, accelerator)
    with one_thread_each(accelerator.device):
        return train_proxy(
            proxy, labels, training, num_val_rows=0 if val_pixels is None else len(val_pixels), accelerator=accelerator
        )


class _WithFeatures(nn.Module):
    """A network that also gives what its last layer takes."""

    def __init__(self, network: PixelNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.network.embed(pixels)
        return features, self.network.head(features)


class _PixelProxy:
    def __init__(
        self,
        new_network: Callable[[], PixelNetwork],
        pixels: tuple[np.ndarray, np.ndarray | None],
        as_inputs: Callable[[np.ndarray], torch.Tensor],
        accelerator: Accelerator,
    ) -> None:
        self._new_network, self._pixels, self._as_inputs = new_network, pixels, as_inputs
        self._device = accelerator.device

    def new_model(self) -> nn.Module:
        return _WithFeatures(self._new_network())

    def last_layer(self, model: _WithFeatures) -> nn.Linear:
        return model.network.head

    def fixed_features(self, *, validation: bool = False) -> None:
        return None

    def batches(self, batches: Sequence[np.ndarray], *, validation: bool = False) -> Iterator[torch.Tensor]:
        pixels = self._pixels[validation]
        if pixels is None:
            raise LookupError("there are no validation rows")
        return (self._as_inputs(pixels[rows]).to(self._device) for rows in batches)

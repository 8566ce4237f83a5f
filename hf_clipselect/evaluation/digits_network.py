"""A small network on the pixels of the digits, trained on subsets of them to compare the subsets.

Shapes: N training rows, B rows of a batch, M initialisations.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from torch.nn import functional

from ..embedded.digits import CLASS_NAMES, load_digits_dataset
from ..encoder.threads import one_thread_each
from ..errors import InputError
from ..scores.arrays import Array, checked_labels


NUM_PIXELS, NUM_HIDDEN = 64, 128
NUM_STEPS = 400

_BATCH_SIZE = 128
_LEARNING_RATE = 1e-3  # Adam's own


def digit_pixels(dataset: Dataset) -> np.ndarray:
    """The images of the digits as the network takes them.

    Args:
        dataset (`Dataset`): Rows of `embedded/digits`, as they are or with damaged images.

    Returns:
        `np.ndarray` of shape `(N, 64)`: Float32 in [0, 1].
    """
    images = [np.asarray(image, dtype=np.float32).reshape(NUM_PIXELS) for image in dataset.with_format(None)["image"]]
    return np.stack(images) / 255


def digits_accuracy(
    pixels: np.ndarray, labels: Array, *, seed: int, num_initialisations: int = 3, num_steps: int = NUM_STEPS
) -> float:
    """Train on some rows and test on the 500 test rows of `embedded/digits`.

    The network is 64-128-10 with a ReLU, trained with Adam in batches of 128 for the same number of steps whatever the
    number of rows. Networks of several initialisations are trained side by side, each with batches of its own. On one
    thread, and with no trace in torch's own random state: the same arguments give the same accuracy wherever they are
    asked.

    Args:
        pixels (`np.ndarray` of shape `(N, 64)`): From [`digit_pixels`].
        labels (`np.ndarray` or `torch.Tensor` of shape `(N,)`): Labels to learn, in `[0, 10)`, right or wrong.
        seed (`int`): Seed of the initialisations and of the batches.
        num_initialisations (`int`, *optional*, defaults to 3): Networks whose accuracy is averaged.
        num_steps (`int`, *optional*, defaults to 400): Steps of each.

    Returns:
        `float`: Mean share of the test rows that the networks get right, in [0, 1].

    Raises:
        InputError: The pixels have another shape, there is no row, or the labels do not fit.
    """
    pixels = np.asarray(pixels, dtype=np.float32)
    if pixels.ndim != 2 or pixels.shape[1] != NUM_PIXELS or len(pixels) == 0:
        raise InputError(
            f"pixels must have the shape (rows, {NUM_PIXELS}) with at least one row, got {pixels.shape}; see "
            "digit_pixels."
        )
    labels = torch.from_numpy(checked_labels(labels, num_rows=len(pixels), num_classes=len(CLASS_NAMES)))
    with one_thread_each(torch.device("cpu")):
        networks = train_networks(
            torch.from_numpy(pixels), labels, seed=seed, num_networks=num_initialisations, num_steps=num_steps
        )
        test_pixels, test_labels = _test_rows()
        with torch.no_grad():
            correct = networks(test_pixels.expand(num_initialisations, -1, -1)).argmax(dim=2) == test_labels
    return correct.double().mean().item()


class Networks(nn.Module):
    """M networks 64-128-10 side by side, initialised as `nn.Linear` is.

    Args:
        num_networks (`int`): M.
        generator (`torch.Generator`): Draws the initial weights.
    """

    def __init__(self, num_networks: int, generator: torch.Generator) -> None:
        super().__init__()
        sizes = [(NUM_PIXELS, NUM_HIDDEN), (NUM_HIDDEN, len(CLASS_NAMES))]
        self.weights = nn.ParameterList(torch.empty(num_networks, *size) for size in sizes)
        self.biases = nn.ParameterList(torch.empty(num_networks, 1, width) for _, width in sizes)
        for (fan_in, _), weight, bias in zip(sizes, self.weights, self.biases, strict=True):
            nn.init.uniform_(weight, -(fan_in**-0.5), fan_in**-0.5, generator=generator)
            nn.init.uniform_(bias, -(fan_in**-0.5), fan_in**-0.5, generator=generator)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits `(M, B, 10)` of pixels `(M, B, 64)`."""
        hidden = torch.baddbmm(self.biases[0], pixels, self.weights[0]).relu()
        return torch.baddbmm(self.biases[1], hidden, self.weights[1])


def train_networks(
    pixels: torch.Tensor, labels: torch.Tensor, *, seed: int, num_networks: int, num_steps: int
) -> Networks:
    """Train M networks, each as it would be trained alone.

    Args:
        pixels (`torch.Tensor` of shape `(N, 64)`): Float32 in [0, 1].
        labels (`torch.LongTensor` of shape `(N,)`): In `[0, 10)`.
        seed (`int`): Seed of the initialisations and of the batches.
        num_networks (`int`), num_steps (`int`): How many, and how long.

    Returns:
        [`Networks`]
    """
    generator = torch.Generator().manual_seed(seed)
    networks = Networks(num_networks, generator)
    optimizer = torch.optim.Adam(networks.parameters(), lr=_LEARNING_RATE, fused=True)
    for rows in _batches(len(pixels), num_networks, num_steps, generator):
        logits = networks(pixels[rows])
        # The sum over the networks of their mean losses: each network has the gradient that it would have alone.
        loss = num_networks * functional.cross_entropy(logits.flatten(0, 1), labels[rows].flatten())
        networks.zero_grad()
        loss.backward()
        optimizer.step()
    return networks


def _batches(num_rows: int, num_networks: int, num_steps: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Row numbers `(M, B)`: full batches of one permutation after the other, the rest of each is skipped."""
    size = min(_BATCH_SIZE, num_rows)
    per_epoch = num_rows // size
    for step in range(num_steps):
        position = step % per_epoch * size
        if position == 0:
            order = torch.stack([torch.randperm(num_rows, generator=generator) for _ in range(num_networks)])
        yield order[:, position : position + size]


@cache
def _test_rows() -> tuple[torch.Tensor, torch.Tensor]:
    test = load_digits_dataset("test")
    return torch.from_numpy(digit_pixels(test)), torch.tensor(test["label"])

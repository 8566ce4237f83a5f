"""A small convolutional network for small photographs, trained on subsets of them to compare the subsets.

Shapes: N images, B images of a batch, H height, W width.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ...encoder.threads import one_thread_each


BATCH_SIZE, NUM_STEPS = 64, 400
_LEARNING_RATE = 0.05
_MEAN, _STD = 0.45, 0.25


class ConvNet(nn.Module):
    """Three convolutions with batch normalisation, each but the last followed by a halving of the sides, their mean
    over the picture, and a linear layer.

    Args:
        num_classes (`int`): Outputs.
        width (`int`): Channels of the first convolution; the next have two and four times as many.
    """

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        channels = (3, width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for inputs, outputs in zip(channels, channels[1:], strict=False):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if outputs < channels[-1] else []
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(channels[-1], num_classes)

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Input of the last layer `(B, 4 * width)`."""
        return self.body(pixels).mean(dim=(2, 3))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits `(B, num_classes)`."""
        return self.head(self.embed(pixels))


def train_convnet(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    num_classes: int,
    seed: int,
    width: int = 16,
    num_steps: int = NUM_STEPS,
    batch_size: int = BATCH_SIZE,
) -> ConvNet:
    """Train for the same number of steps whatever the number of rows: SGD with momentum, a rate that falls to 0 in a
    line, images mirrored at random. On one thread, so that the same arguments give the same weights.

    Args:
        images (`np.ndarray` of shape `(N, H, W, 3)`): Uint8.
        labels (`np.ndarray` of shape `(N,)`): Integers in `[0, num_classes)`.
        num_classes (`int`): C.
        seed (`int`): Of the weights and the batches.
        width (`int`, *optional*, defaults to 16): As of [`ConvNet`].
        num_steps (`int`, *optional*, defaults to 400), batch_size (`int`, *optional*, defaults to 64): How long.

    Returns:
        [`ConvNet`]: In evaluation mode.
    """
    with one_thread_each(torch.device("cpu")), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rng = np.random.default_rng([seed, 1])
        model = ConvNet(num_classes, width)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing from torch's stubs
        optimizer = torch.optim.SGD(
            model.parameters(), lr=_LEARNING_RATE, momentum=0.9, weight_decay=5e-4, nesterov=True
        )
        order = rng.permutation(0)
        for step in range(num_steps):
            if len(order) < min(batch_size, len(images)):
                order = rng.permutation(len(images))
            rows, order = order[:batch_size], order[batch_size:]
            pixels = images[rows]
            mirrored = rng.random(len(rows)) < 0.5
            pixels = np.where(mirrored[:, None, None, None], pixels[:, :, ::-1], pixels)
            for group in optimizer.param_groups:
                group["lr"] = _LEARNING_RATE * (1 - step / num_steps)
            loss = functional.cross_entropy(model(as_pixels(pixels)), torch.from_numpy(labels[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


@torch.inference_mode()
def embed_images(model: ConvNet, images: np.ndarray) -> np.ndarray:
    """Input of the last layer for each image.

    Args:
        model ([`ConvNet`]): A trained one.
        images (`np.ndarray` of shape `(N, H, W, 3)`): Uint8.

    Returns:
        `np.ndarray` of shape `(N, 4 * width)`: Float32.
    """
    with one_thread_each(torch.device("cpu")):
        blocks = [model.embed(as_pixels(images[start : start + 500])) for start in range(0, len(images), 500)]
    return torch.cat(blocks).numpy()


@torch.inference_mode()
def accuracy_of(model: ConvNet, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of the images that are classified as labelled, in [0, 1].

    Args:
        model ([`ConvNet`]): A trained one.
        images (`np.ndarray` of shape `(N, H, W, 3)`): Uint8.
        labels (`np.ndarray` of shape `(N,)`): Their classes.

    Returns:
        `float`
    """
    predictions = model.head(torch.from_numpy(embed_images(model, images))).argmax(dim=1).numpy()
    return float((predictions == labels).mean())


def as_pixels(images: np.ndarray) -> torch.Tensor:
    """Images as the network takes them, `(B, 3, H, W)` about 0."""
    return torch.from_numpy((np.ascontiguousarray(images, dtype=np.float32) / 255 - _MEAN) / _STD).permute(0, 3, 1, 2)

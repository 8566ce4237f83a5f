"""A small residual network for small photographs, trained on subsets of them to compare the subsets.

Shapes: N images, B images of a batch, H height, W width.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ...encoder.threads import one_thread_each


BATCH_SIZE, NUM_STEPS = 64, 1000
_LEARNING_RATE = 0.1
_MEAN, _STD = 0.45, 0.25


class SmallResNet(nn.Module):
    """A convolution of stride 2, three residual blocks of which the last two halve the sides, their mean over the
    picture, and a linear layer: 78,000 weights at the default width.

    A ResNet-20 (He et al., 2016) with one block for three and a quarter of the pixels, which a CPU trains ten times
    faster.

    Args:
        num_classes (`int`): Outputs.
        width (`int`, *optional*, defaults to 16): Channels of the first block; the next have two and four times as
            many.
    """

    def __init__(self, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            _Block(width, width, stride=1),
            _Block(width, 2 * width, stride=2),
            _Block(2 * width, 4 * width, stride=2),
        )
        self.head = nn.Linear(4 * width, num_classes)

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Input of the last layer `(B, 4 * width)`."""
        return self.body(pixels).mean(dim=(2, 3))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits `(B, num_classes)`."""
        return self.head(self.embed(pixels))


class _Block(nn.Module):
    """Two convolutions beside a shortcut, which is a convolution of one pixel where the shape changes."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            convolution = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.residual(pixels) + self.shortcut(pixels))


def train_small_resnet(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    num_classes: int,
    seed: int,
    width: int = 16,
    num_steps: int = NUM_STEPS,
    batch_size: int = BATCH_SIZE,
) -> SmallResNet:
    """Train for the same number of steps whatever the number of rows: SGD with momentum, a rate that falls to 0 in a
    line, images shifted by up to an eighth of the side and mirrored at random. On one thread, so that the same
    arguments give the same weights.

    Args:
        images (`np.ndarray` of shape `(N, H, W, 3)`): Uint8.
        labels (`np.ndarray` of shape `(N,)`): Integers in `[0, num_classes)`.
        num_classes (`int`): C.
        seed (`int`): Of the weights, the batches and the augmentation.
        width (`int`, *optional*, defaults to 16): As of [`SmallResNet`].
        num_steps (`int`, *optional*, defaults to 1000), batch_size (`int`, *optional*, defaults to 64): How long.

    Returns:
        [`SmallResNet`]: In evaluation mode.
    """
    with one_thread_each(torch.device("cpu")), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rng = np.random.default_rng([seed, 1])
        model = SmallResNet(num_classes, width)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing from torch's stubs
        optimizer = torch.optim.SGD(
            model.parameters(), lr=_LEARNING_RATE, momentum=0.9, weight_decay=5e-4, nesterov=True
        )
        order = rng.permutation(0)
        for step in range(num_steps):
            if len(order) < min(batch_size, len(images)):
                order = rng.permutation(len(images))
            rows, order = order[:batch_size], order[batch_size:]
            for group in optimizer.param_groups:
                group["lr"] = _LEARNING_RATE * (1 - step / num_steps)
            logits = model(as_pixels(shifted_and_mirrored(images[rows], rng)))
            loss = functional.cross_entropy(logits, torch.from_numpy(labels[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def shifted_and_mirrored(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random crops of images that are padded with zeros by an eighth of each side, every other one mirrored.

    Args:
        images (`np.ndarray` of shape `(B, H, W, 3)`): Uint8.
        rng (`np.random.Generator`): Draws crops and mirrors.

    Returns:
        `np.ndarray` of shape `(B, H, W, 3)`: Uint8.
    """
    count, height, width, _ = images.shape
    above, left = height // 8, width // 8
    padded = np.pad(images, ((0, 0), (above, above), (left, left), (0, 0)))
    top = rng.integers(0, 2 * above + 1, size=(count, 1, 1)) + np.arange(height)[:, None]
    columns = np.broadcast_to(np.arange(width), (count, 1, width))
    columns = np.where(rng.random((count, 1, 1)) < 0.5, columns[..., ::-1], columns)
    side = rng.integers(0, 2 * left + 1, size=(count, 1, 1)) + columns
    return padded[np.arange(count)[:, None, None], top, side]


@torch.inference_mode()
def embed_images(model: SmallResNet, images: np.ndarray) -> np.ndarray:
    """Input of the last layer for each image.

    Args:
        model ([`SmallResNet`]): A trained one.
        images (`np.ndarray` of shape `(N, H, W, 3)`): Uint8.

    Returns:
        `np.ndarray` of shape `(N, 4 * width)`: Float32.
    """
    with one_thread_each(torch.device("cpu")):
        blocks = [model.embed(as_pixels(images[start : start + 500])) for start in range(0, len(images), 500)]
    return torch.cat(blocks).numpy()


@torch.inference_mode()
def accuracy_of(model: SmallResNet, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of the images that are classified as labelled, in [0, 1].

    Args:
        model ([`SmallResNet`]): A trained one.
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

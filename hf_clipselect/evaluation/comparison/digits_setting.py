"""The embedded digits: the tiny CLIP scores them, and a small network is trained on the pixels of the kept ones.

Legend: N rows.
"""

from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import nn

from ...config.arguments import EMBEDDED_DATASET, EMBEDDED_MODEL
from ...data import read_images
from ...data.source import load_source
from ...embedded import load_digits_dataset, tiny_clip_path
from ...embedded.digits import NUM_TEST_ROWS
from ...pipeline.dataset import select_dataset
from ...results.selection_result import SelectionResult
from ..baselines import TrainingDynamics
from ..baselines.pixel_proxy import train_pixel_proxy
from ..digits_network import NUM_HIDDEN, NUM_PIXELS, NUM_STEPS, digit_pixels, digits_accuracy, train_networks
from ..robustness import corrupt_images
from ..robustness.corruptions import CORRUPTION_COLUMN, NOT_CORRUPTED
from .cells import code_digest, digest_of
from .clip_embeds import clip_embeds
from .setting import Damage, Setting


_MODEL = "network"


class _DigitsNetwork(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(NUM_PIXELS, NUM_HIDDEN), nn.Linear(NUM_HIDDEN, num_classes)

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.hidden(pixels).relu()


class DigitsSetting(Setting):
    """The training rows of `embedded/digits`, damaged.

    Args:
        damage ([`Damage`]): What is done to them.
        **options: As in [`Setting`].
    """

    models = (_MODEL,)

    def __init__(self, damage: Damage, **options: Any) -> None:
        self._clean = read_images(*load_source(EMBEDDED_DATASET, split="train"))
        super().__init__(EMBEDDED_DATASET, damage, self._clean.labels, **options)

    @property
    def num_test_rows(self) -> int:
        return NUM_TEST_ROWS

    @property
    def num_classes(self) -> int:
        return len(self._clean.class_names)

    @cached_property
    def _damaged(self) -> Dataset:
        """With damaged images and right labels."""
        return corrupt_images(
            self._clean.dataset,
            image_column=self._clean.image_column,
            rate=self.damage.corruption_rate,
            seed=self.seed,
            severity=self.damage.corruption_severity,
        )

    @cached_property
    def _given(self) -> Dataset:
        """What a selection gets: damaged images and wrong labels."""
        column, features = self._clean.label_column, self._clean.dataset.features
        dataset = self._damaged.remove_columns([column, CORRUPTION_COLUMN])
        return dataset.add_column(column, self.labels, feature=features[column])

    @cached_property
    def _pixels(self) -> np.ndarray:
        return digit_pixels(self._damaged)

    @cached_property
    def is_corrupted(self) -> np.ndarray:
        return np.array(self._damaged[CORRUPTION_COLUMN][:]) != NOT_CORRUPTED

    @cached_property
    def images_digest(self) -> str:
        weights = sorted(path for path in tiny_clip_path().iterdir() if path.suffix in (".json", ".safetensors"))
        return digest_of(self._pixels, *(path.read_bytes() for path in weights))

    def embed(self) -> tuple[np.ndarray, np.ndarray]:
        return clip_embeds(read_images(self._damaged, self._clean.source), EMBEDDED_MODEL)

    @property
    def proxy_name(self) -> str:
        return f"network {NUM_PIXELS}-{NUM_HIDDEN}-{self.num_classes} on pixels of 10 epochs"

    def train_proxy(self, rows: np.ndarray, val_rows: np.ndarray) -> TrainingDynamics:
        """Of the network that is trained on the kept rows, but with SGD, as the papers have it."""
        val_pixels = self._pixels[val_rows] if len(val_rows) else None
        return train_pixel_proxy(
            partial(_DigitsNetwork, self.num_classes),
            self._pixels[rows],
            self.labels[rows],
            val_pixels=val_pixels,
            seed=self.seed,
        )

    def select(self, *, objective: str, ratio: float, **knobs: Any) -> SelectionResult:
        return select_dataset(
            self._given,
            model_name_or_path=EMBEDDED_MODEL,
            selection_ratio=ratio,
            objective=objective,
            seed=self.seed,
            **knobs,
        )

    def train_and_test(self, model: str, rows: np.ndarray) -> float:
        return digits_accuracy(self._pixels[rows], self.labels[rows], seed=self.seed)

    def embed_test_rows(self, model: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The hidden layer of one network."""
        test = load_digits_dataset("test")
        network = train_networks(
            torch.from_numpy(self._pixels[rows]),
            torch.from_numpy(self.labels[rows]),
            seed=self.seed,
            num_networks=1,
            num_steps=NUM_STEPS,
        )
        weights, biases = network.weights[0][0].detach().numpy(), network.biases[0][0].detach().numpy()
        return np.maximum(digit_pixels(test) @ weights + biases, 0), np.array(test["label"][:])

    def training_key(self, model: str, rows: np.ndarray) -> dict[str, Any]:
        return {
            "model": model,
            "rows": digest_of(self._pixels[rows], self.labels[rows]),
            "seed": self.seed,
            "code": code_digest(
                "evaluation/digits_network.py", "embedded/digits.py", "evaluation/comparison/digits_setting.py"
            ),
        }

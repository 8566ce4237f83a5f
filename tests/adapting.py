"""A small set that adapters learn from, and settings that make the training short."""

import numpy as np
import torch

from hf_clipselect.config.arguments import AdaptationArguments
from hf_clipselect.encoder.feature_rows import FeatureRows


def turned_classes(num_rows: int = 240, num_classes: int = 4, dim: int = 8, seed: int = 0) -> tuple:
    """Image features around class centres that the texts point away from: something for adapters to learn."""
    rng = np.random.default_rng(seed)
    centres = np.eye(dim)[:num_classes]
    texts = np.roll(centres, 1, axis=0) + 0.6 * centres
    labels = rng.integers(0, num_classes, num_rows)
    images = centres[labels] + 0.15 * rng.normal(size=(num_rows, dim))
    return FeatureRows([images.astype(np.float32)]), torch.tensor(texts, dtype=torch.float32)[None], labels


def quick(**changes: object) -> AdaptationArguments:
    return AdaptationArguments(
        **{"adaptation": "auto", "num_train_epochs": 5, "min_train_steps": 60, "learning_rate": 1e-2, **changes}
    )

"""A small set of images with captions, a fifth of them wrong: digits, letters and shapes as the embedded model was
taught by.
"""

import importlib.util
import sys
from functools import cache
from types import ModuleType

import numpy as np
import torch
from conftest import REPOSITORY
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage


@cache
def _recipe() -> ModuleType:
    path = REPOSITORY / "recipes" / "pretrain_tiny_clip.py"
    spec = importlib.util.spec_from_file_location("pretrain_tiny_clip", path)
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def drawn_pairs(num_rows: int = 600, *, wrong_share: float = 0.2, seed: int = 5) -> tuple[Dataset, np.ndarray]:
    """Images `picture` with texts `text` drawn with another seed than the embedded model's, and which texts are
    another row's.
    """
    generator = torch.Generator().manual_seed(seed)
    renderer = _recipe().Renderer(generator)
    batches = [renderer.batch(100) for _ in range(-(-num_rows // 100))]
    pixels = torch.cat([batch.pixel_values for batch in batches])[:num_rows]
    images = (pixels * 255).round().byte().permute(0, 2, 3, 1).numpy()
    right = np.array([caption for batch in batches for caption in batch.captions][:num_rows], dtype=object)
    rows = np.random.default_rng([seed, 7]).choice(num_rows, round(wrong_share * num_rows), replace=False)
    given = right.copy()
    given[rows] = right[np.roll(rows, 1)]
    dataset = Dataset.from_dict(
        {"picture": [PILImage.fromarray(image) for image in images], "text": given.tolist()},
        features=Features({"picture": Image(), "text": Value("string")}),
    )
    return dataset, given != right

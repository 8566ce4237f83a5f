"""OpenAI CLIP ViT-B/32 embeddings of nine classes of Food-101 with their prompts, and wrong labels among them."""

from pathlib import Path

import numpy as np
import pytest

from hf_clipselect.evaluation.robustness import add_label_noise


NOISES = ["symmetric", "next class"]


def food_embeds(real_data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit-norm image_embeds (1800, 512) and text_embeds (9, 512), and the labels; the test skips where they are
    absent.
    """
    path = real_data / "clip-features-food101" / "features.npz"
    if not path.exists():
        pytest.skip("no clip-features-food101/features.npz in the real data")
    with np.load(path) as arrays:
        has_text, labels = arrays["class_has_text"], arrays["train_labels"]
        rows = has_text[labels]
        embeds = arrays["train_image_embeds"][rows], arrays["class_text_embeds"][has_text]
    images, texts = (
        part.astype(np.float32) / np.linalg.norm(part.astype(np.float32), axis=1)[:, None] for part in embeds
    )
    return images, texts, np.unique(labels[rows], return_inverse=True)[1].astype(np.int64)


def mislabelled(labels: np.ndarray, noise: str, seed: int) -> np.ndarray:
    """A fifth of the labels made wrong: another class uniformly, or always the next one."""
    if noise == "symmetric":
        return add_label_noise(labels, int(labels.max()) + 1, rate=0.2, seed=seed)
    rows = np.random.default_rng(seed).choice(len(labels), size=round(0.2 * len(labels)), replace=False)
    noisy = labels.copy()
    noisy[rows] = (labels[rows] + 1) % (labels.max() + 1)
    return noisy

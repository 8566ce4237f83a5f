"""Data and models that the benchmark makes itself: speed does not depend on what they hold."""

import io
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import PIL.Image
import pyarrow as pa
from datasets import ClassLabel, Dataset, Features, Image
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessorPil, CLIPModel

from ...data import LabelledImages, read_images
from ...data.source import load_source
from ...embedded import tiny_clip_path


CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load_images(dataset_name: str, max_samples: int | None = None) -> LabelledImages:
    return read_images(*load_source(dataset_name), max_samples=max_samples)


def image_dataset(labels: np.ndarray, class_names: Sequence[str], png_files: list[bytes]) -> Dataset:
    """Labelled images; the files are taken in turns."""
    features = Features({"image": Image(), "label": ClassLabel(names=list(class_names))})
    files = pa.array([{"bytes": png, "path": None} for png in png_files], type=features["image"].pa_type)
    table = pa.table({"image": files.take(pa.array(np.arange(len(labels)) % len(files))), "label": pa.array(labels)})
    return Dataset(table, info=datasets.DatasetInfo(features=features), split=datasets.NamedSplit("train"))


def pictures(count: int, size: int) -> list[bytes]:
    """PNG files of ten kinds in turns: coarse colours of the kind and of the picture, with grain."""
    rng = np.random.default_rng(0)
    kinds = rng.uniform(40, 215, (10, 4, 4, 3))
    files = []
    for number in range(count):
        coarse = kinds[number % 10] + rng.normal(0, 40, (4, 4, 3))
        pixels = coarse.repeat(size // 4, axis=0).repeat(size // 4, axis=1) + rng.normal(0, 12, (size, size, 3))
        buffer = io.BytesIO()
        PIL.Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, format="PNG")
        files.append(buffer.getvalue())
    return files


def uneven_labels(rows: int, classes: int) -> np.ndarray:
    """Every class has rows, the largest about three times as many as the smallest, in random order."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 1.5, classes)
    labels = rng.choice(classes, rows, p=weights / weights.sum())
    labels[:classes] = np.arange(classes)
    return rng.permutation(labels)


def clustered_embeddings(rows: int, width: int = 512) -> np.ndarray:
    """Unit-norm float32 rows around a few centres, as the images of a class lie."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((20, width), dtype=np.float32)
    embeds = rng.standard_normal((rows, width), dtype=np.float32)
    embeds += centres[rng.integers(0, 20, rows)]
    embeds /= np.linalg.norm(embeds, axis=1, keepdims=True)
    return embeds


def mislabelled_embeddings(rows: int, classes: int, width: int = 512) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image embeddings `(rows, width)` around a centre for each class, prompt embeddings `(classes, width)` near the
    centres, both of unit norm, and labels of which a fifth is drawn anew; classes are nearly equal in size.
    """
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((classes, width), dtype=np.float32)
    labels = np.arange(rows) % classes
    images = 2 * rng.standard_normal((rows, width), dtype=np.float32)
    images += centres[labels]
    texts = centres + rng.standard_normal((classes, width), dtype=np.float32)
    for embeds in (images, texts):
        embeds /= np.linalg.norm(embeds, axis=1, keepdims=True)
    drawn = rng.random(rows) < 0.2
    labels[drawn] = rng.integers(0, classes, np.count_nonzero(drawn))
    return images, texts, labels


def large_clip(folder: Path) -> Path:
    """A CLIP of ViT-B/32's size: speed does not depend on the weights."""
    return folder if folder.exists() else save_clip(folder, CLIPConfig(), image_size=224)


def random_clip(folder: Path, *, hidden_size: int, projection_dim: int, image_size: int, patch_size: int) -> Path:
    """A CLIP with towers of one layer."""
    if folder.exists():
        return folder
    tower = {
        "hidden_size": hidden_size,
        "intermediate_size": hidden_size,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
    }
    tower["projection_dim"] = projection_dim
    config = CLIPConfig(
        text_config=tower,
        vision_config={**tower, "image_size": image_size, "patch_size": patch_size},
        projection_dim=projection_dim,
    )
    return save_clip(folder, config, image_size=image_size)


def save_clip(folder: Path, config: CLIPConfig, *, image_size: int) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(tiny_clip_path())
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config.text_config, name, getattr(tokenizer, name))
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": image_size}, crop_size={"height": image_size, "width": image_size}
    ).save_pretrained(folder)
    return folder

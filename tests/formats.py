"""A dataset of columns of many kinds, in every format that `datasets` knows, with rows picked out and without."""

import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Array2D, ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as PILImage


def make_pictures(folder: Path, *, count: int = 60) -> Dataset:
    """JPEG images of three classes, every fourth as a file; other columns hold what a detour may change."""
    rng = np.random.default_rng(0)
    images = []
    for row in range(count):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        pixels[..., row % 3] = 255
        encoded = io.BytesIO()
        PILImage.fromarray(pixels).save(encoded, "JPEG", quality=90)
        path = folder / f"{row}.jpg"
        path.write_bytes(encoded.getvalue())
        images.append(
            {"bytes": None, "path": str(path)} if row % 4 == 0 else {"bytes": encoded.getvalue(), "path": None}
        )
    columns = {
        "image": images,
        "label": [row % 3 for row in range(count)],
        "weight": [0.1 + row for row in range(count)],
        "note": [None if row % 5 == 0 else f"note {row}" for row in range(count)],
        "boxes": [[[row, row + 1]] * (row % 3) for row in range(count)],
        "grid": [np.full((2, 3), row, dtype=np.float32) for row in range(count)],
        "keep": [row in (4, 7) for row in range(count)],
        "camera": [f"camera {row % 2}" for row in range(count)],
    }
    features = Features(
        {
            "image": Image(),
            "label": ClassLabel(names=["red", "green", "blue"]),
            "weight": Value("float64"),
            "note": Value("string"),
            "boxes": List(List(Value("int32"))),
            "grid": Array2D((2, 3), "float32"),
            "keep": Value("bool"),
            "camera": Value("string"),
        }
    )
    return Dataset.from_dict(columns, features=features)


def _pixel_values(batch: dict[str, list]) -> dict[str, list]:
    return {"pixel_values": [np.zeros((3, 4, 4), "float32") for _ in batch["image"]], "label": batch["label"]}


def _augmented(batch: dict[str, list]) -> dict[str, list]:
    if "image" in batch:
        batch["image"] = [image.rotate(90) for image in batch["image"]]
    return batch


FORMATS = {
    "none": lambda dataset: dataset,
    "numpy": lambda dataset: dataset.with_format("numpy"),
    "torch": lambda dataset: dataset.with_format("torch"),
    "torch float64": lambda dataset: dataset.with_format("torch", dtype=torch.float64, columns=["weight"]),
    "pandas": lambda dataset: dataset.with_format("pandas"),
    "arrow": lambda dataset: dataset.with_format("arrow"),
    "pixel values": lambda dataset: dataset.with_transform(_pixel_values),
    "augmented": lambda dataset: dataset.with_transform(_augmented),
    "augmented image": lambda dataset: dataset.with_transform(_augmented, columns=["image"], output_all_columns=True),
    "torch label": lambda dataset: dataset.with_format("torch", columns=["label"]),
    "label": lambda dataset: dataset.with_format(None, columns=["label"]),
    "numpy label and others": lambda dataset: dataset.with_format("numpy", columns=["label"], output_all_columns=True),
}
if find_spec("polars") is not None:
    FORMATS["polars"] = lambda dataset: dataset.with_format("polars")


def variants(dataset: Dataset) -> dict[str, Dataset]:
    """The same rows in every format, as they are stored and picked out of a shuffled copy."""
    place = np.random.default_rng(1).permutation(len(dataset))
    picked = dataset.select(place).select(np.argsort(place))
    return {
        f"{name}, {how}": formatted(rows)
        for how, rows in (("stored", dataset), ("picked", picked))
        for name, formatted in FORMATS.items()
    }


def one_of_each_format(dataset: Dataset) -> dict[str, Dataset]:
    """Every format once, by turns as the rows are stored and picked out: for tests that take long."""
    every = variants(dataset)
    hows = ("stored", "picked")
    return {name: every[f"{name}, {hows[number % 2]}"] for number, name in enumerate(FORMATS)}


def contents(dataset: Dataset) -> list[dict[str, Any]]:
    """The rows as they are stored, images by their bytes."""
    rows = dataset.with_format(None).cast_column("image", Image(decode=False)).to_list()
    for row in rows:
        image = row["image"]
        row["image"] = image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()
    return rows

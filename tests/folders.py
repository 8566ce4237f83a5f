"""Folders of small images for tests, and what a call refuses them with."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Image
from PIL import Image as PILImage

from hf_clipselect.errors import InputError


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    PILImage.new("RGB", (6, 5), (shade % 256, shade // 256, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def write_images(folder: Path, paths: Iterable[str]) -> Path:
    """One image for each path, all different."""
    for shade, path in enumerate(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(png(shade))
    return folder


def rows_of(dataset: Dataset, folder: Path) -> dict[str, str]:
    """Path in the folder -> class of every row."""
    paths = [row["path"] for row in dataset.cast_column("image", Image(decode=False))["image"]]
    names = dataset.features["label"].names
    assert len(set(paths)) == len(paths)
    for row in (0, len(dataset) - 1):
        assert dataset[row]["image"].size == (6, 5)
    return {
        str(Path(path).relative_to(folder)): names[label] for path, label in zip(paths, dataset["label"], strict=True)
    }


def by_folder(paths: Iterable[str]) -> dict[str, str]:
    """What rows_of gives where every image is of the folder that it lies in."""
    return {path: Path(path).parent.name for path in paths}


def message_of(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(InputError) as error:
        call(*args, **kwargs)
    message = str(error.value)
    assert "\n" not in message
    return message

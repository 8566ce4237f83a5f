"""Images to pixels as a run prepares them, against full decoding and the image processor."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
from transformers import CLIPImageProcessorPil

from ...encoder.images import open_image
from ...encoder.lean_pixels import LeanPixels
from .bench import Bench
from .encoding_speed import tiny_backbone
from .machine import one_thread


def pixels(bench: Bench) -> None:
    """A large JPEG with its decoding; smaller images of which only the preprocessing counts; normalised each."""
    clip, tiny = CLIPImageProcessorPil(), tiny_backbone(bench).image_processor
    files = [jpeg(number, 1000) for number in range(bench.rows(8, least=2))]
    decoded = {
        size: [drawn(number, *size) for number in range(bench.rows(64, least=4))] for size in ((32, 32), (500, 400))
    }
    with one_thread():
        measure(bench, "jpeg", files, *from_files(clip))
        measure(bench, "pixels_32", decoded[32, 32], *from_images(tiny))
        measure(bench, "pixels_500", decoded[500, 400], *from_images(clip))


Prepare = Callable[[list[Any]], object]


def from_files(image_processor: Any) -> tuple[Prepare, Prepare]:
    lean = LeanPixels.of(image_processor)
    assert lean is not None
    return (
        lambda files: lean.normalize(lean([open_image(file, draft=lean.draft) for file in files])),
        lambda files: image_processor(images=[open_image(file) for file in files], return_tensors="pt"),
    )


def from_images(image_processor: Any) -> tuple[Prepare, Prepare]:
    lean = LeanPixels.of(image_processor)
    assert lean is not None
    return (
        lambda images: lean.normalize(lean(images)),
        lambda images: image_processor(images=images, return_tensors="pt"),
    )


def measure(bench: Bench, name: str, images: list[Any], ours: Prepare, other: Prepare) -> None:
    sides = {"ours": lambda: ours(images), "other": lambda: other(images)}
    seconds = {side: timing.cpu for side, timing in bench.timed(sides, repeats=10).items()}
    bench.report(name, *(1000 * seconds[side] / len(images) for side in ("ours", "other")))


def jpeg(number: int, size: int) -> bytes:
    buffer = io.BytesIO()
    drawn(number, size, size).save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()


def drawn(number: int, width: int, height: int) -> PIL.Image.Image:
    """Smooth colours with grain, as photographs have them."""
    rng = np.random.default_rng(number)
    coarse = PIL.Image.fromarray(rng.integers(40, 215, (8, 8, 3), dtype=np.uint8)).resize((width, height))
    grain = rng.normal(0, 8, (height, width, 3))
    return PIL.Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8))

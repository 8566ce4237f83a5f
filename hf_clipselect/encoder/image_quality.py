"""Images that are blurred, dark, bright, nearly uniform or oddly shaped, by cleanvision and its own thresholds.

cleanvision (https://github.com/cleanlab/cleanvision, extra `quality_checks`) looks at pixels alone: it knows neither
labels nor what an image shows. Measured with the corruptions of `evaluation/robustness` in a fifth of the images, at
severities 3 and 5, it finds 10 to 26 % of the images with motion blur and 0 to 27 % of those of lower resolution, and
hardly one with noise, fog or an occlusion, in CIFAR-10 and in photographs of 160 pixels; of the images that were left
alone it finds 0.1 % or fewer. What it finds is worth a look; that it finds nothing says little.
"""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
from accelerate.utils import tqdm
from datasets import Dataset
from PIL import Image as PILImage

from ..errors import InputError
from .cores import available_cores
from .images import open_image
from .threads import in_order


# What cleanvision calls them, and what people read. "odd size" is one that few others of the dataset have.
ISSUES = {
    "blurry": "blurry",
    "dark": "dark",
    "light": "light",
    "low_information": "low information",
    "odd_aspect_ratio": "odd aspect ratio",
    "odd_size": "odd size",
}
_COMPUTED = [name for name in ISSUES if name != "light"]  # what "dark" needs tells of both
_IMAGES_AT_ONCE = 32


def check_can_check_quality() -> None:
    """Raise `InputError` where the package that the checks need is not installed."""
    if find_spec("cleanvision") is None:
        raise InputError(
            "--quality_checks needs the package cleanvision, which is not installed: pip install "
            "'hf_clipselect[quality_checks]'. Or leave --quality_checks out."
        )


def measure_images(
    undecoded: Dataset, image_column: str, rows: np.ndarray, *, white: int, num_threads: int | None, is_shown: bool
) -> list[dict[str, Any]]:
    """What cleanvision measures of each of some images, which can all be read, in their order.

    The column holds undecoded images; `white` is that of 16-bit grey ones. Decoded by so many threads, by default one
    for each core. Raises `InputError` where an image can't be read any more.
    """
    properties = _manager().image_properties

    def measure(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
        images = [_decoded(value, white) for value in values]
        return [{k: v for name in _COMPUTED for k, v in properties[name].calculate(image).items()} for image in images]

    def batches() -> Iterator[list[dict[str, Any]]]:
        for start in range(0, len(rows), _IMAGES_AT_ONCE):
            yield undecoded[rows[start : start + _IMAGES_AT_ONCE]][image_column]

    threads = available_cores() if num_threads is None else num_threads
    measured: list[dict[str, Any]] = []
    with tqdm(total=len(rows), desc="Checking images", unit=" images", disable=not is_shown) as progress:
        for some in in_order(measure, batches(), threads=threads):
            measured += some
            progress.update(len(some))
    return measured


def find_issues(measured: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Which of n images have each issue, bool `(n,)` by its name in `ISSUES`; a size is odd among these images."""
    import pandas as pd  # noqa: PLC0415  # comes with datasets, and takes a second

    manager, table = _manager(), pd.DataFrame(measured)
    manager.issues = pd.DataFrame(index=table.index)
    manager.update_issues(table, list(ISSUES))
    return {name: manager.issues[f"is_{name}_issue"].to_numpy(dtype=bool) for name in ISSUES}


def issue_texts(found: Mapping[str, np.ndarray]) -> np.ndarray:
    """The issues of each image as one text, "blurry, dark", or "": an object array `(n,)`."""
    texts = np.full(len(next(iter(found.values()))), "", dtype=object)
    for name, has_it in found.items():
        texts[has_it] = [f"{text}, {ISSUES[name]}" if text else ISSUES[name] for text in texts[has_it]]
    return texts


def _manager() -> Any:
    # Its `Imagelab` decodes one image after the other, or copies the dataset to processes that it forks.
    from cleanvision.issue_managers.image_property_issue_manager import (  # noqa: PLC0415
        ImagePropertyIssueManager,
    )

    return ImagePropertyIssueManager()


def _decoded(value: dict[str, Any], white: int) -> PILImage.Image:
    """As the encoder sees it, but for grey images, which stay grey: in three equal channels they look richer."""
    is_grey = False

    def note(image: PILImage.Image) -> PILImage.Image:
        nonlocal is_grey
        is_grey = image.mode in ("1", "L")
        return image

    image = open_image(value, white=white, draft=note)
    return image.convert("L") if is_grey else image

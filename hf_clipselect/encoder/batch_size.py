"""How many images go through the frozen tower at once, where the user leaves it to the machine."""

from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image

from ..runtime.processes import Processes
from .backbone import Backbone, head_features
from .dual_encoder import of_model
from .precision import encoder_arithmetic
from .tower import ImageTower, explained_misfits


_ON_A_CPU = 64
_AT_MOST = 512  # what a GPU gains from more is not measured


def resolve_batch_size(
    wanted: int | str | None, backbone: Backbone, processes: Processes, recorded: Mapping[str, Any] | None = None
) -> int:
    """Images in a pass, the same in every process; all of them call it. `recorded` is the key of features that are
    there: `"auto"` goes on as they were made.
    """
    if isinstance(wanted, int):
        return wanted
    if isinstance(size := (recorded or {}).get("batch_size"), int):
        return size
    if backbone.model.device.type == "cpu":
        return _ON_A_CPU
    with (
        encoder_arithmetic(backbone.products, backbone.model.device),
        head_features(backbone.model, of_model(backbone.model).image_head) as run,
    ):
        return min(processes.gather(largest_that_fits(ImageTower(backbone, run))))


def largest_that_fits(tower: ImageTower) -> int:
    """The largest power of two of images, up to 512, with which the memory lasts for a pass."""
    size, backbone = _AT_MOST, tower.backbone
    with explained_misfits(backbone):
        blank = dict(backbone.image_processor(images=[Image.new("RGB", (256, 256))], return_tensors="pt"))
        one = {name: torch.as_tensor(values) for name, values in blank.items()}
        while size > 1 and not tower.fits({name: values.repeat_interleave(size, 0) for name, values in one.items()}):
            size //= 2
    return size

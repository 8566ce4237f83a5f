"""Features of images that come as decoded batches, from wherever, and are kept nowhere."""

from collections.abc import Iterable
from itertools import chain, islice

import numpy as np
import torch

from .backbone import Backbone, head_features
from .dual_encoder import of_model
from .lean_pixels import LeanPixels
from .pixels import PixelBatch
from .precision import encoder_arithmetic
from .threads import in_order, one_thread_each
from .tower import ImageTower, explained_misfits


def batch_features(
    backbone: Backbone, batches: Iterable[PixelBatch], *, lean: LeanPixels | None, threads: int
) -> tuple[np.ndarray, dict[int, str]]:
    """Run decoded batches through the frozen tower: features `(n, H)`, float32, of the images that could be read, in
    their order, and why each of the others could not.

    `lean` made the pixels, if not the image processor. On a CPU so many threads run passes side by side. The features
    do not depend on them, nor on who decoded the batches. Raises `InputError` where the processor does not fit the
    model.
    """
    device = backbone.model.device
    parts: list[torch.Tensor] = []
    unreadable: dict[int, str] = {}
    with (
        encoder_arithmetic(backbone.products, device),
        head_features(backbone.model, of_model(backbone.model).image_head) as run,
        one_thread_each(device, threads=threads) as side_by_side,
    ):
        tower = ImageTower(backbone, run, lean)
        encoded = in_order(lambda batch: (batch, tower(batch.pixels)), batches, threads=side_by_side)
        with explained_misfits(backbone):
            first = list(islice(encoded, 1))
        for batch, features in chain(first, encoded):
            parts.append(features)  # on the device until the end: a GPU would wait for a copy in each step
            unreadable.update(batch.unreadable)
        if not parts:
            parts.append(tower(None))
        return torch.cat(parts).float().cpu().numpy(), unreadable

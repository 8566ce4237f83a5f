"""The forward pass of the frozen image tower."""

import logging
from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from .backbone import Backbone, head_features
from .dual_encoder import of_model


logger = logging.getLogger(__name__)


class ImageTower:
    """Batches of pixels to the features that are cached; a batch that does not fit into memory goes in halves.

    A context manager, inside of which it may be called from several threads.

    Args:
        backbone (`Backbone`): The frozen encoder.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._stack = ExitStack()
        self._at_most: int | None = None  # images at once, since memory ran out

    def __enter__(self) -> "ImageTower":
        model = self.backbone.model
        self._run = self._stack.enter_context(head_features(model, of_model(model).image_head))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def __call__(self, pixels: Mapping[str, torch.Tensor | np.ndarray] | None) -> torch.Tensor:
        """Encode a batch.

        Args:
            pixels (`Mapping[str, torch.Tensor | np.ndarray]`, *optional*): What the image processor gives, by name;
                `None` where no image of the batch could be read.

        Returns:
            `torch.Tensor` of shape `(batch_size, H)`: On the model's device, in the tower's dtype.
        """
        if pixels is None:
            return torch.zeros((0, self.backbone.hidden_size), device=self.backbone.model.device)
        pixels = {name: torch.as_tensor(values) for name, values in pixels.items()}
        count = len(pixels["pixel_values"])
        while True:
            size = min(self._at_most or count, count)
            try:
                parts = [self._forward(pixels, slice(start, start + size)) for start in range(0, count, size)]
                return torch.cat(parts)
            except Exception as error:
                if size == 1 or not should_reduce_batch_size(error):
                    raise
            # Outside of the handler, whose traceback holds on to the memory.
            self._at_most = size // 2
            clear_device_cache(garbage_collection=True)
            logger.warning(
                "Out of memory with %d images at once: going on with %d. For another --output_dir, "
                "--per_device_eval_batch_size %d saves the attempt.",
                size,
                self._at_most,
                self._at_most,
            )

    def _forward(self, pixels: Mapping[str, torch.Tensor], rows: slice) -> torch.Tensor:
        model = self.backbone.model
        inputs = {
            # Masks and shapes are integers, and stay so.
            name: values[rows].to(model.device, model.dtype if values.is_floating_point() else None, non_blocking=True)
            for name, values in pixels.items()
        }
        with torch.inference_mode():
            return self._run(lambda: model.get_image_features(**inputs))

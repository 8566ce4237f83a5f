"""The forward pass of the frozen image tower."""

import logging
from contextlib import ExitStack

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from .backbone import Backbone, projection_inputs


logger = logging.getLogger(__name__)


class ImageTower:
    """Batches of pixels to the input of the visual projection; a batch that does not fit into memory goes in halves.

    A context manager, inside of which it may be called from several threads.

    Args:
        backbone (`Backbone`): The frozen encoder.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._stack = ExitStack()
        self._at_most: int | None = None  # images at once, since memory ran out

    def __enter__(self) -> "ImageTower":
        self._run = self._stack.enter_context(projection_inputs(self.backbone.model.visual_projection))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def __call__(self, pixel_values: torch.Tensor | np.ndarray | None) -> torch.Tensor:
        """Encode a batch.

        Args:
            pixel_values (`torch.Tensor` or `np.ndarray` of shape `(batch_size, 3, height, width)`, *optional*): `None` where no
                image of the batch could be read.

        Returns:
            `torch.Tensor` of shape `(batch_size, H)`: On the model's device, in the tower's dtype.
        """
        if pixel_values is None:
            return torch.zeros((0, self.backbone.hidden_size), device=self.backbone.model.device)
        pixel_values = torch.as_tensor(pixel_values)
        while True:
            parts = pixel_values.split(self._at_most or len(pixel_values))
            try:
                return torch.cat([self._forward(part) for part in parts])
            except Exception as error:
                size = max(map(len, parts))
                if size == 1 or not should_reduce_batch_size(error):
                    raise
            # Outside of the handler, whose traceback holds on to the memory.
            self._at_most = size // 2
            clear_device_cache(garbage_collection=True)
            logger.warning(
                "Out of memory with %d images at once: going on with %d. For another --output_dir, --per_device_eval_batch_size %d "
                "saves the attempt.",
                size,
                self._at_most,
                self._at_most,
            )

    def _forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        model = self.backbone.model
        pixel_values = pixel_values.to(model.device, model.dtype, non_blocking=True)
        with torch.inference_mode():
            return self._run(lambda: model.get_image_features(pixel_values=pixel_values))

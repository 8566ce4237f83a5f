"""The forward pass of the frozen image tower."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from ..errors import InputError
from ..runtime.failures import is_of_the_machine, shortened
from .backbone import Backbone
from .pixels import Pixels


logger = logging.getLogger(__name__)


class ImageTower:
    """Turns batches of pixels into the features that are cached; a batch too large for the memory is halved.

    Several threads may call it. `run` is what [`head_features`] gives for the image head.
    """

    def __init__(self, backbone: Backbone, run: Callable[[Callable[[], Any]], torch.Tensor]) -> None:
        self.backbone = backbone
        self._run = run
        self._at_most: int | None = None  # images in a pass, once memory has run out

    def __call__(self, pixels: Pixels | None) -> torch.Tensor:
        """Features `(batch_size, H)` on the model's device, in the tower's dtype; of `None`, no images, `(0, H)`."""
        if pixels is None:
            return torch.zeros((0, self.backbone.hidden_size), device=self.backbone.model.device)
        tensors = {name: torch.as_tensor(values) for name, values in pixels.items()}
        count = len(tensors["pixel_values"])
        while True:
            size = min(self._at_most or count, count)
            try:
                parts = [self._forward(tensors, slice(start, start + size)) for start in range(0, count, size)]
                return torch.cat(parts)
            except Exception as error:
                if size == 1 or not should_reduce_batch_size(error):
                    raise
            # Outside the handler, whose traceback keeps the memory in use.
            self._at_most = size // 2
            clear_device_cache(garbage_collection=True)
            logger.warning(
                "Out of memory with %d images at once: going on with %d. For another --output_dir, "
                "--per_device_eval_batch_size %d saves the attempt.",
                size,
                self._at_most,
                self._at_most,
            )

    def fits(self, pixels: Pixels) -> bool:
        """Whether the memory lasts for a pass with these images at once."""
        tensors = {name: torch.as_tensor(values) for name, values in pixels.items()}
        try:
            self._forward(tensors, slice(None))
            return True
        except Exception as error:
            if not should_reduce_batch_size(error):
                raise
        clear_device_cache(garbage_collection=True)  # outside the handler, as above
        return False

    def _forward(self, pixels: dict[str, torch.Tensor], rows: slice) -> torch.Tensor:
        model: Any = self.backbone.model
        inputs = {
            # Masks and shapes stay integers.
            name: values[rows].to(model.device, model.dtype if values.is_floating_point() else None, non_blocking=True)
            for name, values in pixels.items()
        }
        with torch.inference_mode():
            return self._run(lambda: model.get_image_features(**inputs))


@contextmanager
def explained_misfits(backbone: Backbone) -> Iterator[None]:
    """Explain an error at the first images: the image processor gives what the model does not take."""
    try:
        yield
    except Exception as error:  # wrong sizes, channels and names each raise an error of their own
        if isinstance(error, InputError) or is_of_the_machine(error):
            raise
        raise InputError(
            f"The image processor of {backbone.name or 'the model'} does not fit the model: {shortened(str(error))}. "
            "Take both from one place, and mend preprocessor_config.json if it was edited."
        ) from error

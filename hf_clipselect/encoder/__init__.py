"""The frozen encoder: every image and prompt goes through CLIP once."""

from .backbone import Backbone, load_backbone, warn_if_demonstration
from .bit_depth import white_level
from .cache import digest, read_array, write_array
from .features import ImageFeatures, encode_dataset
from .images import UnreadableImageError, open_image
from .passed_model import check_passed, copy_backbone
from .texts import encode_prompts, too_long_prompts


__all__ = [
    "Backbone",
    "ImageFeatures",
    "UnreadableImageError",
    "check_passed",
    "copy_backbone",
    "digest",
    "encode_dataset",
    "encode_prompts",
    "load_backbone",
    "open_image",
    "read_array",
    "too_long_prompts",
    "warn_if_demonstration",
    "white_level",
    "write_array",
]

"""Noise and damage to test a selection with."""

from .corruptions import CORRUPTIONS, corrupt_image, corrupt_images
from .label_noise import add_label_noise


__all__ = ["CORRUPTIONS", "add_label_noise", "corrupt_image", "corrupt_images"]

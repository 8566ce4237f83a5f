"""Noise, damage and duplicates to test a selection with."""

from .corruptions import CORRUPTIONS, corrupt_image, corrupt_images
from .label_noise import NOISE_KINDS, add_label_noise, similarity_transition_matrix
from .near_duplicates import add_near_duplicates, near_duplicate
from .noisy_datasets import corrupt_labels


__all__ = [
    "CORRUPTIONS",
    "NOISE_KINDS",
    "add_label_noise",
    "add_near_duplicates",
    "corrupt_image",
    "corrupt_images",
    "corrupt_labels",
    "near_duplicate",
    "similarity_transition_matrix",
]

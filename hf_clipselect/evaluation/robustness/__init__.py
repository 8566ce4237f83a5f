"""Noise, damage and duplicates to test a selection with.

Example:

```python
from hf_clipselect.embedded import load_digits_dataset
from hf_clipselect.evaluation.robustness import add_near_duplicates, corrupt_images, corrupt_labels

dirty = corrupt_labels(load_digits_dataset("train"), rate=0.2, seed=0, kind="pairwise")  # is_noisy, clean_label
dirty = corrupt_images(dirty, rate=0.1, seed=0)  # corruption
dirty = add_near_duplicates(dirty, rate=0.1, seed=0)  # duplicate_of
```
"""

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

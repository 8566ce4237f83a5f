"""Which rows: where a dataset comes from, its images, labels and captions."""

from .labelled_images import (
    SUBSET_COLUMNS,
    LabelledImages,
    SourceImages,
    one_split,
    read_images,
    with_image_column_undecoded,
)
from .source import load_source


__all__ = [
    "SUBSET_COLUMNS",
    "LabelledImages",
    "SourceImages",
    "load_source",
    "one_split",
    "read_images",
    "with_image_column_undecoded",
]

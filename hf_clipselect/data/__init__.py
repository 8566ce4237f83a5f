"""Which rows: where a dataset comes from, its images, labels and captions."""

from .columns import GIVEN_LABEL, SUBSET_COLUMNS
from .labelled_images import (
    LabelledImages,
    SourceImages,
    one_split,
    read_images,
    with_image_column_undecoded,
)
from .source import load_source


__all__ = [
    "GIVEN_LABEL",
    "SUBSET_COLUMNS",
    "LabelledImages",
    "SourceImages",
    "load_source",
    "one_split",
    "read_images",
    "with_image_column_undecoded",
]

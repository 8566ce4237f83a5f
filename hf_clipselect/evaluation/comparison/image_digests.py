"""Hashes of images as they are stored: what tells whether a training would be given the same rows.

Legend: N rows.
"""

import hashlib
from typing import Any

import numpy as np
from datasets import Dataset, Image

from ...data.source import fingerprint_with_files
from ...runtime.files import read_plain_file
from .cells import Cells, code_digest


_FILE = "evaluation/comparison/image_digests.py"
_DIGEST_BYTES = 16


def image_digests(dataset: Dataset, image_column: str, cells: Cells) -> np.ndarray:
    """Hashes of images as they are stored, from the cells where the same dataset was hashed before.

    Args:
        dataset (`Dataset`): Rows with images.
        image_column (`str`): Their column.
        cells ([`Cells`]): Where the hashes are kept.

    Returns:
        `np.ndarray` of shape `(N, 16)`, uint8: Zeros where no image is.
    """
    undecoded = dataset.with_format(None).select_columns([image_column]).cast_column(image_column, Image(decode=False))
    fingerprint = fingerprint_with_files(undecoded, image_column, dataset._fingerprint)
    key = {"what": "images", "fingerprint": fingerprint, "column": image_column, "code": code_digest(_FILE)}
    values = cells.find(key)
    if values is None:
        digests = np.zeros((len(undecoded), _DIGEST_BYTES), dtype=np.uint8)
        for row, of_row in enumerate(undecoded):
            if content := _stored(of_row[image_column] or {}):
                digests[row] = np.frombuffer(hashlib.sha256(content).digest()[:_DIGEST_BYTES], dtype=np.uint8)
        values = {"digests": digests}
        cells.store(key, values)
    return values["digests"]


def _stored(image: dict[str, Any]) -> bytes:
    if image.get("bytes"):
        return image["bytes"]
    try:
        return read_plain_file(image.get("path") or "")
    except (OSError, ValueError):  # the decoder tells why it can't be read
        return b""

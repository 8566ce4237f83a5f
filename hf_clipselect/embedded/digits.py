"""scikit-learn's handwritten digits as a `datasets.Dataset`: real images that need no download."""

import hashlib
import io

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetInfo, Features, Image, NamedSplit
from PIL import Image as PILImage

from ..errors import InputError


CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPLITS = ("train", "test", "all")
NUM_TEST_ROWS = 500


def load_digits_dataset(split: str = "train", *, flag: str = "--train_split_name") -> Dataset:
    """Load scikit-learn's handwritten digits: the split `"train"` (1,297 rows), `"test"` (500 rows) or `"all"`.

    Train and test are stratified by label and never change; the rows of each keep the order of scikit-learn. `image`
    is an 8x8 PNG of mode L, white ink on black, each pixel floor(value * 255 / 16) of the source's 0 to 16; `label` is
    a `ClassLabel` with the names `"zero"` to `"nine"`. The fingerprint depends on the content alone, so that caches
    are found again by another process. Raises `InputError`, which calls the split `flag`, for another one.
    """
    if split not in SPLITS:
        raise InputError(f"embedded/digits has no split {split!r}: choose one of {', '.join(SPLITS)} ({flag}).")
    # scikit-learn takes over a second to import and nothing but this dataset needs it.
    from sklearn.datasets import load_digits

    source = load_digits()
    rows = _split_rows(source.target, split)
    pixels = (source.images[rows].astype(np.int64) * 255 // 16).astype(np.uint8)
    labels = source.target[rows].astype(np.int64)
    features = Features({"image": Image(), "label": ClassLabel(names=list(CLASS_NAMES))})
    images = [{"bytes": _png_bytes(image), "path": None} for image in pixels]
    table = pa.table({"image": pa.array(images, type=features["image"].pa_type), "label": pa.array(labels)})
    return Dataset(
        table,
        info=DatasetInfo(features=features),
        split=NamedSplit(split),
        fingerprint=_content_hash(pixels, labels, split),
    )


def _split_rows(labels: np.ndarray, split: str) -> np.ndarray:
    rows = np.arange(len(labels))
    if split == "all":
        return rows
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(rows, test_size=NUM_TEST_ROWS, random_state=0, stratify=labels)
    return np.sort(train if split == "train" else test)


def _png_bytes(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PILImage.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _content_hash(pixels: np.ndarray, labels: np.ndarray, split: str) -> str:
    # Over pixels, not PNG bytes: another zlib may compress the same image differently.
    digest = hashlib.sha256(split.encode())
    digest.update(pixels.tobytes())
    digest.update(labels.tobytes())
    return digest.hexdigest()[:16]

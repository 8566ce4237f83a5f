"""Grey images of 10, 12 or 14 bits in files of 16."""

import io
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as PILImage

from hf_clipselect.data import read_images, with_image_column_undecoded
from hf_clipselect.encoder.backbone import load_backbone
from hf_clipselect.encoder.bit_depth import white_level
from hf_clipselect.encoder.features import encode_dataset, features_key
from hf_clipselect.encoder.images import open_image
from hf_clipselect.results.report.thumbnails import small_images
from hf_clipselect.runtime.launch import make_accelerator


def encoded(values: np.ndarray, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    PILImage.fromarray(values).save(buffer, form)
    return buffer.getvalue()


def gradients(bits: int, num_rows: int = 8, form: str = "PNG", dtype: type = np.uint16) -> Dataset:
    """Gradients of rising brightness; the last row's ends in the largest value of so many bits."""
    tops = np.linspace(0.2, 1, num_rows) * (2**bits - 1)
    images = [encoded(np.tile(np.linspace(0, top, 16), (16, 1)).round().astype(dtype), form) for top in tops]
    return rows_of(images)


def rows_of(images: list[bytes]) -> Dataset:
    features = Features({"image": Image(decode=False), "label": ClassLabel(names=["a", "b"])})
    cells = [{"bytes": data, "path": None} for data in images]
    return Dataset.from_dict({"image": cells, "label": [row % 2 for row in range(len(images))]}, features=features)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize(
    ("form", "dtype"), [("PNG", np.uint16), ("TIFF", np.uint16), ("TIFF", np.int32), ("TIFF", ">u2")]
)
def test_the_largest_value_of_a_sample_is_white(bits: int, form: str, dtype: type) -> None:
    dataset = gradients(bits, form=form, dtype=dtype)
    white = white_level(dataset, "image")
    assert white == 2**bits - 1
    pictures = [np.asarray(open_image(value, white=white))[..., 0] for value in dataset[:]["image"]]
    # As the same gradients of 8 bits; those of one dataset are scaled alike.
    expected = [np.floor(np.linspace(0, top, 16) * 255 + 0.5) for top in np.linspace(0.2, 1, 8)]
    assert max(np.abs(picture - row).max() for picture, row in zip(pictures, expected, strict=True)) <= 1


def test_one_bright_image_beyond_the_sample_is_not_clipped() -> None:
    bright = open_image(encoded(np.array([[0, 4095, 65535]], np.uint16)), white=4095)
    assert np.asarray(bright)[0, :, 0].tolist() == [0, 16, 255]


def test_other_images_are_not_looked_at_and_bad_ones_do_no_harm() -> None:
    colours = [encoded(np.full((4, 4, 3), shade, np.uint8)) for shade in (0, 9, 200)]
    assert white_level(rows_of([*colours, b"no image", b""]), "image") == 65535
    dark = encoded(np.zeros((4, 4), np.uint16))
    assert white_level(rows_of([dark, dark]), "image") == 65535
    twelve = encoded(np.full((4, 4), 4000, np.uint16))
    assert white_level(rows_of([*colours, b"no image", twelve[:60], twelve]), "image") == 4095
    many = [encoded(np.full((2, 2), 300 if row else 60_000, np.uint16)) for row in range(500)]
    assert white_level(rows_of(many), "image") == 65535  # first and last rows are always in the sample


def test_features_see_what_an_image_of_8_bits_shows_and_are_kept_under_a_key_of_their_own(
    clip_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    accelerator = make_accelerator(use_cpu=True)
    backbone = load_backbone(str(clip_folder), revision="main", device=accelerator.device)
    twelve = read_images(gradients(12))
    shown = [open_image(value, white=4095) for value in with_image_column_undecoded(twelve)[:]["image"]]
    eight = read_images(rows_of([encoded(np.asarray(image)) for image in shown]))
    with caplog.at_level(logging.WARNING, "hf_clipselect"):
        features, expected = (
            encode_dataset(images, backbone, tmp_path / name, accelerator=accelerator, num_workers=0).features
            for name, images in (("12", twelve), ("8", eight))
        )
    np.testing.assert_allclose(features.take(np.arange(8)), expected.take(np.arange(8)), atol=1e-5)
    assert ["above 4095" in record.getMessage() for record in caplog.records] == [True]
    keys = [json.loads((tmp_path / name / "manifest.json").read_text())["key"] for name in ("12", "8")]
    assert keys[0]["white"] == 4095 and "white" not in keys[1]
    assert "white" not in features_key(eight, backbone, batch_size=64)
    # What the report shows is as bright.
    thumbnail = small_images(twelve.dataset, "image", [7], max_side=16)[7]
    assert np.array_equal(np.asarray(thumbnail), np.asarray(shown[7]))

"""Lean pixels are those of the image processor, or the processor is used; what a draft changes is bounded."""

import functools
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage
from transformers import (
    ChineseCLIPImageProcessorPil,
    CLIPImageProcessorPil,
    Siglip2ImageProcessorPil,
    SiglipImageProcessorPil,
    ViTImageProcessorPil,
)
from transformers.image_processing_backends import PilBackend

from hf_clipselect.data import read_images
from hf_clipselect.encoder.backbone import load_backbone
from hf_clipselect.encoder.cache import FeatureCache, recorded_key
from hf_clipselect.encoder.decoding import decoded_batches
from hf_clipselect.encoder.features import encode_dataset, features_key
from hf_clipselect.encoder.images import UnreadableImageError, open_image
from hf_clipselect.encoder.lean_pixels import LeanPixels, find_lean_pixels
from hf_clipselect.encoder.pixels import PreprocessedImages
from hf_clipselect.runtime.launch import make_accelerator


PLAIN = [
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32),
    CLIPImageProcessorPil(size={"shortest_edge": 31}, crop_size={"height": 30, "width": 27}, do_convert_rgb=False),
    CLIPImageProcessorPil(size={"shortest_edge": 20}, crop_size=33, resample=2),
    CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 30, "width": 51}, resample=1),
    CLIPImageProcessorPil(size={"height": 12, "width": 40}, crop_size={"height": 30, "width": 21}),
    SiglipImageProcessorPil(size={"height": 17, "width": 32}),
    ViTImageProcessorPil(size={"height": 16, "width": 16}),
    ChineseCLIPImageProcessorPil(size={"height": 16, "width": 16}, do_center_crop=False),
]
CLIP = LeanPixels.of(PLAIN[0])
SIGLIP = LeanPixels.of(PLAIN[5])


resize = PilBackend.resize


def resize_mirrored(self, image: np.ndarray, *args: object, **kwargs: object) -> np.ndarray:
    return resize(self, image[..., ::-1], *args, **kwargs)


class OtherResize(CLIPImageProcessorPil):
    resize = resize_mirrored


def noise(width: int, height: int, seed: int = 0) -> PILImage.Image:
    return PILImage.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@functools.cache
def photograph(width: int, height: int, seed: int = 0) -> PILImage.Image:
    """Overlapping discs of all sizes, textured: contrasts and edges as photographs have them."""
    rng = np.random.default_rng(seed)
    values = np.full((height, width, 3), 128.0)
    y, x = np.mgrid[:height, :width]
    for _ in range(60):
        radius = min(4 / (rng.random() + 0.01), 0.4 * width)
        disc = (x - rng.random() * width) ** 2 + (y - rng.random() * height) ** 2 < radius**2
        values[disc] = rng.random(3) * 255 + rng.standard_normal((int(disc.sum()), 1)) * rng.random() * 20
    return PILImage.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def jpeg(image: PILImage.Image, form: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **{"quality": 90, **options})
    return buffer.getvalue()


def read_all(images: list[bytes]):
    table = {
        "image": [{"bytes": data, "path": None} for data in images],
        "label": [str(i % 2) for i in range(len(images))],
    }
    features = Features({"image": Image(), "label": Value("string")})
    return read_images(Dataset.from_dict(table, features=features))


def encode(images, backbone, folder: Path, **options: object):
    accelerator = make_accelerator(use_cpu=True)
    encoded = encode_dataset(images, backbone, folder, accelerator=accelerator, **options)
    return encoded, encoded.features.take(np.arange(len(images.dataset)))


def begin_as_before(images, backbone, folder: Path) -> None:
    """Begin a features folder as versions without lean pixels did."""
    key = features_key(images, backbone, batch_size=64)
    assert "pixels" not in key
    FeatureCache(folder, key=key, num_rows=len(images.dataset)).write_manifest(complete=False)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("embedded/tiny-clip")


@pytest.mark.parametrize("processor", PLAIN, ids=lambda processor: type(processor).__name__)
def test_the_pixels_of_a_plain_processor_bit_for_bit(processor) -> None:
    lean = LeanPixels.of(processor)
    sizes = [(1, 1), (1, 2), (2, 1), (1, 90), (90, 1), (31, 31), (32, 32), (33, 32), (32, 33), (500, 400), (97, 310)]
    sizes += np.random.default_rng(0).integers(1, 120, (30, 2)).tolist()
    pictures = [noise(*size, seed=seed) for seed, size in enumerate(sizes)]
    pixels = lean(pictures)
    assert (pixels.dtype, pixels.is_contiguous()) == (torch.uint8, True)
    expected = processor(images=pictures, return_tensors="pt")["pixel_values"]
    assert torch.equal(lean.normalize(pixels), expected)
    assert lean.normalize(pixels).is_contiguous()  # as the processor's: another layout gives other last digits
    assert lean.same_as(processor, pictures)


@pytest.mark.parametrize(
    "processor",
    [
        CLIPImageProcessorPil(do_resize=False),
        CLIPImageProcessorPil(do_rescale=False),
        CLIPImageProcessorPil(do_normalize=False),
        CLIPImageProcessorPil(do_center_crop=False),
        CLIPImageProcessorPil(do_pad=True, pad_size={"height": 300, "width": 300}),
        CLIPImageProcessorPil(rescale_factor=1 / 127.5),
        CLIPImageProcessorPil(image_mean=[0.5]),
        CLIPImageProcessorPil(image_std=0.5),
        CLIPImageProcessorPil(size={"shortest_edge": 224, "longest_edge": 300}),
        CLIPImageProcessorPil(size={"max_height": 224, "max_width": 224}),
        Siglip2ImageProcessorPil(),
        OtherResize(),
        None,
    ],
)
def test_another_processor_is_used_itself(processor) -> None:
    assert LeanPixels.of(processor) is None


def test_a_processor_of_another_result_is_used_itself(backbone, tmp_path, monkeypatch) -> None:
    images = read_all([jpeg(noise(40, 30, seed)) for seed in range(4)])
    monkeypatch.setattr(PilBackend, "resize", resize_mirrored)  # as a later transformers might
    assert LeanPixels.of(backbone.image_processor) is not None
    encode(images, backbone, tmp_path)
    assert "pixels" not in recorded_key(tmp_path)


def test_lean_pixels_need_an_image_that_shows_them_equal() -> None:
    column = {"image": [{"bytes": b"none", "path": None}] * 4 + [{"bytes": jpeg(noise(40, 30)), "path": None}]}
    undecoded = Dataset.from_dict(column)
    assert find_lean_pixels(undecoded, "image", PLAIN[0], recorded={}) is None
    assert find_lean_pixels(undecoded.select(range(1, 5)), "image", PLAIN[0], recorded={}) == CLIP


@pytest.mark.parametrize("num_workers", [0, 2])
def test_features_are_those_of_the_processor_where_nothing_is_drafted(num_workers, backbone, tmp_path) -> None:
    images = read_all([jpeg(photograph(60 + 3 * i, 127 - i, i)) for i in range(8)] + [b"none"])
    options = {"on_bad_image": "drop", "num_workers": num_workers}
    begin_as_before(images, backbone, tmp_path / "before")
    before, by_processor = encode(images, backbone, tmp_path / "before", **options)
    after, lean = encode(images, backbone, tmp_path / "after", **options)
    assert (by_processor.tobytes(), before.unreadable) == (lean.tobytes(), after.unreadable)
    assert recorded_key(tmp_path / "after") == {**recorded_key(tmp_path / "before"), "pixels": {"lean": 1, "draft": 2}}


def test_a_folder_of_an_earlier_version_goes_on_with_the_processor(backbone, tmp_path) -> None:
    images = read_all([jpeg(photograph(256, 200, seed)) for seed in range(2)])
    begin_as_before(images, backbone, tmp_path)
    first, features = encode(images, backbone, tmp_path)
    pictures = [open_image(value) for value in images.dataset["image"]]
    values = backbone.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        expected = backbone.model.vision_model(values).pooler_output.numpy()
    assert np.array_equal(features, expected)
    assert encode(images, backbone, tmp_path)[0].num_encoded == 0
    (tmp_path / "images-00000.safetensors").unlink()
    again, same = encode(images, backbone, tmp_path)
    assert (again.num_encoded, again.key) == (2, first.key) and np.array_equal(same, features)
    # Nothing of it is taken over where it is given up.
    anew, drafted = encode(images, backbone, tmp_path, overwrite=True)
    assert anew.num_encoded == 2 and recorded_key(tmp_path)["pixels"] == {"lean": 1, "draft": 2}
    assert not np.array_equal(drafted, features)
    assert encode(images, backbone, tmp_path)[0].num_encoded == 0


def test_what_is_recorded_in_a_folder(tmp_path) -> None:
    assert recorded_key(tmp_path) == {}
    for content in ("", "[]", "{}", '{"key": 3}', '{"key": {"dtype": "torch.float32"}}'):
        (tmp_path / "manifest.json").write_text(content)
    assert recorded_key(tmp_path) == json.loads(content)["key"]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "progressive", "MPO"])
@pytest.mark.parametrize("lean", [CLIP, SIGLIP], ids=["shorter side", "both sides"])
def test_a_large_jpeg_is_decoded_at_a_lower_resolution(mode, lean) -> None:
    picture = photograph(390, 270)
    options = {"RGB": {}, "progressive": {"progressive": True}, "MPO": {"save_all": True, "append_images": [picture]}}
    for orientation in (1, 3, 6) if mode != "MPO" else (1,):
        exif = {} if mode == "MPO" else {"exif": PILImage.Exif()}
        if exif:
            exif["exif"][0x112] = orientation
        of_mode = picture if mode in options else picture.convert(mode)
        data = jpeg(of_mode, "MPO" if mode == "MPO" else "JPEG", **exif, **options.get(mode, {}))
        full, small = open_image(data), open_image(data, draft=lean.draft)
        assert full.size == ((270, 390) if orientation == 6 else (390, 270))
        assert small.size == full.resize(lean._resized(full.size)).size
        assert (small.mode, small.info) == ("RGB", {})
        difference = (lean([small]).float() - lean([full]).float()).abs().mean()
        assert 0 < difference < 1  # of 255; without the turn it would be about 60


def test_other_images_are_not_drafted() -> None:
    small, large = photograph(127, 300), photograph(128, 300)
    for data, drafted in ((jpeg(small), False), (jpeg(large), True), (jpeg(large, "PNG"), False)):
        found = open_image(data, draft=CLIP.draft)
        assert (found.size != open_image(data).size) is drafted
    lanczos = LeanPixels.of(PLAIN[3])
    assert lanczos.key() == {"lean": 1}
    assert open_image(jpeg(photograph(300, 300)), draft=lanczos.draft).size == (300, 300)
    opened = PILImage.open(io.BytesIO(jpeg(large)))
    assert open_image(opened, draft=CLIP.draft).size == opened.size == (128, 300)  # a PIL image stays as it is


def test_a_draft_has_the_size_that_is_needed() -> None:
    rng = np.random.default_rng(0)
    drafted = 0
    for width, height in rng.integers(128, 900, (60, 2)).tolist():
        full = PILImage.new("RGB", (width, height), (9, 99, 199))
        for lean in (CLIP, SIGLIP):
            small = open_image(jpeg(full), draft=lean.draft)
            drafted += small.size != full.size
            assert small.size in (full.size, lean._resized(full.size))
            assert np.ptp(np.asarray(small), axis=(0, 1)).max() == 0  # nothing comes from outside the image
    assert drafted > 100


@pytest.mark.parametrize("progressive", [False, True])
def test_what_cannot_be_read_cannot_be_drafted_either(progressive) -> None:
    data = jpeg(photograph(390, 270), progressive=progressive)
    rng = np.random.default_rng(0)

    def reason(damaged: bytes, draft) -> str | None:
        try:
            open_image(damaged, draft=draft)
        except UnreadableImageError as error:
            return str(error)
        return None

    found = []
    for end in rng.integers(0, len(data), 20).tolist():
        flipped = bytearray(data)
        for at in rng.integers(0, len(data), 4).tolist():
            flipped[at] ^= 0x55
        for damaged in (data[:end], bytes(flipped)):
            found.append(reason(damaged, CLIP.draft))
            assert found[-1] == reason(damaged, None)
    assert len(set(found)) > 2 and None in found


def test_a_draft_hardly_changes_the_embeddings(backbone) -> None:
    pictures = [jpeg(photograph(300 + 13 * seed, 270, seed)) for seed in range(6)]
    lean = LeanPixels.of(backbone.image_processor)

    def embed(draft) -> torch.Tensor:
        pixels = lean.normalize(lean([open_image(data, draft=draft) for data in pictures]))
        with torch.inference_mode():
            return torch.nn.functional.normalize(backbone.model.get_image_features(pixels).pooler_output)

    full, drafted = embed(None), embed(lean.draft)
    assert 0.999 < (full * drafted).sum(dim=1).min() < 1
    assert (full - drafted).norm(dim=1).mean() < 0.03 * torch.pdist(full).mean()


def test_bytes_come_from_other_processes() -> None:
    images = Dataset.from_dict({"image": [{"bytes": jpeg(noise(40, 30, i)), "path": None} for i in range(10)]})
    pixels = PreprocessedImages(images, "image", PLAIN[0], lean=CLIP)
    batches = [list(range(start, start + 2)) for start in range(0, 10, 2)]
    alone, beside = (list(decoded_batches(pixels, batches, num_workers=number)) for number in (0, 2))
    assert [batch.rows for batch in alone] == [batch.rows for batch in beside] == batches
    for first, second in zip(alone, beside, strict=True):
        values = [torch.as_tensor(batch.pixels["pixel_values"]) for batch in (first, second)]
        assert values[0].dtype == torch.uint8 and torch.equal(*values)

import io
from collections import Counter

import numpy as np
import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage

from hf_clipselect.embedded import load_digits_dataset
from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.robustness import CORRUPTIONS, add_label_noise, corrupt_image, corrupt_images
from hf_clipselect.evaluation.robustness.corruptions import (
    _line_kernel,
    fog,
    gaussian_noise,
    motion_blur,
    occlusion,
    resolution,
)


SEVERITIES = range(1, 6)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def random_pixels(*shape: int) -> np.ndarray:
    return rng(1).random(shape, dtype=np.float32)


def stored_bytes(dataset: Dataset, column: str = "image") -> list[bytes]:
    return [value["bytes"] for value in dataset.cast_column(column, Image(decode=False))[column]]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_digits_dataset("train").select(range(100)).flatten_indices()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_the_deviation_of_its_severity(severity):
    noise = gaussian_noise(np.full((200, 200, 3), 0.5, dtype=np.float32), severity, rng()) - 0.5
    expected = {1: 0.0625, 2: 0.125, 3: 0.25, 4: 0.5, 5: 1.0}[severity]
    assert noise.std() == pytest.approx(expected, rel=0.01) and abs(noise.mean()) < 0.02 * expected
    # Independent from channel to channel.
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.03


@pytest.mark.parametrize(
    ("shape", "severity", "covered"),
    [((8, 8), 1, (2, 2)), ((8, 8), 3, (3, 3)), ((8, 8), 5, (4, 4)), ((224, 100), 5, (112, 50)), ((1, 1), 1, (1, 1))],
)
def test_occlusion_covers_one_grey_rectangle(shape, severity, covered):
    pixels = np.zeros((*shape, 1), dtype=np.float32)
    places = set()
    for seed in range(200):
        result = occlusion(pixels, severity, rng(seed))
        rows, columns = np.nonzero(result[..., 0])
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == covered and len(rows) == covered[0] * covered[1]
        assert set(result[rows, columns, 0]) == {0.5}
        places.add((rows.min(), columns.min()))
    assert pixels.sum() == 0
    free = [side - taken + 1 for side, taken in zip(shape, covered, strict=True)]
    assert len(places) == free[0] * free[1] or len(places) > 150


def test_resolution_by_hand():
    # Four rows become one at severity 5, and one row enlarged is the same everywhere.
    quarter = resolution(np.array([0, 0, 1, 1], dtype=np.float32).reshape(4, 1, 1), 5, rng())
    assert quarter.shape == (4, 1, 1) and np.ptp(quarter) < 1e-6 and quarter[0] == pytest.approx(0.5)
    assert np.allclose(resolution(np.full((9, 7, 3), 0.3, dtype=np.float32), 4, rng()), 0.3)
    # What is finer than the smaller image is lost, and what is coarser stays.
    stripes = np.tile(np.array([0, 1], dtype=np.float32), 16).reshape(1, 32, 1).repeat(32, axis=0)
    assert resolution(stripes, 5, rng()).std() < 0.05 * stripes.std()
    halves = np.repeat(np.array([0, 1], dtype=np.float32), 16).reshape(1, 32, 1).repeat(32, axis=0)
    assert resolution(halves, 5, rng()).std() > 0.8 * halves.std()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_fog_mixes_with_grey(severity):
    shape, depths = (24, 16, 3), []
    for seed in range(100):
        dark, light, grey, own = (
            fog(pixels, severity, rng(seed))
            for pixels in (*(np.full(shape, level, dtype=np.float32) for level in (0, 1, 0.5)), random_pixels(*shape))
        )
        transmission = light - dark
        assert np.allclose(grey, 0.5) and np.allclose(dark, 0.5 * (1 - transmission), atol=1e-6)
        assert np.allclose(own, dark + transmission * random_pixels(*shape), atol=1e-6)
        depths.append(-np.log(transmission))
    assert np.mean(depths) == pytest.approx(0.4 * severity, rel=0.03)
    assert np.std(depths) > 0.1 * severity * 0.5
    assert not np.allclose(depths[0], depths[1])


def test_lines_by_hand():
    third, quarter = 1 / 3, 1 / 4
    assert np.allclose(_line_kernel(2, angle=0)[2], [0, third, third, third, 0])
    assert np.allclose(_line_kernel(1, angle=0)[2], [0, quarter, 2 * quarter, quarter, 0])
    assert np.allclose(_line_kernel(1, angle=np.pi / 2)[:, 2], [0, quarter, 2 * quarter, quarter, 0])
    assert np.allclose(_line_kernel(0.1, angle=1).sum(), 1)


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("shape", [(12, 9, 3), (8, 8, 1), (1, 5, 1)])
def test_motion_blur_as_a_walk_along_a_line(severity, shape):
    """Every pixel on its own: the mean of points of the line through it, each read between its four neighbours."""
    pixels, (height, width) = random_pixels(*shape), shape[:2]

    def read(row: float, column: float) -> np.ndarray:
        top, left = int(np.floor(row)), int(np.floor(column))
        value = np.zeros(shape[2])
        for down in (0, 1):
            for right in (0, 1):
                weight = (1 - abs(row - top - down)) * (1 - abs(column - left - right))
                value += weight * pixels[np.clip(top + down, 0, height - 1), np.clip(left + right, 0, width - 1)]
        return value

    length = 0.1 * severity * min(height, width)
    for seed in range(3):
        angle = rng(seed).uniform(0, np.pi)
        steps = np.linspace(-length / 2, length / 2, int(np.ceil(length)) + 1)
        expected = np.array(
            [
                [
                    np.mean([read(y + s * np.sin(angle), x + s * np.cos(angle)) for s in steps], axis=0)
                    for x in range(width)
                ]
                for y in range(height)
            ]
        )
        assert np.allclose(motion_blur(pixels, severity, rng(seed)), expected, atol=1e-5)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize(
    ("mode", "size"), [("L", (8, 8)), ("RGB", (8, 8)), ("RGB", (40, 23)), ("L", (1, 1)), ("RGB", (1, 30))]
)
def test_mode_and_size_stay(name, severity, mode, size):
    image = PILImage.fromarray(rng().integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).convert(mode)
    copy = image.copy()
    damaged = corrupt_image(image, name, severity=severity, rng=rng())
    assert (damaged.mode, damaged.size) == (mode, size) and np.asarray(damaged).dtype == np.uint8
    assert image == copy and damaged is not image
    assert damaged == corrupt_image(image, name, severity=severity, rng=rng())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_severity_is_visible_and_harms_more_than_the_one_before(name, digits):
    for side in (8, 32):
        changes = []
        for severity in SEVERITIES:
            images = [image.resize((side, side)) for image in digits["image"]]
            damaged = [corrupt_image(image, name, severity=severity, rng=rng(row)) for row, image in enumerate(images)]
            change = [
                np.abs(np.asarray(after, dtype=float) - before).mean()
                for after, before in zip(damaged, images, strict=True)
            ]
            assert min(change) > 0
            changes.append(np.mean(change))
        # At 8 pixels the sides of an occlusion are rounded to 2, 3, 3, 4 and 4.
        growth = np.diff(changes)
        assert (growth > 0).all() or (side == 8 and name == "occlusion" and (growth >= 0).all() and growth.sum() > 0)


@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - {"resolution"}))
def test_the_generator_decides(name, digits):
    image = digits[0]["image"]
    first, second = (corrupt_image(image, name, severity=3, rng=rng(seed)) for seed in (0, 1))
    assert first != second


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_other_modes_of_8_bits_become_rgb(mode):
    image = PILImage.fromarray(rng().integers(0, 256, (9, 9, 3), dtype=np.uint8)).convert(mode)
    damaged = corrupt_image(image, "motion_blur", severity=2, rng=rng())
    assert damaged == corrupt_image(image.convert("RGB"), "motion_blur", severity=2, rng=rng())


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_wide_images(dtype):
    image = PILImage.fromarray(np.zeros((4, 4), dtype=dtype))
    with pytest.raises(InputError, match=f"8 bits, got one of mode {image.mode}; scale it"):
        corrupt_image(image, "fog", rng=rng())


def test_names_and_severities_that_do_not_exist(digits):
    image = digits[0]["image"]
    with pytest.raises(
        InputError, match="no corruption 'snow'; choose one of gaussian_noise, occlusion, resolution, fog, mot"
    ):
        corrupt_image(image, "snow", rng=rng())
    for severity in (0, 6, 2.5):
        with pytest.raises(InputError, match=f"severity must be one of 1, 2, 3, 4, 5, got {severity}"):
            corrupt_image(image, "fog", severity=severity, rng=rng())
        with pytest.raises(InputError, match="severity must be"):
            corrupt_images(digits, rate=0, seed=0, severity=severity)
    with pytest.raises(InputError, match="no corruption 'snow'"):
        corrupt_images(digits, rate=0, seed=0, corruption="snow")


@pytest.mark.parametrize(
    ("num_rows", "rate", "damaged"),
    [(100, 0.2, 20), (50, 0.29, 15), (100, 0.03, 3), (7, 0, 0), (6, 1, 6), (10, 0.04, 0), (0, 0.5, 0)],
)
def test_exactly_that_many_rows_in_equal_shares(digits, num_rows, rate, damaged):
    result = corrupt_images(digits.select(range(num_rows)), rate=rate, seed=0)
    counts = Counter(result["corruption"])
    assert counts.pop("none", 0) == num_rows - damaged and len(result) == num_rows
    assert set(counts) <= set(CORRUPTIONS) and sum(counts.values()) == damaged
    shares = [counts[name] for name in CORRUPTIONS]
    assert max(shares) - min(shares) <= 1
    assert result.column_names == ["image", "label", "corruption"]
    assert result.features == {**digits.features, "corruption": Value("string")}


def test_only_the_rows_that_are_named_change(digits):
    result = corrupt_images(digits, rate=0.2, seed=3)
    changed = np.array(
        [before != after for before, after in zip(stored_bytes(digits), stored_bytes(result), strict=True)]
    )
    assert np.array_equal(changed, np.array(result["corruption"]) != "none") and changed.sum() == 20
    assert result["label"] == digits["label"]
    # Each of them by what the column says, with a generator of its own.
    for row in np.flatnonzero(changed).tolist():
        alone = corrupt_image(digits[row]["image"], result[row]["corruption"], severity=3, rng=rng([3, 2, row]))
        assert np.array_equal(result[row]["image"], alone)
        assert (result[row]["image"].format, result[row]["image"].mode) == ("PNG", "L")


def test_one_corruption_by_name_and_severity(digits):
    result = corrupt_images(digits, rate=0.1, seed=0, corruption="fog", severity=5)
    assert Counter(result["corruption"]) == {"none": 90, "fog": 10}
    mild = corrupt_images(digits, rate=0.1, seed=0, corruption="fog", severity=1)
    assert mild["corruption"] == result["corruption"]
    row = result["corruption"].index("fog")
    contrast = [np.asarray(images[row]["image"]).std() for images in (digits, mild, result)]
    assert contrast[0] > contrast[1] > contrast[2]


def test_the_same_bytes_again_and_others_for_another_seed(digits):
    first = corrupt_images(digits, rate=0.3, seed=1)
    again = corrupt_images(Dataset(digits.data.table, info=digits.info), rate=0.3, seed=1)
    assert stored_bytes(first) == stored_bytes(again) and first["corruption"] == again["corruption"]
    assert corrupt_images(digits, rate=0.3, seed=1)._fingerprint == first._fingerprint
    assert corrupt_images(digits, rate=0.3, seed=2)["corruption"] != first["corruption"]


def test_a_higher_rate_adds_rows(digits):
    few, many = (corrupt_images(digits, rate=rate, seed=1) for rate in (0.1, 0.4))
    for row in np.flatnonzero(np.array(few["corruption"]) != "none").tolist():
        assert few[row] == many[row]


def test_label_noise_of_the_same_seed_falls_on_other_rows():
    train = load_digits_dataset("train")
    for seed in range(3):
        damaged = np.array(corrupt_images(train, rate=0.2, seed=seed)["corruption"]) != "none"
        wrong = add_label_noise(train["label"], 10, rate=0.2, seed=seed) != np.array(train["label"])
        # 259 rows each, 52 of them both by chance; five standard deviations are 29.
        assert abs((damaged & wrong).sum() - 52) < 29


def test_images_of_other_rows_are_not_decoded(digits):
    kinds = np.array(corrupt_images(digits, rate=0.1, seed=0)["corruption"])
    images = [
        {"bytes": stored if kind != "none" else b"not an image", "path": None}
        for stored, kind in zip(stored_bytes(digits), kinds, strict=True)
    ]
    broken = Dataset.from_dict({"image": images}, features=Features({"image": Image()}))
    result = corrupt_images(broken, rate=0.1, seed=0)
    assert np.array_equal(result["corruption"], kinds)
    assert stored_bytes(result).count(b"not an image") == 90


def test_an_image_that_cannot_be_decoded_is_named(digits):
    images = [{"bytes": stored, "path": None} for stored in stored_bytes(digits)]
    row = int(np.flatnonzero(np.array(corrupt_images(digits, rate=0.1, seed=0)["corruption"]) != "none")[0])
    for value, message in (
        ({"bytes": b"junk", "path": None}, "cannot be decoded"),
        (None, "no image in column 'image'"),
    ):
        broken = Dataset.from_dict(
            {"image": [*images[:row], value, *images[row + 1 :]]}, features=Features({"image": Image()})
        )
        with pytest.raises(InputError, match=rf"(?i)row {row} .*{message}"):
            corrupt_images(broken, rate=0.1, seed=0)


def test_other_columns_keep_what_they_hold(digits):
    buffer = io.BytesIO()
    PILImage.new("RGB", (5, 5), "red").save(buffer, format="JPEG")
    thumbnails = [{"bytes": buffer.getvalue(), "path": f"{row}.jpg"} for row in range(len(digits))]
    both = digits.add_column("thumbnail", thumbnails, feature=Image()).add_column("note", [None, "x"] * 50)
    result = corrupt_images(both, rate=0.5, seed=0)
    assert result.column_names == ["image", "label", "thumbnail", "note", "corruption"]
    undecoded = Image(decode=False)
    assert (
        result.cast_column("thumbnail", undecoded)["thumbnail"]
        == both.cast_column("thumbnail", undecoded)["thumbnail"]
    )
    assert result["note"] == both["note"]


@pytest.mark.parametrize("feature", [Image(decode=False), Image(mode="RGB")])
def test_the_image_column_keeps_its_feature(digits, feature):
    result = corrupt_images(digits.cast_column("image", feature), rate=0.1, seed=0)
    assert result.features["image"] == feature
    row = int(np.flatnonzero(np.array(result["corruption"]) != "none")[0])
    assert result.cast_column("image", Image())[row]["image"].mode == (feature.mode or "L")


def test_formatted_and_shuffled_datasets(digits):
    order = rng().permutation(100)
    shuffled = digits.select(order)
    plain, formatted = (
        corrupt_images(shuffled, rate=0.2, seed=0),
        corrupt_images(shuffled.with_format("torch"), rate=0.2, seed=0),
    )
    assert stored_bytes(plain) == stored_bytes(formatted) and plain["label"] == formatted["label"]
    untouched = np.array(plain["corruption"]) == "none"
    originals = stored_bytes(shuffled)
    assert all(stored_bytes(plain)[row] == originals[row] for row in np.flatnonzero(untouched))
    assert plain["label"] == shuffled["label"]


def test_files_on_disk_stay_where_they_are(digits, tmp_path):
    for row in range(10):
        digits[row]["image"].save(tmp_path / f"{row}.png")
    files = [str(tmp_path / f"{row}.png") for row in range(10)]
    result = corrupt_images(Dataset.from_dict({"image": files}).cast_column("image", Image()), rate=0.2, seed=0)
    values = result.cast_column("image", Image(decode=False))["image"]
    for row, (value, kind) in enumerate(zip(values, result["corruption"], strict=True)):
        assert (value["path"] == files[row] and value["bytes"] is None) if kind == "none" else value["bytes"]


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_rate_out_of_range(digits, rate):
    with pytest.raises(InputError, match=r"rate .*\[0, 1\], got"):
        corrupt_images(digits, rate=rate, seed=0)


def test_seed_out_of_range(digits):
    with pytest.raises(InputError, match="seed must be a whole number in .*, got -1"):
        corrupt_images(digits, rate=0.1, seed=-1)


def test_columns_that_do_not_fit(digits):
    for column in ("label", "img"):
        with pytest.raises(InputError, match=f"'{column}' is not an image column .*: image .*label"):
            corrupt_images(digits, image_column=column, rate=0.1, seed=0)
    with pytest.raises(InputError, match="has a column 'corruption'.*rename"):
        corrupt_images(corrupt_images(digits, rate=0.1, seed=0), rate=0.1, seed=0)

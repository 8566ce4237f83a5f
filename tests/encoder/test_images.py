import io
import pickle
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from hf_clipselect.encoder.images import UnreadableImageError, open_image, to_rgb
from hf_clipselect.errors import InputError


WHITE = (255, 255, 255)


def encode(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def pixels(image):
    assert image.mode == "RGB"
    return np.asarray(image)


def grey(values):
    return np.repeat(np.asarray(values, dtype=np.uint8)[..., None], 3, axis=-1)


@pytest.fixture
def photo():
    return Image.fromarray(noise(20, 30, 3))


def test_every_kind_of_source(photo, tmp_path):
    data = encode(photo)
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    sources = [
        photo,
        data,
        {"bytes": data, "path": None},
        {"bytes": data, "path": str(tmp_path / "no_such_file.png")},
        {"bytes": None, "path": str(path)},
        {"path": str(path)},
        Image.open(path),
    ]
    for source in sources:
        assert np.array_equal(pixels(open_image(source)), np.asarray(photo))


def test_the_result_is_new_and_the_source_untouched(photo):
    opened = open_image(photo)
    opened.paste(WHITE, (0, 0, 30, 20))
    assert np.array_equal(np.asarray(photo), noise(20, 30, 3))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(photo, form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photo, form, exif=exif)
    stored = Image.open(io.BytesIO(data))
    expected = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    assert expected.shape == ((30, 20, 3) if orientation > 4 else (20, 30, 3))
    for source in (data, stored):
        opened = open_image(source)
        assert np.array_equal(pixels(opened), expected)
        assert np.array_equal(pixels(open_image(opened)), expected)
        assert np.array_equal(pixels(open_image(encode(opened, "PNG"))), expected)


def test_orientation_of_a_mode_that_is_converted():
    exif = Image.Exif()
    exif[0x0112] = 6
    values = noise(20, 30)
    data = encode(Image.fromarray(values.astype(np.uint16) * 257), exif=exif)
    assert np.array_equal(pixels(open_image(data)), grey(np.rot90(values, -1)))


@pytest.mark.parametrize("exif", [b"Exif\x00\x00no tiff header", b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff"])
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_broken_exif_block_does_not_cost_the_image(photo, form, exif):
    data = encode(photo, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    assert np.array_equal(pixels(open_image(data)), np.asarray(photo))


def test_grey_and_bilevel():
    values = noise(5, 7)
    assert np.array_equal(pixels(to_rgb(Image.fromarray(values))), grey(values))
    bilevel = Image.fromarray(values > 127)
    assert bilevel.mode == "1"
    assert np.array_equal(pixels(to_rgb(bilevel)), grey(np.where(values > 127, 255, 0)))


@pytest.mark.parametrize("form", [None, "PNG"])
def test_rgba_is_composited_over_white(form):
    rgba = noise(16, 16, 4)
    rgba[0, :, 3], rgba[1, :, 3] = 0, 255
    image = Image.fromarray(rgba)
    result = pixels(open_image(encode(image, form) if form else image))
    alpha = rgba[..., 3:] / 255
    assert np.abs(result - (rgba[..., :3] * alpha + 255 * (1 - alpha))).max() <= 1
    assert (result[0] == 255).all() and np.array_equal(result[1], rgba[1, :, :3])


def test_grey_with_alpha_is_composited_over_white():
    image = Image.merge("LA", (Image.new("L", (3, 1), 100), Image.fromarray(np.array([[0, 255, 51]], np.uint8))))
    assert pixels(to_rgb(image))[0, :, 0].tolist() == [255, 100, 224]


@pytest.mark.parametrize("transparency", [0, bytes([0, 255, 51]), None])
def test_palette(transparency):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "L")
    image = image.convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50, 0, 100, 0])
    data = encode(image, **({} if transparency is None else {"transparency": transparency}))
    assert Image.open(io.BytesIO(data)).mode == "P"
    first = (10, 20, 30) if transparency is None else WHITE
    last = (204, 224, 204) if isinstance(transparency, bytes) else (0, 100, 0)
    assert pixels(open_image(data))[0].tolist() == [list(first), [200, 100, 50], list(last)]


def test_palette_with_an_alpha_of_its_own():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 0, 40, 50, 60, 255], "RGBA")
    image.putpixel((1, 0), 1)
    assert pixels(to_rgb(image))[0].tolist() == [list(WHITE), [40, 50, 60]]


@pytest.mark.parametrize(("mode", "color"), [("RGB", (1, 2, 3)), ("L", 7)])
def test_one_transparent_color(mode, color):
    image = Image.new(mode, (2, 1), color)
    image.putpixel((1, 0), (9, 9, 9) if mode == "RGB" else 9)
    data = encode(image, transparency=color)
    assert pixels(open_image(data))[0].tolist() == [list(WHITE), [9, 9, 9]]


def test_cmyk():
    image = Image.new("CMYK", (4, 1))
    for column, inks in enumerate([(0, 0, 0, 0), (0, 0, 0, 255), (255, 0, 0, 0), (0, 255, 255, 0)]):
        image.putpixel((column, 0), inks)
    expected = [list(WHITE), [0, 0, 0], [0, 255, 255], [255, 0, 0]]
    assert pixels(open_image(encode(image, "TIFF")))[0].tolist() == expected
    # JPEG stores CMYK inverted.
    black = open_image(encode(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "JPEG", quality=100))
    assert pixels(black).max() <= 2


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "LAB"])
def test_other_color_spaces_convert_as_pil_does(photo, mode):
    image = photo.convert(mode) if mode != "LAB" else Image.frombytes("LAB", (30, 20), noise(20, 30, 3).tobytes())
    assert np.array_equal(pixels(open_image(image)), np.asarray(image.convert("RGB")))


GRADIENT = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
GRADIENT_8_BIT = [[(int(value) + 128) // 257 for value in row] for row in GRADIENT]


@pytest.mark.parametrize(
    "source",
    [
        encode(Image.fromarray(GRADIENT), "PNG"),
        encode(Image.fromarray(GRADIENT), "TIFF"),
        encode(Image.fromarray(GRADIENT), "PPM"),
        Image.fromarray(GRADIENT.astype(">u2")),
        Image.fromarray(GRADIENT.astype(np.int32)),
        Image.fromarray(GRADIENT.astype(np.float32)),
    ],
    ids=["png", "tiff", "pgm", "big-endian", "I", "F"],
)
def test_sixteen_bit_grey_keeps_its_gradient(source):
    result = pixels(open_image(source))
    assert np.array_equal(result, grey(GRADIENT_8_BIT))
    assert len(np.unique(result)) == 256


def test_sixteen_bit_mode_is_scaled_whatever_its_values():
    assert pixels(to_rgb(Image.fromarray(np.array([[0, 128, 129, 257, 65535]], np.uint16))))[0, :, 0].tolist() == [
        0,
        0,
        1,
        1,
        255,
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 3, 255]], np.int32), [0, 3, 255]),
        (np.array([[-100, 0, 100]], np.int32), [0, 128, 255]),
        (np.array([[0, 50_000, 100_000]], np.int32), [0, 128, 255]),
        (np.array([[-5, -5, -5]], np.int32), [0, 0, 0]),
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 0.6, 255]], np.float32), [0, 1, 255]),
        (np.array([[-1, 0, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 257, 65535]], np.float32), [0, 1, 255]),
        (np.array([[0, 1e9, 2e9]], np.float32), [0, 128, 255]),
        (np.zeros((1, 3), np.float32), [0, 0, 0]),
    ],
)
def test_integer_and_float_modes(values, expected):
    image = Image.fromarray(values)
    assert image.mode in ("I", "F")
    assert pixels(to_rgb(image))[0].tolist() == grey(expected).tolist()
    assert np.array_equal(pixels(open_image(encode(image, "TIFF"))), pixels(to_rgb(image)))


def test_values_that_are_not_finite():
    with pytest.raises(UnreadableImageError, match="not finite"):
        open_image(Image.fromarray(np.array([[0.0, np.nan]], np.float32)))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_a_truncated_image_is_not_padded(photo, tmp_path, form, fraction):
    data = encode(photo, form)
    data = data[: int(fraction * len(data))]
    path = tmp_path / "cut.img"
    path.write_bytes(data)
    for source in (data, {"bytes": data, "path": None}, {"bytes": None, "path": str(path)}):
        with pytest.raises(UnreadableImageError):
            open_image(source)


def test_a_truncated_image_that_was_opened_before(photo):
    header_only = Image.open(io.BytesIO(encode(photo, "JPEG")[:-50]))
    with pytest.raises(UnreadableImageError, match="truncated"):
        open_image(header_only)


def test_damage_inside_a_png(photo):
    data = bytearray(encode(photo))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(UnreadableImageError):
        open_image(bytes(data))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (None, "got NoneType"),
        ("photo.png", "got str"),
        ({}, "neither bytes nor a path"),
        ({"bytes": None, "path": None}, "neither bytes nor a path"),
        (b"", "no bytes"),
        ({"bytes": b"", "path": "photo.png"}, "image photo.png: there are no bytes"),
        (b"not an image\n" * 50, "not an image in a format that PIL knows"),
        ({"bytes": None, "path": "no/such/photo.png"}, "image no/such/photo.png: No such file or directory"),
    ],
)
def test_what_is_no_image(source, reason):
    with pytest.raises(UnreadableImageError, match=reason) as error:
        open_image(source)
    assert "\n" not in str(error.value) and isinstance(error.value, InputError)


def test_the_message_is_one_line_and_the_same_every_time():
    messages = set()
    for _ in range(2):
        with pytest.raises(UnreadableImageError) as error:
            open_image(b"not an image" * 50)
        messages.add(str(error.value))
    assert messages == {"Cannot read image: not an image in a format that PIL knows."}


def test_a_decompression_bomb(photo, monkeypatch):
    data = encode(photo)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UnreadableImageError, match="decompression bomb"):
        open_image(data)


def test_a_compressed_text_bomb_in_a_png(photo):
    text = b"Comment\x00\x00" + zlib.compress(b"a" * 3_000_000)
    chunk = len(text).to_bytes(4, "big") + b"zTXt" + text + zlib.crc32(b"zTXt" + text).to_bytes(4, "big")
    data = encode(photo)
    with pytest.raises(UnreadableImageError, match="too large"):
        open_image(data[:33] + chunk + data[33:])


def test_a_machine_without_memory_is_not_an_unreadable_image():
    class TooLarge(Image.Image):
        def load(self):
            raise MemoryError

    with pytest.raises(MemoryError):
        open_image(TooLarge())


def test_the_error_survives_a_worker_process():
    error = pickle.loads(pickle.dumps(UnreadableImageError("Cannot read image x.png: it is truncated.")))
    assert isinstance(error, UnreadableImageError) and "x.png" in str(error)

import numpy as np
import pytest
from datasets import Dataset, Features, Image
from PIL import Image as PILImage

from hf_clipselect.encoder.image_quality import ISSUES, find_issues, issue_texts, measure_images


cleanvision = pytest.importorskip("cleanvision")


@pytest.fixture(scope="module")
def images() -> Dataset:
    """Grey and colour images with every issue, which are of one channel or of three in any case."""
    rng = np.random.default_rng(0)
    pictures = [PILImage.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)) for _ in range(30)]
    pictures += [picture.convert("L") for picture in pictures[:10]]
    pictures += [pictures[0].point(lambda value: value // 8), pictures[0].point(lambda value: 248 + value // 32)]
    pictures += [PILImage.new("RGB", (48, 40), (90, 120, 60)), PILImage.new("L", (48, 40), 128)]
    pictures += [pictures[1].resize((200, 20)), pictures[2].resize((6, 6)), pictures[2].resize((700, 600))]
    ramp = np.linspace(10, 150, 64 * 64).reshape(64, 64).astype(np.uint8)
    pictures += [PILImage.fromarray(ramp), PILImage.fromarray(ramp).convert("RGB")]
    return Dataset.from_dict({"image": pictures}, features=Features({"image": Image()}))


def found_in(images: Dataset, rows: np.ndarray, **settings: int) -> dict[str, np.ndarray]:
    undecoded = images.cast_column("image", Image(decode=False))
    measured = measure_images(undecoded, "image", rows, white=65535, is_shown=False, **settings)
    return find_issues(measured)


@pytest.mark.parametrize("num_threads", [None, 0, 3])
def test_the_issues_are_those_that_cleanvision_itself_finds(images, num_threads):
    found = found_in(images, np.arange(len(images)), num_threads=num_threads)
    lab = cleanvision.Imagelab(hf_dataset=images, image_key="image", verbose=False)
    lab.find_issues({name: {} for name in ISSUES}, n_jobs=1, verbose=False)
    for name, has_it in found.items():
        np.testing.assert_array_equal(has_it, lab.issues[f"is_{name}_issue"], err_msg=name)
        assert has_it.any() and not has_it.all(), name


def test_some_rows_alone(images):
    rows = np.array([0, 1, 40, 41, 42, -1 % len(images)])
    texts = issue_texts(found_in(images, rows, num_threads=0))
    assert texts.tolist() == ["", "", "dark", "light", "low information", "blurry, odd size"]

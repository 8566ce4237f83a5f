import re

import numpy as np
import pytest
from datasets import Dataset, Features, Image
from PIL import Image as PILImage

from hf_clipselect.embedded import load_digits_dataset
from hf_clipselect.errors import InputError
from hf_clipselect.evaluation import robustness
from hf_clipselect.evaluation.robustness import add_label_noise, add_near_duplicates, corrupt_labels, near_duplicate


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_digits_dataset("train").select(range(100)).flatten_indices()


def stored_bytes(dataset: Dataset) -> list[bytes]:
    return [value["bytes"] for value in dataset.cast_column("image", Image(decode=False))["image"]]


def test_exact_counts_and_originals(digits):
    result = add_near_duplicates(digits, rate=0.25, seed=1)
    assert result.column_names == ["image", "label", "duplicate_of"] and len(result) == 125
    assert result["duplicate_of"][:100] == [-1] * 100
    originals = result["duplicate_of"][100:]
    assert len(set(originals)) == 25 and set(originals) <= set(range(100))
    assert result["label"][100:] == [digits["label"][row] for row in originals]
    assert stored_bytes(result)[:100] == stored_bytes(digits)
    assert not set(stored_bytes(result)[100:]) & set(stored_bytes(digits))
    # 0.025 * 100 = 2.5 in decimals rounds up.
    assert [len(add_near_duplicates(digits, rate=rate, seed=1)) for rate in (0, 0.025, 1)] == [100, 103, 200]


def test_the_seed_decides_and_a_higher_rate_adds(digits):
    first, again, other = (add_near_duplicates(digits, rate=0.1, seed=seed) for seed in (1, 1, 2))
    assert stored_bytes(first) == stored_bytes(again) and first["duplicate_of"] != other["duplicate_of"]
    more = add_near_duplicates(digits, rate=0.3, seed=1)
    assert stored_bytes(more)[:110] == stored_bytes(first)
    assert more["duplicate_of"][:110] == first["duplicate_of"][:]


def test_a_duplicate_is_nearer_to_its_original_than_any_other_digit(digits):
    result = add_near_duplicates(digits, rate=0.5, seed=0)
    pixels = np.stack([np.asarray(image, dtype=float).ravel() for image in result["image"]])
    distances = np.linalg.norm(pixels[100:, None] - pixels[None, :100], axis=2)
    assert (distances.argmin(axis=1) == result["duplicate_of"][100:]).mean() > 0.9


@pytest.mark.parametrize(("mode", "kept"), [("L", "L"), ("RGB", "RGB"), ("P", "RGB"), ("RGBA", "RGB")])
def test_one_image(mode, kept):
    image = PILImage.effect_noise((40, 30), 80).convert("RGB").resize((40, 30)).convert(mode)
    rng = np.random.default_rng(0)
    copies = [near_duplicate(image, rng=rng) for _ in range(20)]
    assert {(copy.mode, copy.size) for copy in copies} == {(kept, (40, 30))}
    levels = np.array([np.asarray(copy.convert("L"), dtype=float).mean() for copy in copies])
    level = np.asarray(image.convert("RGB").convert("L"), dtype=float).mean()
    assert abs(levels / level - 1).max() < 0.12 and levels.std() > 0.01 * level
    assert len({copy.tobytes() for copy in copies}) == 20


def test_wrong_labels_are_copied_with_their_rows(digits):
    result = add_near_duplicates(corrupt_labels(digits, rate=0.5, seed=0), rate=0.4, seed=0)
    for row in range(100, 140):
        original = result[result[row]["duplicate_of"]]
        assert {**result[row], "image": None, "duplicate_of": None} == {
            **original,
            "image": None,
            "duplicate_of": None,
        }


def test_input_that_does_not_fit(digits):
    for rate in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match=r"rate .*\[0, 1\], got"):
            add_near_duplicates(digits, rate=rate, seed=0)
    with pytest.raises(InputError, match="'label' is not an image column"):
        add_near_duplicates(digits, image_column="label", rate=0.1, seed=0)
    with pytest.raises(InputError, match="has a column 'duplicate_of'.*rename"):
        add_near_duplicates(add_near_duplicates(digits, rate=0.1, seed=0), rate=0.1, seed=0)
    junk = Dataset.from_dict({"image": [{"bytes": b"junk", "path": None}]}, features=Features({"image": Image()}))
    with pytest.raises(InputError, match="image of row 0 cannot be decoded .* before rows are duplicated"):
        add_near_duplicates(junk, rate=1, seed=0)


def test_the_example_of_the_docstring_makes_a_dirty_dataset():
    [code] = re.findall(r"```python\n(.*?)```", robustness.__doc__, flags=re.DOTALL)
    names = {}
    exec(code, names)
    dirty = names["dirty"]
    assert dirty.column_names == ["image", "label", "is_noisy", "clean_label", "corruption", "duplicate_of"]
    # 20 % of 1,297 rows, 10 % of them, and 10 % more.
    assert len(dirty) == 1297 + 130
    first = dirty.select(range(1297))
    assert sum(first["is_noisy"]) == 259 and sum(name != "none" for name in first["corruption"]) == 130


def test_a_seed_below_zero_is_refused(digits):
    with pytest.raises(InputError, match="seed must be a whole number in .*, got -1"):
        add_near_duplicates(digits, rate=0.1, seed=-1)
    with pytest.raises(InputError, match="seed must be a whole number in .*, got -1"):
        add_label_noise(digits["label"], 10, rate=0.1, seed=-1)

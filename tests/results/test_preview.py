"""The picture of a dataset card: of published rows alone, small, and the same for the same rows."""

import dataclasses
import io

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image
from made_results import make_result
from PIL import Image as PILImage

from hf_clipselect.hub import PREVIEW
from hf_clipselect.results.report import draw_preview
from hf_clipselect.results.scores_table import column_values


NAMES = ["rose", "tulip", "a very long name of a flower that hardly anybody has ever seen", "花"]
SHADES = 6


def shade(row: int) -> tuple[int, int, int]:
    """A colour for each row, far from those of other rows and from what is drawn around images."""
    return 40 * (row % SHADES), 40 * (row // SHADES % SHADES), 40 * (row // SHADES**2 % SHADES) + 20


def make_dataset(num_rows: int, size: int = 16, *, noise: bool = False) -> Dataset:
    features = Features({"image": Image(), "label": ClassLabel(names=NAMES)})
    rng = np.random.default_rng(0)
    images = [
        PILImage.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8))
        if noise
        else PILImage.new("RGB", (size, size), shade(row))
        for row in range(num_rows)
    ]
    return Dataset.from_dict({"image": images, "label": [row % 4 for row in range(num_rows)]}, features=features)


def rows_shown(picture: bytes, num_rows: int) -> set[int]:
    """The rows whose colour fills a good part of an image's place in the picture."""
    pixels = np.asarray(PILImage.open(io.BytesIO(picture)).convert("RGB"))[::8, ::8].reshape(-1, 3).astype(int)
    is_row = {row: (np.abs(pixels - shade(row)).max(axis=1) <= 6).sum() for row in range(num_rows)}
    return {row for row, count in is_row.items() if count > 80}


def expected_rows(result) -> set[int]:
    """Ten of the kept rows, the best of each class in turn, and the five most suspect ones, the slow way."""
    table = result.scores.to_pandas()
    kept = table[table["selected_50"]]
    by_class = [group.sort_values("selection_score_50", ascending=False) for _, group in kept.groupby("label")]
    first = [
        int(group.iloc[place]["source_index"]) for place in range(10) for group in by_class if place < len(group)
    ][:10]
    wrong = kept[kept["clean_label"] != kept["label"]].sort_values("label_error_probability", ascending=False)
    return {*first, *wrong["source_index"][:5].astype(int)}


def test_it_shows_published_rows_alone(tmp_path):
    dataset = make_dataset(60)
    result = make_result(dataset, (0.5, 0.9), noise=True, report=True)
    result.save(tmp_path, dataset)
    picture = (tmp_path / PREVIEW).read_bytes()
    shown = rows_shown(picture, len(dataset))
    assert shown == expected_rows(result) and len(shown) > 10
    assert shown <= set(result.selected.tolist())
    assert PILImage.open(io.BytesIO(picture)).getexif() == {}
    # A selection of rows that were considered, in a dataset of other rows too, shows the same images.
    considered = make_result(dataset, (0.5,), rows=np.arange(10, 50), noise=True, report=True)
    considered.save(tmp_path / "all", dataset)
    considered.save(tmp_path / "some", dataset.select(range(10, 50)))
    assert (tmp_path / "all" / PREVIEW).read_bytes() == (tmp_path / "some" / PREVIEW).read_bytes()
    assert rows_shown((tmp_path / "all" / PREVIEW).read_bytes(), len(dataset)) <= set(considered.selected.tolist())


def test_it_is_the_same_for_the_same_rows_and_goes_with_the_images(tmp_path):
    dataset = make_dataset(40)
    result = make_result(dataset, (0.5,), noise=True, report=True)
    result.save(tmp_path, dataset)
    first = (tmp_path / PREVIEW).read_bytes()
    card = (tmp_path / "README.md").read_text()
    assert f"]({PREVIEW})" in card and "Images of dropped rows are not published here" in card
    result.save(tmp_path, dataset)
    assert (tmp_path / PREVIEW).read_bytes() == first
    result.save(tmp_path)  # scores alone
    assert not (tmp_path / PREVIEW).exists() and PREVIEW not in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(("size", "noise"), [(3, True), (400, True), (160, False)])
def test_it_is_small(size, noise):
    dataset = make_dataset(40, size, noise=noise)
    result = make_result(dataset, (0.5,), noise=True, report=True)
    picture = draw_preview(result.scores, result.apply(dataset), result.source, "50")
    assert len(picture) <= 300_000 and PILImage.open(io.BytesIO(picture)).width <= 1000


def test_many_classes_are_spread_and_a_single_row_is_enough():
    names = [f"class {number}" for number in range(60)]
    features = Features({"image": Image(), "label": ClassLabel(names=names)})
    images = [PILImage.new("RGB", (16, 16), shade(row)) for row in range(60)]
    dataset = Dataset.from_dict({"image": images, "label": list(range(60))}, features=features)
    result = make_result(dataset, (1.0,), report=True)
    shown = rows_shown(draw_preview(result.scores, result.apply(dataset), result.source, "100"), 60)
    spread = set(np.linspace(0, 59, 10).astype(int).tolist())
    assert spread <= shown
    one = make_result(dataset, (0.017,), report=True)
    assert len(one.selected) == 1
    assert rows_shown(draw_preview(one.scores, one.apply(dataset), one.source, "1_7"), 60) == set(
        one.selected.tolist()
    )


def test_captions_are_those_of_published_rows(tmp_path):
    """A suspect caption stands without the one that fits better, which may be that of a row that is not published."""
    dataset = make_dataset(40)
    result = make_result(dataset, (0.5,), report=True)
    scores = result.scores.add_column("better_caption", np.arange(40)[::-1].copy())
    source = dataclasses.replace(result.source, label_column="text")
    captioned = dataset.add_column("text", [f"caption {row}" for row in range(40)])
    pictures = []
    for better in (scores, result.scores.add_column("better_caption", np.zeros(40, np.int64))):
        subset = captioned.select(result.selected)
        pictures.append(draw_preview(better, subset, source, "50"))
    assert pictures[0] == pictures[1]
    other = captioned.remove_columns("text").add_column("text", [f"other {row}" for row in range(40)])
    subset = other.select(result.selected)
    assert draw_preview(scores, subset, source, "50") != pictures[0]
    assert column_values(scores, "better_caption")[0] == 39

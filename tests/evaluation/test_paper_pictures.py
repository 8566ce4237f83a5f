"""Pictures of the paper's figures 3, 8 and 9: what they show is what was selected and damaged."""

import re

import numpy as np
import pytest
from PIL import Image as PILImage
from recipe_files import run_recipe

from hf_clipselect.data import read_images
from hf_clipselect.data.source import load_source
from hf_clipselect.evaluation.paper_pictures import draw_pictures
from hf_clipselect.evaluation.robustness import CORRUPTIONS, add_label_noise


NUM_ROWS, SEED = 300, 3


@pytest.fixture(scope="module")
def images():
    return read_images(*load_source("embedded/digits", split="train"), max_samples=NUM_ROWS)


@pytest.fixture(scope="module")
def pictures(images):
    return draw_pictures(images, model_name="embedded/tiny-clip", seed=SEED)


@pytest.fixture(scope="module")
def labels(images):
    return add_label_noise(images.labels, 10, rate=0.2, seed=SEED)


@pytest.mark.slow
def test_figure_3_shows_the_class_with_most_wrong_labels(pictures, images, labels):
    wrong = labels != images.labels
    label = np.bincount(labels[wrong]).argmax()
    first, by_sds, by_sas, by_both = pictures["figure3"].axes
    assert first.get_title() == f"all rows: {(labels == label).sum()}, {(wrong & (labels == label)).sum()} wrong"
    assert images.class_names[label] in pictures["figure3"].get_suptitle()
    # The paper's reading of its figure 3: diversity alone takes wrong labels, alignment does not.
    wrong_of = {axes: int(re.search(r"(\d+) wrong", axes.get_title())[1]) for axes in (by_sds, by_sas, by_both)}
    assert wrong_of[by_sds] > max(wrong_of[by_sas], wrong_of[by_both])
    for axes in (by_sds, by_sas, by_both):
        assert sum(len(line.get_xdata()) for line in axes.lines) == (labels == label).sum()
        shown = {line.get_marker(): 0 for line in axes.lines}
        for line in axes.lines[2:]:  # of the kept rows
            shown[line.get_marker()] += len(line.get_xdata())
        kept = int(re.search(r": (\d+),", axes.get_title())[1])
        assert (shown["o"], shown["x"]) == (kept - wrong_of[axes], wrong_of[axes])


@pytest.mark.slow
def test_figure_8_shows_each_damage_of_images_of_different_classes(pictures, images):
    grid = np.array(pictures["figure8"].axes).reshape(3, 1 + len(CORRUPTIONS))
    assert [axes.get_title() for axes in grid[0]] == ["as it is", *(name.replace("_", " ") for name in CORRUPTIONS)]
    for line in grid:
        pixels = [axes.images[0].get_array() for axes in line]
        assert all((pixels[0] != damaged).any() for damaged in pixels[1:])
        assert all((shown[..., 0] == shown[..., 2]).all() for shown in pixels)  # digits are grey, and stay so


@pytest.mark.slow
def test_figure_9_frames_the_wrong_labels_that_it_shows(pictures, images, labels):
    shown = {np.asarray(image.convert("RGB")).tobytes(): row for row, image in enumerate(images.dataset["image"])}
    assert len(shown) == NUM_ROWS
    framed = 0
    for axes in pictures["figure9"].axes:
        if not axes.images:
            continue
        row = shown[np.asarray(axes.images[0].get_array()).tobytes()]
        is_wrong = labels[row] != images.labels[row]
        assert axes.axison == is_wrong
        assert axes.get_title() == (images.class_names[images.labels[row]] if is_wrong else "")
        framed += is_wrong
    assert framed > 0


@pytest.mark.slow
def test_the_recipe_writes_three_pictures(tmp_path):
    done = run_recipe("draw_figures.py", "--max_train_samples", "200", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    names = ["figure3.png", "figure8.png", "figure9.png"]
    assert done.stdout.splitlines() == [f"figures_output/{name}" for name in names]
    for name in names:
        with PILImage.open(tmp_path / "figures_output" / name) as picture:
            assert picture.width == 1040


def test_the_recipe_refuses_bad_input_in_a_line(tmp_path):
    done = run_recipe("draw_figures.py", "--label_column_name", "class", cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "--label_column_name class" in done.stderr and not any(tmp_path.iterdir())

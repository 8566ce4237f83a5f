"""Wrong labels that were put in are found: the counts are those of the noise, the picture those of the rows."""

import re

import numpy as np
import pytest
from PIL import Image
from recipe_files import run_recipe


NUM_ROWS, NUM_CLASSES, NUM_WRONG = 200, 4, 40


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """Four classes that stand far apart, so that every wrong label can be found; class c is a grey of its own."""
    rng = np.random.default_rng(0)
    labels = np.arange(NUM_ROWS) % NUM_CLASSES
    texts = np.eye(NUM_CLASSES, 16)
    embeds = texts[labels] + 0.05 * rng.normal(size=(NUM_ROWS, 16))
    images = np.broadcast_to((60 * labels[:, None, None, None] + 20), (NUM_ROWS, 8, 8, 3)).astype(np.uint8)
    path = tmp_path_factory.mktemp("features") / "made.npz"
    split = {"image_embeds": embeds, "labels": labels, "images": images}
    np.savez(
        path,
        class_text_embeds=texts,
        **{f"{name}_{key}": value for name in ("train", "test") for key, value in split.items()},
    )
    return path


def test_the_recipe_finds_what_was_made_wrong(features, tmp_path):
    done = run_recipe(
        "draw_suspects.py", "--features", features, "--class_names", "a", "b", "c", "d", "--num", "3", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == [f"figures_output/cifar10_suspects/{n}" for n in ("suspects.png", "tables.md")]
    text = (tmp_path / "figures_output/cifar10_suspects/tables.md").read_text()
    counts = dict(re.findall(r"^\| (.*?) \| (\d+) \|$", text, flags=re.MULTILINE))
    assert counts == {
        "rows": f"{NUM_ROWS}",
        "labels made wrong": f"{NUM_WRONG}",
        "rows whose label looks wrong": f"{NUM_WRONG}",
        "of these wrong": f"{NUM_WRONG}",
        f"of the first {NUM_WRONG} wrong": f"{NUM_WRONG}",
        f"of the first {NUM_WRONG} proposed the right class": f"{NUM_WRONG}",
    }
    with Image.open(tmp_path / "figures_output/cifar10_suspects/suspects.png") as picture:
        assert picture.width > 3 * 144
        greys = {color for _, color in picture.convert("RGB").getcolors(1 << 16)}
    assert greys & {(20, 20, 20), (80, 80, 80), (140, 140, 140), (200, 200, 200)}


def test_the_recipe_refuses_names_of_other_classes_in_a_line(features, tmp_path):
    done = run_recipe("draw_suspects.py", "--features", features, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "4 classes with a text, got 10 names" in done.stderr

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "feature_noise.py"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """Four classes around their texts, of which one has none."""
    rng = np.random.default_rng(0)
    texts = np.eye(4, 16, dtype=np.float16)
    labels = {"train": np.arange(240) % 4, "test": np.arange(80) % 4}
    images = {
        split: (texts[of_split] + 0.2 * rng.normal(size=(len(of_split), 16))).astype(np.float16)
        for split, of_split in labels.items()
    }
    texts[2] = np.nan
    path = tmp_path_factory.mktemp("features") / "features.npz"
    np.savez(
        path, class_text_embeds=texts, class_has_text=np.array([True, True, False, True]),
        train_image_embeds=images["train"], train_labels=labels["train"], test_image_embeds=images["test"],
        test_labels=labels["test"],
    )  # fmt: skip
    return path


def run(*arguments):
    return subprocess.run([sys.executable, str(RECIPE), *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize("noise", ["symmetric", "pairwise"])
def test_ours_keep_fewer_wrong_labels_than_random_rows(features, noise):
    done = run(features, "--without_cleanlab", "--seeds", 0, 1, "--noise", noise)
    assert done.returncode == 0, done.stderr
    rows = dict(re.findall(r"^\| (random|diverse|clean|released) \|(.*)\|$", done.stdout, re.MULTILINE))
    wrong = {name: [float(cell) for cell in row.split("|")[:4]] for name, row in rows.items()}
    assert set(wrong) == {"random", "diverse", "clean", "released"}
    assert max(wrong["diverse"][:3]) < 2 < 10 < min(wrong["random"])


def test_a_missing_package_names_the_extra(features):
    if importlib.util.find_spec("cleanlab") is not None:
        pytest.skip("cleanlab is installed")
    done = run(features, "--seeds", 0)
    assert done.returncode == 2
    assert 'pip install "hf_clipselect[peers]", or pass --without_cleanlab' in done.stderr


def test_a_file_of_something_else_is_told(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for path in (tmp_path / "nowhere.npz", tmp_path / "other.npz"):
        done = run(path)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("error: ")


def test_a_rate_out_of_range_is_told_in_one_line(features):
    done = run(features, "--noise_rate", 2, "--without_cleanlab")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: rate is the fraction of labels to change")

"""Sweeps: what they measure against the same by hand, that nothing is computed twice, and what bad input gets."""

import re
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.csv as pc
import pytest
import torch
import yaml
from forked_recipes import ForkedRecipe
from PIL import Image as PILImage
from recipe_files import RECIPES, run_recipe
from sklearn.linear_model import LogisticRegression
from small_sweeps import cell_files, sweep_of, write_features

from hf_clipselect import select_embeddings
from hf_clipselect.embedded import load_digits_dataset
from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.baselines import BASELINES
from hf_clipselect.evaluation.comparison import (
    METHODS,
    SweepArguments,
    features_setting,
    parse_sweep_arguments,
    run_sweep,
    write_tsne,
)
from hf_clipselect.evaluation.comparison.cells import Cells, code_digest, digest_of
from hf_clipselect.evaluation.comparison.peers import (
    check_facility_location_memory,
    check_installed,
    cleanlab_issue_scores,
    cleanlab_scores,
    is_installed,
    out_of_fold_probabilities,
)
from hf_clipselect.evaluation.comparison.small_resnet import (
    SmallResNet,
    accuracy_of,
    embed_images,
    shifted_and_mirrored,
    train_small_resnet,
)
from hf_clipselect.evaluation.comparison.sweep_tables import markdown, read_rows
from hf_clipselect.evaluation.cost import measured
from hf_clipselect.evaluation.digits_network import digit_pixels, digits_accuracy
from hf_clipselect.evaluation.robustness import add_label_noise
from hf_clipselect.selection import class_quotas


RESULTS = sorted(path.parent for path in (RECIPES / "results").glob("*/results.csv"))


@pytest.fixture(scope="module")
def features_file(tmp_path_factory):
    return write_features(tmp_path_factory.mktemp("blobs") / "features.npz")


def one(rows, **wanted):
    [row] = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return row


def test_a_sweep_of_embeddings_measures_what_is_measured_by_hand(features_file, tmp_path):
    rows = run_sweep(sweep_of(features_file, tmp_path, seeds=[0, 1]))
    assert len(rows) == 2 * (3 * 2 + 1)  # two seeds: three methods at two ratios, and all rows
    with np.load(features_file) as arrays:
        kept = np.array([0, 1, 3])  # the classes that have a text
        use, of_test = np.isin(arrays["train_labels"], kept), np.isin(arrays["test_labels"], kept)
        images, clean = (
            arrays["train_image_embeds"][use].astype(np.float32),
            np.searchsorted(kept, arrays["train_labels"][use]),
        )
        test = (
            arrays["test_image_embeds"][of_test].astype(np.float32),
            np.searchsorted(kept, arrays["test_labels"][of_test]),
        )
        texts = arrays["class_text_embeds"][kept].astype(np.float32)
    for seed in (0, 1):
        labels = add_label_noise(clean, 3, rate=0.2, seed=seed)
        wrong = labels != clean
        for ratio in (0.2, 0.5):
            result = select_embeddings(images, texts, labels, selection_ratio=ratio, objective="diverse", seed=seed)
            row = one(rows, method="diverse", selection_ratio=ratio, seed=seed)
            probe = LogisticRegression(C=1, max_iter=5000).fit(images[result.selected], labels[result.selected])
            assert row["accuracy"] == pytest.approx(probe.score(*test), abs=1e-12)
            assert row["num_kept"] == len(result.selected) == round(ratio * 180)
            assert row["num_test_rows"] == len(test[1])
            assert row["noise_share"] == pytest.approx(wrong[result.selected].mean())
            assert row["noise_kept"] == pytest.approx(wrong[result.selected].sum() / wrong.sum())
            assert row["class_max_min"] == pytest.approx(
                np.bincount(labels[result.selected]).max() / np.bincount(labels[result.selected]).min()
            )
            margin = np.array(result.scores["margin"])
            pairs = margin[~wrong][:, None] - margin[wrong]
            assert row["noise_auroc"] == pytest.approx(((pairs > 0) + (pairs == 0) / 2).mean())
        everything = one(rows, method="full", seed=seed)
        assert (everything["selection_ratio"], everything["num_kept"]) == (1.0, 180)
        assert everything["noise_share"] == pytest.approx(wrong.mean()) and everything["wall_s"] < 0.1


def test_a_sweep_of_digits_trains_the_network_on_what_is_kept(tmp_path):
    arguments = SweepArguments(methods=["moderate"], selection_ratio=[0.3], seeds=[3], output_dir=str(tmp_path))
    row = one(run_sweep(arguments), method="random")
    train = load_digits_dataset("train")
    labels = add_label_noise(train["label"][:], 10, rate=0.2, seed=3)
    order = np.random.default_rng([3, 4]).permutation(1297)
    quotas = class_quotas(labels, 389, balance="proportional", num_classes=10)
    of_classes = [np.flatnonzero(labels == label) for label in range(10)]
    first = [rows[np.argsort(order[rows])][:quota] for rows, quota in zip(of_classes, quotas, strict=True)]
    kept = np.sort(np.concatenate(first))
    assert row["noise_share"] == pytest.approx((labels != np.array(train["label"][:]))[kept].mean())
    assert row["accuracy"] == digits_accuracy(digit_pixels(train)[kept], labels[kept], seed=3)
    assert row["num_test_rows"] == 500
    assert np.isnan(one(run_sweep(arguments), method="full")["noise_auroc"])


@pytest.mark.slow
def test_damaged_digits_are_counted_and_seen_by_the_encoder(tmp_path):
    flags = {
        "methods": ["k_center"],
        "selection_ratio": [0.3],
        "seeds": [0],
        "noise_rate": [0.0],
        "output_dir": str(tmp_path),
    }
    rows = run_sweep(SweepArguments(corruption_rate=[0.0, 0.2], **flags))
    shares = {row["corruption_rate"]: row["corrupted_share"] for row in rows if row["method"] == "full"}
    assert shares == {0.0: 0.0, 0.2: pytest.approx(259 / 1297)}
    assert one(rows, method="k_center", corruption_rate=0.2)["corrupted_share"] > 0.25  # far from all others
    assert all(row["noise_share"] == 0 for row in rows)


@pytest.mark.slow
def test_a_killed_sweep_goes_on_and_computes_nothing_twice(features_file, tmp_path):
    flags = f"--dataset_name {features_file} --methods moso random --selection_ratio 0.3 0.6 --seeds 0 1".split()
    killed = ForkedRecipe("compare.py", *flags, "--output_dir", "killed", cwd=tmp_path)
    killed.kill_when(lambda: len(list((tmp_path / "killed" / "cells").glob("*.npz"))) >= 3)
    before = cell_files(tmp_path / "killed")
    told = run_sweep(parse_sweep_arguments([*flags, "--output_dir", str(tmp_path / "killed")]))
    whole = run_sweep(parse_sweep_arguments([*flags, "--output_dir", str(tmp_path / "whole")]))
    after = cell_files(tmp_path / "killed")
    assert len(before) < len(after) and {name: after[name] for name in before} == before
    assert set(after) == set(cell_files(tmp_path / "whole"))
    costs = {"wall_s", "cpu_s", "peak_mb", "train_seconds"}
    for ours, theirs in zip(told, whole, strict=True):
        for name in set(ours) - costs:
            assert ours[name] == theirs[name] or (np.isnan(ours[name]) and np.isnan(theirs[name])), name
    done = run_recipe("compare.py", *flags, "--output_dir", "killed", "--selection_ratio", 0.3, 0.6, 0.8, cwd=tmp_path)
    # For the new ratio and each seed: two selections, and two trainings with each of two probes.
    assert done.returncode == 0 and "12 results were computed" in done.stderr
    assert {name: cell_files(tmp_path / "killed")[name] for name in after} == after
    assert re.search(r"^\| `moso` \|( [\d.*]+ ± \d+\.\d \|){3}$", done.stdout, re.MULTILINE), done.stdout
    for name in ("accuracy_probe_C_1.png", "cost_probe_C_100.png", "noise_share.png"):
        with PILImage.open(tmp_path / "killed" / name) as plot:
            assert plot.width >= 800


def test_what_decides_a_result_is_in_its_key(features_file, tmp_path):
    def computed(**changes):
        before = len(cell_files(tmp_path)) if (tmp_path / "cells").is_dir() else 0
        run_sweep(sweep_of(features_file, tmp_path, methods=["moderate"], selection_ratio=[0.5], **changes))
        return len(cell_files(tmp_path)) - before

    # Embeddings; selections of moderate, random and all rows; their trainings.
    assert computed() == 1 + 3 + 3
    assert computed() == 0
    assert computed(probe_c=[1.0, 10.0]) == 3
    assert computed(noise_rate=[0.1]) == 3 + 3
    assert computed(noise_kind=["pairwise"]) == 3 + 3
    assert computed(seeds=[1]) == 3 + 3
    assert computed(num_val_rows=5) == 0  # only Glister has them


def test_a_damaged_cell_is_computed_again(tmp_path):
    cells, key = Cells(tmp_path), {"what": "test", "seed": 0}
    assert cells.find(key) is None
    cells.store(key, {"rows": np.arange(3), "accuracy": 0.5})
    assert cells.find(key)["rows"].tolist() == [0, 1, 2] and cells.find({**key, "seed": 1}) is None
    [path] = tmp_path.iterdir()
    content = path.read_bytes()
    for broken in (content[: len(content) // 2], b"", b"PK\x03\x04" + bytes(50)):
        path.write_bytes(broken)
        assert cells.find(key) is None


def test_digests_tell_shapes_types_and_borders_apart():
    rows = np.arange(6)
    digests = [
        digest_of(*contents)
        for contents in (
            (rows,),
            (rows.reshape(2, 3),),
            (rows.astype(np.int32),),
            (rows[:3], rows[3:]),
            ("ab", "c"),
            ("a", "bc"),
        )
    ]
    assert len(set(digests)) == len(digests)
    assert digest_of(rows[::2]) == digest_of(np.array([0, 2, 4]))
    assert code_digest() != code_digest("embedded/digits.py") == code_digest("embedded/digits.py")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of a block is known on Linux alone")
def test_cost_counts_time_and_the_memory_of_the_block():
    with measured() as large:
        np.ones(30_000_000).sum()  # 240 MB that are given back
    with measured() as small:
        time.sleep(0.05)
    assert 200 < large.peak_mb < 400 and small.peak_mb < 50
    assert large.cpu_s > 0.01 and small.wall_s >= 0.05 > small.cpu_s
    both = large + small
    assert both.wall_s == large.wall_s + small.wall_s and both.peak_mb == large.peak_mb


def test_glister_validates_on_rows_that_it_does_not_keep(features_file, tmp_path):
    arguments = sweep_of(features_file, tmp_path, methods=["glister"], selection_ratio=[0.5, 0.9], num_val_rows=18)
    rows = run_sweep(arguments)
    assert one(rows, method="glister", selection_ratio=0.9)["num_kept"] == 162  # all that there are
    assert one(rows, method="glister", selection_ratio=0.5)["num_kept"] == 90
    with pytest.raises(InputError, match="may not keep its 19 validation rows.* asks for 162 of 180"):
        run_sweep(sweep_of(features_file, tmp_path, methods=["glister"], selection_ratio=[0.9], num_val_rows=19))
    with pytest.raises(InputError, match="needs validation rows: set --num_val_rows"):
        run_sweep(sweep_of(features_file, tmp_path, methods=["glister"], num_val_rows=0))


@pytest.mark.slow
def test_photographs_train_a_network_and_t_sne_shows_what_it_makes_of_the_test_rows(tmp_path, monkeypatch):
    # Sixty steps suffice for three colours.
    monkeypatch.setattr(features_setting, "train_small_resnet", partial(train_small_resnet, num_steps=60))
    rng = np.random.default_rng(0)
    labels = {"train": np.arange(120) % 3, "test": np.arange(30) % 3}
    # Three colours with noise: a network learns them in a few steps.
    images = {
        split: np.clip(
            255 * np.eye(3)[of_split][:, None, None, :] + rng.normal(0, 60, (len(of_split), 4, 4, 3)), 0, 255
        )
        for split, of_split in labels.items()
    }
    arrays = {f"{split}_images": pixels.astype(np.uint8) for split, pixels in images.items()}
    arrays |= {f"{split}_labels": of_split for split, of_split in labels.items()}
    arrays |= {f"{split}_image_embeds": pixels.mean(axis=(1, 2)) for split, pixels in images.items()}
    np.savez(tmp_path / "colours.npz", class_text_embeds=np.eye(3), **arrays)
    arguments = sweep_of(tmp_path / "colours.npz", tmp_path, methods=["robust"], selection_ratio=[0.5])
    rows = run_sweep(arguments)
    assert {(row["data"], row["model"]) for row in rows} == {("colours", "small_resnet")}
    kept = one(rows, method="robust")
    assert kept["accuracy"] > 0.95 and kept["noise_share"] == 0
    model = train_small_resnet(arrays["train_images"], labels["train"], num_classes=3, seed=1, num_steps=30)
    again = train_small_resnet(arrays["train_images"], labels["train"], num_classes=3, seed=1, num_steps=30)
    embeds = embed_images(model, arrays["test_images"])
    assert embeds.shape == (30, 64) and np.array_equal(embeds, embed_images(again, arrays["test_images"]))
    before = len(cell_files(tmp_path))
    written = write_tsne(arguments, 0.5)
    assert {path.name for path in written} == {"tsne.md", "dunn_index.csv", "tsne.png"} and all(
        map(Path.is_file, written)
    )
    assert len(cell_files(tmp_path)) == before + 3 * len(arguments.seeds)  # what is kept was there
    dunn, after = (tmp_path / "dunn_index.csv").read_bytes(), cell_files(tmp_path)
    write_tsne(arguments, 0.5)  # trains nothing anew
    assert cell_files(tmp_path) == after and (tmp_path / "dunn_index.csv").read_bytes() == dunn
    lines = pc.read_csv(tmp_path / "dunn_index.csv").to_pylist()
    assert [line["method"] for line in lines] == ["full", "random", "robust"]
    assert all(line["embeddings"] > 0 and line["t-SNE"] > 0 for line in lines)


def test_the_dunn_index_is_also_of_the_papers_rows(features_file, tmp_path):
    arguments = sweep_of(features_file, tmp_path, methods=["paper_loop", "paper", "herding"], selection_ratio=[0.5])
    write_tsne(arguments, 0.5)
    lines = pc.read_csv(tmp_path / "dunn_index.csv").to_pylist()
    assert [line["method"] for line in lines] == ["full", "random", "robust", "paper_loop", "paper"]


def test_a_small_resnet_is_its_formula_layer_by_layer():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SmallResNet(num_classes=2, width=2).eval()
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    with torch.no_grad():
        pixels = torch.from_numpy(image[0].astype(np.float32).transpose(2, 0, 1)[None] / 255 - 0.45) / 0.25
        stem, norm, _, *blocks = model.body
        pixels = torch.relu(norm(stem(pixels)))
        shapes = [pixels.shape]
        for block in blocks:
            first, first_norm, _, second, second_norm = block.residual
            within = second_norm(second(torch.relu(first_norm(first(pixels)))))
            pixels = torch.relu(block.shortcut(pixels) + within)
            shapes.append(pixels.shape)
        expected = pixels.sum(dim=(2, 3)) / (pixels.shape[2] * pixels.shape[3])
    assert shapes == [(1, 2, 8, 8), (1, 2, 8, 8), (1, 4, 4, 4), (1, 8, 2, 2)]
    assert embed_images(model, image) == pytest.approx(expected.numpy(), abs=1e-6)
    assert accuracy_of(model, image, model.head(expected).argmax(dim=1).numpy()) == 1.0


def test_every_augmented_image_is_a_shift_or_its_mirror():
    rng = np.random.default_rng(0)
    images = rng.integers(1, 256, (40, 16, 16, 3), dtype=np.uint8)
    shifts = set()
    for image, shown in zip(images, shifted_and_mirrored(images, rng), strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
        found = [
            (top, left, mirrored)
            for top in range(5)
            for left in range(5)
            for mirrored in (False, True)
            if np.array_equal(shown, padded[top : top + 16, left : left + 16][:, :: -1 if mirrored else 1])
        ]
        assert len(found) == 1
        shifts.add(found[0])
    assert {mirrored for *_, mirrored in shifts} == {False, True} and len(shifts) > 15
    tiny = rng.integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)  # an eighth of four pixels is none
    assert all(
        np.array_equal(shown, image) or np.array_equal(shown, image[:, ::-1])
        for image, shown in zip(tiny, shifted_and_mirrored(tiny, rng), strict=True)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["diverse", "best"]}, "no method 'best'; choose from all, robust, diverse, clean, .*full"),
        ({"selection_ratio": [0.2, 1.5]}, r"\(0, 1\], got 1.5"),
        ({"selection_ratio": []}, "empty"),
        ({"noise_rate": [1.0]}, r"--noise_rate .* \[0, 1\), got 1"),
        ({"noise_kind": ["asymmetric"]}, "--noise_kind must be one of symmetric, pairwise, class_dependent"),
        ({"corruption_severity": 6}, "1, 2, 3, 4, 5"),
        ({"seeds": [1, 1]}, "--seeds must name at least one value, and each once"),
        ({"probe_c": [0.0]}, "--probe_c must be numbers above 0"),
        ({"num_val_rows": -1}, "--num_val_rows must be at least 0"),
    ],
)
def test_bad_arguments_are_told_with_the_choices(changes, message):
    with pytest.raises(InputError, match=message):
        SweepArguments(**changes)


def test_data_that_can_not_be_compared_on_are_told(features_file, tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    (tmp_path / "text.npz").write_text("no archive")
    for name, message in (
        ("nowhere.npz", "can't be read"),
        ("text.npz", "can't be read"),
        ("other.npz", "lacks the arrays train_image_embeds"),
        ("folder", "folder"),
        ("$CLIPSELECT_NOT_SET/x.npz", "a variable that is not set"),
    ):
        with pytest.raises(InputError, match=message):
            run_sweep(sweep_of(name if "$" in name else tmp_path / name, tmp_path / "out"))
    with pytest.raises(InputError, match="has no|has none"):
        run_sweep(sweep_of(features_file, tmp_path / "out", corruption_rate=[0.2]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_labels": np.arange(59) % 3},
            "train_labels: labels must be 60 integers, one per row, got int64 of shape",
        ),
        ({"train_labels": np.arange(60) % 4}, r"train_labels: labels must be in \[0, 3\).* got 3 in row 3"),
        ({"test_labels": np.full(20, 0.5)}, "test_labels: labels must be 20 integers"),
        ({"test_image_embeds": np.ones((20, 9))}, "test_image_embeds and class_text_embeds must share .* got 9 and 8"),
        (
            {"test_image_embeds": np.full((20, 8), np.nan)},
            "test_image_embeds must have finite rows.* row 0 is not finite",
        ),
        ({"class_has_text": np.ones(2, dtype=bool)}, "class_has_text must be 3 booleans"),
        ({"class_has_text": np.zeros(3, dtype=bool)}, "not all of them false"),
        ({"train_images": np.zeros((60, 4, 4, 3), dtype=np.uint8)}, "train_images and test_images belong together"),
        (
            {"test_images": np.zeros((20, 4, 4), dtype=np.uint8)},
            r"test_images must be uint8 of shape \(20, height, width, 3\)",
        ),
    ],
)
def test_arrays_that_do_not_fit_together_are_told(changes, message, tmp_path):
    arrays = {
        "train_image_embeds": np.ones((60, 8)),
        "train_labels": np.arange(60) % 3,
        "test_image_embeds": np.ones((20, 8)),
        "test_labels": np.arange(20) % 3,
        "class_text_embeds": np.eye(3, 8),
    }
    path = tmp_path / "features.npz"
    np.savez(path, **{**arrays, **changes})
    with pytest.raises(InputError, match=message):
        run_sweep(sweep_of(path, tmp_path / "out"))
    path.write_bytes(path.read_bytes()[:500])  # a copy that broke off
    with pytest.raises(InputError, match="can't be read as an .npz file"):
        run_sweep(sweep_of(path, tmp_path / "out"))


def test_missing_peers_and_too_much_memory_are_told_before_anything_starts(features_file, tmp_path):
    assert is_installed("numpy") and not is_installed("no-such-package")
    with pytest.raises(
        InputError, match=r'cleanlab needs the package no-such-package.*pip install "hf_clipselect\[peers\]"'
    ):
        check_installed("cleanlab", "no-such-package")
    check_facility_location_memory(1000, 0.008)
    with pytest.raises(InputError, match="a matrix of all pairs of 1001 rows, 0.0 GB, and 0.008 GB are allowed"):
        check_facility_location_memory(1001, 0.008)
    with pytest.raises(InputError, match="cg_score needs a matrix"):
        run_sweep(sweep_of(features_file, tmp_path, methods=["cg_score"], max_gigabytes=1e-6))
    assert list((tmp_path / "cells").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cleanlab", "cleanlab_issues", "apricot"])
def test_peers_run_where_they_are_installed(name, features_file, tmp_path):
    package = METHODS[name].package
    if not is_installed(package):
        with pytest.raises(InputError, match=f"{name} needs the package {package}"):
            SweepArguments(methods=[name])
        pytest.skip(f"{package} is not installed")
    rows = run_sweep(sweep_of(features_file, tmp_path, methods=[name]))
    kept = one(rows, method=name, selection_ratio=0.5)
    assert kept["num_kept"] == 90
    if name != "apricot":
        assert kept["noise_share"] < 0.05 and kept["noise_auroc"] > 0.9


def test_out_of_fold_probabilities_of_few_rows_and_of_a_class_without_rows():
    """Three rows a class are three folds; the columns are those of all classes, also of the third."""
    labels = np.array([0, 1, 3] * 3)
    embeds = np.eye(4)[labels] + np.random.default_rng(0).normal(scale=0.01, size=(9, 4))
    found = out_of_fold_probabilities(embeds, labels, num_classes=4, seed=0)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found[:, 2] == 0).all() and (found.argmax(axis=1) == labels).all()
    if is_installed("cleanlab"):
        assert np.isfinite(cleanlab_scores(found, labels, seed=0)).all()
        assert np.isfinite(cleanlab_issue_scores(found, labels, seed=0)).all()
    with pytest.raises(InputError, match="a class with at least two rows.*the 2 rows are of 2 classes"):
        out_of_fold_probabilities(np.eye(2), np.array([0, 1]), num_classes=2, seed=0)


def test_all_means_every_method_whose_package_is_there():
    names = SweepArguments(methods=["all"]).methods
    missing = {name for name, method in METHODS.items() if method.package and not is_installed(method.package)}
    assert names == [name for name in METHODS if name not in missing and METHODS[name].family != "ablation"]
    assert set(BASELINES) <= set(names)
    assert SweepArguments(methods=["full"]).methods == ["random", "full"]


def test_bad_input_exits_with_one_line(tmp_path):
    done = run_recipe("compare.py", "--methods", "best", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "" and not any(tmp_path.iterdir())
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ") and "choose from all, robust" in line


@pytest.mark.parametrize(
    "path", sorted(RECIPES.glob("*/compare*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_every_committed_sweep_parses_and_commits_nothing_private(path):
    written = yaml.safe_load(path.read_text())
    assert not any(str(value).startswith(("/", "~")) for value in written.values())
    # What is not installed here is refused by name, and the rest is looked at.
    needed = {name: METHODS[name].package for name in written["methods"] if name in METHODS}
    absent = [name for name, package in needed.items() if package is not None and not is_installed(package)]
    flags = ["--methods", *(name for name in written["methods"] if name not in absent)] if absent else []
    if absent:
        with pytest.raises(InputError, match=r"hf_clipselect\[peers\]"):
            parse_sweep_arguments(["--config", str(path)])
    arguments = parse_sweep_arguments(["--config", str(path), *flags])
    assert len(arguments.seeds) >= 3 and {"random", "full"} < set(arguments.methods)


@pytest.mark.parametrize("folder", RESULTS, ids=lambda folder: folder.name)
def test_committed_tables_are_those_of_their_results(folder):
    rows = read_rows(folder / "results.csv")
    text = (folder / "tables.md").read_text(encoding="utf-8")
    assert "`python recipes/compare.py --config recipes/" in text.splitlines()[0] and "commit" in text.splitlines()[2]
    assert text.split("\n", 4)[-1] == markdown(rows)
    assert len({row["seed"] for row in rows}) >= 3

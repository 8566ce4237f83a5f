"""Sweeps over several noises with quotas for all methods, a judge of its own, and what the noise model knows."""

import numpy as np
import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as PILImage
from recipe_files import RECIPES, load_recipe, run_recipe
from sklearn.linear_model import LogisticRegression
from small_sweeps import cell_files, sweep_of, write_features

from hf_clipselect import select_embeddings
from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.baselines.ccs import ccs_rows
from hf_clipselect.evaluation.comparison import METHODS, noise_estimates, run_sweep, settings_of
from hf_clipselect.evaluation.comparison.method import quota_groups
from hf_clipselect.evaluation.comparison.peers import is_installed, out_of_fold_probabilities
from hf_clipselect.evaluation.comparison.regret_tables import read_regrets
from hf_clipselect.scores.noise_model import estimate_label_noise
from hf_clipselect.selection import class_quotas
from hf_clipselect.selection.safe_pool import safe_pool


CLEANLAB = ["cleanlab", "cleanlab_issues"] if is_installed("cleanlab") else []


@pytest.fixture(scope="module")
def features_file(tmp_path_factory):
    return write_features(tmp_path_factory.mktemp("blobs") / "features.npz")


@pytest.fixture(scope="module")
def setting(features_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    [setting] = settings_of(sweep_of(features_file, folder, class_balance="proportional"))
    return setting


def settings_told(rows):
    return list(dict.fromkeys((row["noise_kind"], row["noise_rate"]) for row in rows))


def test_each_kind_of_noise_comes_with_each_rate_and_right_labels_once(features_file, tmp_path):
    arguments = sweep_of(
        features_file,
        tmp_path,
        methods=["moderate"],
        selection_ratio=[0.5],
        noise_kind=["pairwise", "symmetric"],
        noise_rate=[0.0, 0.1],
    )
    rows = run_sweep(arguments)
    assert settings_told(rows) == [("pairwise", 0.0), ("pairwise", 0.1), ("symmetric", 0.1)]
    assert [row["noise_share"] for row in rows if row["method"] == "full"] == [0, 0.1, 0.1]


@pytest.mark.parametrize(
    ("method", "knobs"),
    [
        *((name, {"objective": name}) for name in ("robust", "diverse", "clean")),
        *((name, {"objective": name, "adaptation": "always"}) for name in ("released", "paper")),
        *(
            (f"{name}_quotas", {"objective": name, "adaptation": "always", "class_balance": "proportional"})
            for name in ("released", "paper")
        ),
    ],
)
def test_one_run_serves_every_objective_and_another_the_papers_with_adapters(method, knobs, setting):
    ratios = [0.2, 0.5, 0.9]
    selected = METHODS[method].select(setting, ratios)
    for ratio in ratios:
        alone = select_embeddings(
            setting.embeddings.images,
            setting.embeddings.texts,
            setting.labels,
            selection_ratio=ratio,
            seed=setting.seed,
            **knobs,
        )
        assert np.array_equal(selected.rows[ratio], alone.selected)
    assert selected.scores.shape == (setting.num_rows,) and np.isfinite(selected.scores).all()


@pytest.mark.parametrize(
    "method",
    [
        "robust",
        "diverse",
        "robust_pool_random",
        "gate_k_center",
        "herding",
        "moderate",
        "k_center",
        "ccs_cutoff",
        "random",
        *CLEANLAB,
    ],
)
def test_all_methods_have_the_same_quotas(method, setting):
    for ratio, rows in METHODS[method].select(setting, [0.2, 0.5, 0.9]).rows.items():
        count = int(ratio * setting.num_rows + 0.5)
        quotas = class_quotas(setting.labels, count, balance="proportional", num_classes=setting.num_classes)
        assert np.bincount(setting.labels[rows]) == pytest.approx(quotas, abs=1) and len(rows) == count
        assert (np.diff(rows) > 0).all()


def test_what_picks_rows_gets_the_quotas_of_all(setting):
    groups = quota_groups(setting, [0.2, 0.5])
    assert [members.tolist() for members, _ in groups] == [
        np.flatnonzero(setting.labels == label).tolist() for label in range(3)
    ]
    for ratio, count in ((0.2, 36), (0.5, 90)):
        quotas = class_quotas(setting.labels, count, balance="proportional", num_classes=3)
        assert [counts[ratio] for _, counts in groups] == quotas.tolist()


def test_random_rows_of_the_safe_pool_come_first(setting):
    wrong = np.array(setting.scored[0].scores["label_error_probability"])
    pool = safe_pool(wrong)
    assert 0 < pool.sum() < setting.num_rows
    selected = METHODS["robust_pool_random"].select(setting, [0.2, 0.9]).rows
    robust = METHODS["robust"].select(setting, [0.2, 0.9]).rows
    assert pool[selected[0.2]].all() and not np.array_equal(selected[0.2], robust[0.2])
    # Where a class must give more rows than it has in the pool, the least doubtful ones of the others fill up.
    for label in range(3):
        outside = np.flatnonzero((setting.labels == label) & ~pool)
        kept = np.intersect1d(outside, selected[0.9])
        left = np.setdiff1d(outside, kept)
        assert not len(kept) or not len(left) or wrong[kept].max() <= wrong[left].min()


def test_ccs_drops_as_many_rows_of_a_class_as_labels_look_wrong(setting):
    share = np.array(setting.scored[0].scores["label_error_probability"]).mean()
    hardness = -setting.proxy[0].margins
    [kept] = METHODS["ccs_cutoff"].select(setting, [0.3]).rows.values()
    dropped_at_most = 0
    for label in range(3):
        members = np.flatnonzero(setting.labels == label)
        num_dropped = int(share * len(members))
        hardest = members[np.argsort(-hardness[members], kind="stable")[:num_dropped]]
        assert not np.isin(hardest, kept).any()
        dropped_at_most += num_dropped
    assert dropped_at_most > 0
    # A ratio that leaves no room for the cutoff keeps what it must.
    [most] = METHODS["ccs_cutoff"].select(setting, [1.0]).rows.values()
    assert np.array_equal(most, np.arange(setting.num_rows))
    assert len(ccs_rows(hardness, setting.num_rows, cutoff=0.0, seed=0)) == setting.num_rows


def test_a_judge_with_features_of_its_own_is_trained_on_them(features_file, tmp_path):
    rng = np.random.default_rng(1)
    with np.load(features_file) as file:
        arrays = dict(file)
    for split in ("train", "test"):
        noise = rng.normal(size=(len(arrays[f"{split}_labels"]), 5))
        arrays[f"{split}_judge_embeds"] = np.eye(4, 5)[arrays[f"{split}_labels"]] + noise
    path = tmp_path / "judged.npz"
    np.savez(path, **arrays)
    arguments = sweep_of(path, tmp_path, methods=["moderate"], selection_ratio=[0.5])
    [row] = [row for row in run_sweep(arguments) if row["method"] == "full"]
    [setting] = settings_of(arguments)
    use, of_test = (np.isin(arrays[f"{split}_labels"], [0, 1, 3]) for split in ("train", "test"))
    probe = LogisticRegression(C=1, max_iter=5000)
    probe.fit(arrays["train_judge_embeds"][use].astype(np.float32), setting.labels)
    right = np.searchsorted([0, 1, 3], arrays["test_labels"][of_test])
    expected = probe.score(arrays["test_judge_embeds"][of_test].astype(np.float32), right)
    assert row["accuracy"] == pytest.approx(expected, abs=1e-12)
    for changes, message in (
        ({"test_judge_embeds": None}, "train_judge_embeds and test_judge_embeds belong together"),
        ({"test_judge_embeds": np.ones((80, 4))}, "must share their last dimension, got 5 and 4"),
        ({"train_judge_embeds": np.ones((9, 5))}, "must have a row for each of the 240 train_labels, got 9"),
        ({"train_judge_embeds": np.full((240, 5), np.nan)}, "train_judge_embeds must have finite rows"),
    ):
        wrong = {name: values for name, values in {**arrays, **changes}.items() if values is not None}
        np.savez(path, **wrong)
        with pytest.raises(InputError, match=message):
            settings_of(arguments)


def test_estimates_are_those_of_the_noise_model_and_its_rivals(setting):
    [row] = noise_estimates([setting])
    images, texts, labels = setting.embeddings.images, setting.embeddings.texts, setting.labels
    noise = estimate_label_noise(images, texts, labels, seed=setting.seed)
    assert row["true_share"] == pytest.approx(0.2)
    assert row["share"] == pytest.approx(noise.share) and row["share_error"] == pytest.approx(noise.share_error)
    cosines = images @ texts.T / np.linalg.norm(images, axis=1, keepdims=True)
    own = cosines[np.arange(len(labels)), labels]
    cosines[np.arange(len(labels)), labels] = -np.inf
    regression = out_of_fold_probabilities(images, labels, num_classes=setting.num_classes, seed=setting.seed)[
        np.arange(len(labels)), labels
    ]
    rivals = {
        "noise_model": -noise.error_probability,
        "clip_margin": own - cosines.max(axis=1),
        "regression": regression,
    }
    for name, scores in rivals.items():
        pairs = scores[~setting.is_noisy][:, None] - scores[setting.is_noisy]
        assert row[name] == pytest.approx(((pairs > 0) + (pairs == 0) / 2).mean(), abs=1e-4), name
    assert np.isnan(row["cleanlab_share"]) == (not CLEANLAB)
    assert not CLEANLAB or 0.1 < row["cleanlab_share"] < 0.3
    before = setting.cells.num_stored
    np.testing.assert_equal(list(noise_estimates([setting])), [row])  # for which NaN, without cleanlab, is NaN
    assert setting.cells.num_stored == before


def test_without_wrong_labels_there_is_nothing_to_find(features_file, tmp_path):
    [row] = noise_estimates(settings_of(sweep_of(features_file, tmp_path, noise_rate=[0.0])))
    assert row["true_share"] == 0 and np.isnan(row["noise_model"]) and 0 <= row["share"] < 0.2


@pytest.mark.slow
def test_the_recipe_compares_several_sets_and_computes_nothing_twice(features_file, tmp_path):
    config = {
        "methods": ["robust", "herding"],
        "selection_ratio": [0.3, 0.6],
        "seeds": [0, 1],
        "noise_rate": [0.0, 0.2],
        "class_balance": "proportional",
        "probe_c": 1,
    }
    features_file.with_name("other.npz").write_bytes(features_file.read_bytes())
    configs = []
    for place, path in enumerate((features_file, features_file.with_name("other.npz"))):
        configs.append(tmp_path / f"compare_{place}.yaml")
        configs[-1].write_text(
            yaml.safe_dump({**config, "dataset_name": str(path), "output_dir": str(tmp_path / "out")})
        )
    done = run_recipe("compare_regret.py", *configs, "--output_dir", "tables", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "| method | blobs0 | other | all |" in done.stdout.replace(features_file.parent.name, "blobs0")
    accuracies, noise_rows = read_regrets(tmp_path / "tables")
    assert accuracies.values.shape == (2 * 2 * 2, 3, 2) and len(noise_rows) == 2 * 2 * 2
    before = cell_files(tmp_path / "out")
    first = (tmp_path / "tables" / "tables.md").read_text()
    assert run_recipe("compare_regret.py", *configs, "--output_dir", "tables", cwd=tmp_path).returncode == 0
    assert cell_files(tmp_path / "out") == before and (tmp_path / "tables" / "tables.md").read_text() == first
    configs[1].write_text(
        yaml.safe_dump({**config, "seeds": [0], "dataset_name": str(features_file.with_name("other.npz"))})
    )
    done = run_recipe("compare_regret.py", *configs, "--output_dir", "wrong", cwd=tmp_path)
    assert done.returncode == 2 and "give all sweeps the same methods and seeds" in done.stderr


def write_pictures(path, num, rng):
    """Random images of 2 x 2 pixels as a Parquet file; gives their pixels."""
    drawn = rng.integers(0, 256, (num, 2, 2, 3), dtype=np.uint8)
    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b"])})
    path.parent.mkdir(exist_ok=True)
    columns = {"image": [PILImage.fromarray(pixels) for pixels in drawn], "label": np.arange(num) % 2}
    Dataset.from_dict(columns, features).to_parquet(path)
    return drawn


def test_the_sets_of_the_recipe_are_rows_that_do_not_overlap(tmp_path, monkeypatch):
    recipe = load_recipe("robust_features.py")
    rng = np.random.default_rng(0)
    folder = tmp_path / "cifar10"
    pictures = {split: write_pictures(folder / f"{split}.parquet", 20, rng) for split in ("train", "test")}
    given = {
        "labels": rng.integers(0, 10, 12_000).astype(np.uint8),
        "test_labels": rng.integers(0, 10, 5).astype(np.uint8),
        "train_rows": rng.integers(0, 20, 12_000),
        "test_rows": rng.permutation(20)[:5],
        "judge": rng.normal(size=(12_000, 3)).astype(np.float16),
        "test_judge": rng.normal(size=(5, 3)).astype(np.float16),
    }
    for space, width in (("mapped", 4), ("conse", 2)):
        given |= {space: rng.normal(size=(12_000, width)), f"test_{space}": rng.normal(size=(5, width))}
        given[recipe.TEXTS[space]] = rng.normal(size=(10, width))
    (tmp_path / "cifar10-embeddings").mkdir()
    np.savez(tmp_path / "cifar10-embeddings" / "features.npz", **given)
    files = recipe.cifar10(tmp_path)
    parts = ("development", "images", "report")
    assert sorted(files) == [f"cifar10_{space}_{part}" for space in ("conse", "mapped") for part in parts]
    of_network = files["cifar10_mapped_images"]
    assert np.array_equal(of_network["train_images"], pictures["train"][given["train_rows"][3000:]])
    others = np.setdiff1d(np.arange(20), given["test_rows"])
    assert np.array_equal(of_network["test_images"], pictures["test"][others])
    assert np.array_equal(of_network["test_labels"], others % 2)
    assert np.array_equal(of_network["train_image_embeds"], given["mapped"][3000:])
    report = files["cifar10_conse_report"]
    assert np.array_equal(report["train_image_embeds"], given["conse"][6000:9000])
    assert np.array_equal(report["train_labels"], given["labels"][6000:9000])
    assert np.array_equal(files["cifar10_mapped_development"]["train_image_embeds"], given["mapped"][:3000])
    judge = given["judge"][6000:9000].astype(np.float32)
    assert report["train_judge_embeds"] == pytest.approx(judge / np.linalg.norm(judge, axis=1)[:, None], abs=1e-6)
    # The digits need no file.
    monkeypatch.delenv("CLIPSELECT_DATA", raising=False)
    assert run_recipe("robust_features.py", "--output_dir", "sets", cwd=tmp_path).returncode == 0
    with np.load(tmp_path / "sets" / "digits.npz") as digits:
        assert digits["train_judge_embeds"].shape == (1297, 64) and digits["test_image_embeds"].shape[0] == 500


def test_committed_files_of_a_part_go_together():
    for part in ("development", "report"):
        written = [yaml.safe_load(path.read_text()) for path in sorted(RECIPES.glob(f"robust/compare_*_{part}.yaml"))]
        assert len(written) == 4
        alone = {"dataset_name", "output_dir"}
        assert all(
            {name: value for name, value in sweep.items() if name not in alone}
            == {name: value for name, value in written[0].items() if name not in alone}
            for sweep in written
        )

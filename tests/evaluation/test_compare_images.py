"""Sweeps on labelled images: what they keep and measure against the doors for users; nothing is done twice."""

import os
from pathlib import Path

import numpy as np
import pyarrow.csv as pc
import pytest
from datasets import ClassLabel, Dataset, Features, Image
from dual_encoders import save_dual_encoder
from forked_recipes import ForkedRecipe
from PIL import Image as PILImage
from recipe_files import run_recipe
from small_sweeps import cell_files
from transformers.utils import is_timm_available

from hf_clipselect import select_dataset
from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.classifier import (
    ClassifierArguments,
    ClassifierTrainingArguments,
    parse_training_arguments,
    train_classifier,
)
from hf_clipselect.evaluation.classifier.architectures import random_classifier
from hf_clipselect.evaluation.comparison import (
    METHODS,
    SweepArguments,
    parse_sweep_arguments,
    rekey_cells,
    run_sweep,
    settings_of,
)
from hf_clipselect.evaluation.comparison.cells import _APART, Cells, code_digest
from hf_clipselect.evaluation.comparison.images_setting import _PROXY_CODE
from hf_clipselect.evaluation.comparison.images_training import _CODE
from hf_clipselect.evaluation.comparison.sweep import kept_rows
from hf_clipselect.evaluation.robustness import add_label_noise
from hf_clipselect.runtime.launch import make_accelerator


NAMES = ["red thing", "green thing", "blue thing", "dark thing", "grey thing", "bright thing"]
COLORS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [30, 30, 30], [120, 120, 120], [230, 230, 230]])


def write_images(folder: Path, split: str, labels: np.ndarray, names: list[str] = NAMES, *, seed: int = 0) -> None:
    """Noisy pictures of 12 x 12 pixels, one colour a class, as a Parquet file of a split."""
    rng = np.random.default_rng(seed)
    colors = [COLORS[NAMES.index(names[label])] for label in labels]
    pixels = [np.clip(color + rng.normal(0, 50, (12, 12, 3)), 0, 255).astype(np.uint8) for color in colors]
    features = Features({"picture": Image(), "kind": ClassLabel(names=names), "source_index": ClassLabel(names=["a"])})
    columns = {
        "picture": [PILImage.fromarray(values) for values in pixels],
        "kind": labels,
        "source_index": np.zeros_like(labels),
    }
    folder.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(columns, features=features).to_parquet(folder / f"{split}-0.parquet")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """64 training rows of six classes, 30 test rows, and a further set of two of the classes."""
    folder = tmp_path_factory.mktemp("images")
    write_images(folder / "things", "train", np.arange(64) % 6)
    write_images(folder / "things", "test", np.arange(30) % 6, seed=1)
    write_images(folder / "hard", "test", np.arange(20) % 2, ["bright thing", "dark thing"], seed=2)
    save_dual_encoder("clip", folder / "clip")
    return folder


def sweep_on(data: Path, folder: Path, **changes: object) -> SweepArguments:
    values = {
        "dataset_name": str(data / "things"),
        "label_column_name": "kind",
        "model_name_or_path": str(data / "clip"),
        "architecture": ["resnet-20"],
        "num_train_epochs": 1.0,
        "per_device_train_batch_size": 16,
        "methods": ["diverse"],
        "selection_ratio": [0.5],
        "seeds": [0],
        "noise_rate": [0.25],
        "num_val_rows": 6,
        "class_balance": "none",
        "proxy_architecture": "resnet-20",
        "proxy_epochs": 2,
        "output_dir": str(folder),
    }
    return SweepArguments(**{**values, **changes})


def one(rows, **wanted):
    [row] = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return row


@pytest.fixture(scope="module")
def swept(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept")
    arguments = sweep_on(data, folder, methods=["diverse", "herding"], eval_dataset=[f"{data / 'hard'}:test"])
    return arguments, run_sweep(arguments), cell_files(folder)


def noisy_rows(data: Path) -> Dataset:
    train = Dataset.from_parquet(str(data / "things" / "train-0.parquet"))
    labels = add_label_noise(train["kind"][:], 6, rate=0.25, seed=0)
    feature = train.features["kind"]
    return train.select_columns(["picture"]).add_column("kind", labels, feature=feature)


def test_ours_keeps_what_a_user_of_the_package_gets(data, swept):
    arguments, rows, _ = swept
    [setting] = settings_of(arguments)
    noisy = noisy_rows(data)
    assert (setting.labels == np.array(noisy["kind"][:])).all() and setting.is_noisy.sum() == 16
    result = select_dataset(noisy, model_name_or_path=data / "clip", selection_ratio=0.5, objective="diverse", seed=0)
    kept = kept_rows(setting, METHODS["diverse"], [0.5])[0.5]
    assert kept.tolist() == result.selected.tolist()
    assert one(rows, method="diverse")["noise_share"] == pytest.approx(setting.is_noisy[kept].mean())


def test_a_training_is_that_of_the_recipe_for_one(data, swept, tmp_path):
    arguments, rows, _ = swept
    [setting] = settings_of(arguments)
    kept = kept_rows(setting, METHODS["herding"], [0.5])[0.5]
    noisy_rows(data).select(kept).save_to_disk(tmp_path / "kept")
    flags = ["--dataset_name", tmp_path / "kept", "--eval_dataset", data / "things", data / "hard"]
    flags += ["--architecture", "resnet-20", "--num_train_epochs", 1, "--per_device_train_batch_size", 16, "--seed", 0]
    flags += ["--label_column_name", "kind", "--use_cpu", "--output_dir", tmp_path / "run"]
    results = train_classifier(*parse_training_arguments(list(map(str, flags))))
    row, (whole, hard) = one(rows, method="herding"), results["eval"].values()
    assert row["accuracy"] == whole["accuracy"] and row["top_5_accuracy"] == whole["top_5_accuracy"]
    assert row["accuracy_hard:test"] == hard["accuracy"] and "top_5_accuracy_hard:test" not in row
    assert 0 < row["train_seconds"] < 60 and row["num_kept"] == 32


def test_a_second_run_computes_nothing_and_one_that_was_stopped_goes_on(data, swept):
    arguments, rows, before = swept
    encoded = {path: path.stat().st_mtime_ns for path in Path(arguments.output_dir).rglob("images-*.safetensors")}
    assert len(encoded) == 1
    np.testing.assert_equal(run_sweep(arguments), rows)
    assert cell_files(Path(arguments.output_dir)) == before
    # A training or a selection that was killed has left nothing; the features that it was made from are there.
    for path in (Path(arguments.output_dir) / "cells").glob("*.npz"):
        with np.load(path) as values:
            if {"accuracy", "texts", "rows"} & set(values):
                path.unlink()
    for ours, theirs in zip(run_sweep(arguments), rows, strict=True):
        for name in set(ours) - {"train_seconds", "wall_s", "cpu_s", "peak_mb"}:
            np.testing.assert_equal(ours[name], theirs[name])
    assert {path: path.stat().st_mtime_ns for path in encoded} == encoded
    assert set(cell_files(Path(arguments.output_dir))) == set(before)


def test_the_same_rows_are_trained_on_once(data, tmp_path):
    """All rows are what any method keeps at the ratio 1."""
    rows = run_sweep(sweep_on(data, tmp_path, methods=["herding"], selection_ratio=[1.0]))
    trained = 0
    for path in (tmp_path / "cells").glob("*.npz"):
        with np.load(path) as values:
            trained += "accuracy" in values
    assert len(rows) == 3 and trained == 1 and len({row["accuracy"] for row in rows}) == 1


def test_code_of_trainings_is_apart_from_code_of_selections():
    files = [Path(file) for file in _CODE]
    assert all(file.name in _APART or "classifier" in file.parts for file in files if file.parts[0] == "evaluation")
    assert len(files) > 5 and "classifier" in _APART


def test_what_is_set_is_handed_on_and_all_else_is_as_for_one_training(data, tmp_path):
    [setting] = settings_of(sweep_on(data, tmp_path, lr_milestones=[1.0], lr_gamma=0.2, weight_decay=0.25))
    key = setting.training_key("resnet-20", np.arange(4))
    wanted = ClassifierTrainingArguments(use_cpu=True)
    defaults = ("learning_rate", "optim_args", "max_grad_norm")
    assert {name: key[name] for name in defaults} == {name: getattr(wanted, name) for name in defaults}
    assert (key["optim"], key["lr_scheduler_type"], key["augmentation"]) == ("sgd", "cosine", "standard")
    assert (key["weight_decay"], key["lr_milestones"], key["lr_gamma"]) == (0.25, [1.0], 0.2)
    assert key["horizontal_flip"] is True and key["num_train_epochs"] == 1 and not key["pretrained"]
    # Other rows, other labels, another seed or schedule are another training; more decoding processes are none.
    others = [sweep_on(data, tmp_path, weight_decay=0.5), sweep_on(data, tmp_path, seeds=[1], noise_rate=[0.0])]
    keys = [settings_of(other)[0].training_key("resnet-20", np.arange(4)) for other in others]
    keys += [key, setting.training_key("resnet-20", np.arange(5))]
    assert len({str(sorted(one.items())) for one in keys}) == 4
    [same] = settings_of(
        sweep_on(data, tmp_path, lr_milestones=[1.0], lr_gamma=0.2, weight_decay=0.25, dataloader_num_workers=1)
    )
    assert same.training_key("resnet-20", np.arange(4)) == key


def test_damaged_images_are_seen_by_encoder_training_and_counts(data, tmp_path):
    arguments = sweep_on(
        data, tmp_path, corruption_rate=[0.0, 0.25], noise_kind=["class_dependent"], methods=["herding"]
    )
    rows = run_sweep(arguments)
    shares = {row["corruption_rate"]: row["corrupted_share"] for row in rows if row["method"] == "full"}
    assert shares == {0.0: 0.0, 0.25: 0.25}
    assert len(list((tmp_path / "encoded").iterdir())) == 2
    clean, damaged = settings_of(arguments)
    assert (clean.labels == damaged.labels).all() and clean.is_noisy.sum() == 16
    every = np.arange(64)
    assert clean.training_key("resnet-20", every)["rows"] != damaged.training_key("resnet-20", every)["rows"]
    untouched = np.flatnonzero(~damaged.is_corrupted)
    assert clean.training_key("resnet-20", untouched) == damaged.training_key("resnet-20", untouched)


def test_an_image_classifier_is_the_proxy(data, tmp_path):
    [setting] = settings_of(sweep_on(data, tmp_path))
    dynamics = setting.proxy[0]
    assert setting.proxy_name == "resnet-20 on images of 2 epochs"
    assert dynamics.features.shape == (64, 64)  # what the last layer of a ResNet-20 takes
    assert np.isfinite(dynamics.error_norms).all() and dynamics.forgetting_events.shape == (64,)
    assert setting.validated_proxy[0].early_val_features.shape == (6, 64)


def test_encoding_and_adapters_are_counted_once_for_each_method_that_needs_them(data, tmp_path):
    """Also in a run that finds them in the folder, which takes next to no time for either."""
    arguments = sweep_on(data, tmp_path, seeds=[0, 1])
    first, other = settings_of(arguments)
    robust, herding, control = (METHODS[name].shared_cost(first) for name in ("robust", "herding", "gate_k_center"))
    assert herding == first.embeddings.cost and control == robust
    assert robust.wall_s > herding.wall_s > 0 and robust.cpu_s > herding.cpu_s
    [found, _] = settings_of(arguments)
    (tmp_path / "cells").joinpath(embeddings_cell(tmp_path)).unlink()  # as after a change of the code
    assert [METHODS[name].shared_cost(found) for name in ("robust", "herding")] == [robust, herding]
    # Another seed's rows are the same images: encoded for the first, and counted for both.
    assert other.embeddings.cost == herding


def embeddings_cell(folder: Path) -> str:
    [path] = [path for path, key, _ in Cells(folder / "cells").all() if key["what"] == "embeddings"]
    return path.name


def test_code_of_the_proxys_network_is_part_of_what_follows_from_it(data, tmp_path):
    """That code is none of the code of selections, and a changed network must not be taken for the one before."""
    arguments = sweep_on(data, tmp_path, methods=["el2n"])
    run_sweep(arguments)
    [setting] = settings_of(arguments)
    keys = [key for _, key, _ in Cells(tmp_path / "cells").all() if key.get("proxy")]
    assert {key["what"] for key in keys} == {"proxy", "selection"}
    assert all(key["proxy_code"] == code_digest(*_PROXY_CODE) for key in keys)
    network = random_classifier("resnet-20", NAMES, side=12).model
    modules = {type(part).__module__ for part in network.modules()} | {random_classifier.__module__}
    files = {f"{name.removeprefix('hf_clipselect.').replace('.', '/')}.py" for name in modules if "hf_clip" in name}
    assert len(files) == 2 and files <= set(_PROXY_CODE)
    assert set(setting.proxy_key) == {"proxy", "proxy_code"}


@pytest.mark.parametrize(
    ("proxy", "training", "expected"), [(None, 1.0, 1), (None, 0.5, 1), (None, 20.0, 10), (3, 1.0, 3)]
)
def test_a_proxy_is_trained_no_longer_than_the_networks(data, tmp_path, proxy, training, expected):
    [setting] = settings_of(sweep_on(data, tmp_path, proxy_epochs=proxy, num_train_epochs=training))
    assert setting.proxy_name == f"resnet-20 on images of {expected} epochs"


@pytest.mark.parametrize(
    ("changes", "expected"), [({}, 30), ({"max_train_samples": 12}, 12), ({"max_eval_samples": 6}, 6)]
)
def test_few_rows_to_train_on_are_tested_on_as_few(data, tmp_path, changes, expected):
    [setting] = settings_of(sweep_on(data, tmp_path, methods=["random"], **changes))
    taken, right = setting.embed_test_rows("resnet-20", np.arange(12))
    assert len(taken) == len(right) == expected


def test_no_more_processes_decode_than_there_are_cores(data, tmp_path):
    cores = len(os.sched_getaffinity(0))
    given = (None, 0, 1, 1000)
    taken = [sweep_on(data, tmp_path, dataloader_num_workers=count).dataloader_num_workers for count in given]
    assert taken == [None, 0, 1, cores]


@pytest.mark.slow
def test_a_precision_of_trainings_stays_theirs(data, tmp_path):
    """With two seeds a selection follows a training."""
    rows = run_sweep(sweep_on(data, tmp_path, bf16=True, seeds=[0, 1]))
    assert all(0 <= row["accuracy"] <= 1 for row in rows) and len(rows) == 2 * 3
    assert make_accelerator().mixed_precision == "no" and "ACCELERATE_MIXED_PRECISION" not in os.environ


@pytest.mark.skipif(is_timm_available(), reason="timm is installed")
def test_networks_of_timm_are_left_out_where_it_is_not_installed(data, tmp_path, caplog):
    [setting] = settings_of(sweep_on(data, tmp_path, architecture=["vgg-16", "resnet-20"]))
    assert setting.models == ("resnet-20",)
    assert 'vgg-16 is left out: it is built by timm, which is not installed (pip install "hf_clipselect[timm]")' in (
        caplog.text
    )
    with pytest.raises(InputError, match="None of the networks of --architecture vgg-16 can be built without timm"):
        settings_of(sweep_on(data, tmp_path, architecture=["vgg-16"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": ["resnet-19"]}, "resnet-19 is unknown; choose one of resnet-20"),
        ({"architecture": ["resnet-20"] * 2}, "--architecture must name at least one network, and each once"),
        ({"architecture": []}, "--architecture must name at least one network"),
        ({"pretrained": True}, "--pretrained: no weights are known for resnet-20"),
        ({"proxy_architecture": "resnet-19"}, "resnet-19 is unknown"),
        ({"proxy_epochs": 0}, "--proxy_epochs must be a whole number of at least 1"),
        ({"lr_milestones": [2.0, 1.0]}, "--lr_milestones must be epochs above 0 that increase"),
        ({"optim": "none_such"}, "The training arguments do not fit"),
        ({"per_device_train_batch_size": 0}, "--per_device_train_batch_size must be at least 1"),
        ({"prompt_template": ["a photo"]}, "a photo"),
        ({"eval_split_name": "part"}, "nothing to test on: --eval_split_name part.*has the splits train, test"),
        ({"eval_dataset": ["a:b:c:d"]}, "NAME:CONFIG:SPLIT"),
        ({"dataset_name": "no/such/place"}, "no/such/place"),
        ({"model_name_or_path": "no/such/model"}, "no/such/model"),
    ],
)
def test_arguments_that_do_not_fit(data, changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        settings_of(sweep_on(data, tmp_path, **changes))
    assert not list(tmp_path.rglob("*.npz")) and not (tmp_path / "encoded").exists()


@pytest.mark.parametrize("name", ["embedded/digits", "features.npz"])
@pytest.mark.parametrize(
    ("flag", "value"), [("architecture", "resnet-20"), ("pretrained", "true"), ("proxy_epochs", 3)]
)
def test_arguments_of_images_are_refused_where_there_are_none(name, flag, value, tmp_path):
    flags = ["--dataset_name", name, f"--{flag}", str(value), "--output_dir", str(tmp_path)]
    with pytest.raises(InputError, match=rf"--{flag} is for a dataset of images.*{name} is none; leave it out"):
        settings_of(parse_sweep_arguments(flags))


def test_help_tells_the_defaults_of_a_training(capsys):
    with pytest.raises(SystemExit):
        parse_sweep_arguments(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    for group, name in ((ClassifierTrainingArguments, "learning_rate"), (ClassifierArguments, "lr_gamma")):
        assert f"Default: {getattr(group, name)}." in told
    assert "--lr_milestones" in told and "Default: A photo of a {}." in told


@pytest.mark.slow
def test_the_recipe_makes_tables_and_plots_of_a_folder_of_images(data, tmp_path):
    methods = ["robust", "paper", "el2n", "glister", "moderate", "herding"]
    flags = ["--dataset_name", data / "things", "--label_column_name", "kind", "--model_name_or_path", data / "clip"]
    flags += ["--architecture", "resnet-20", "--num_train_epochs", 1, "--proxy_architecture", "resnet-20"]
    flags += ["--proxy_epochs", 2, "--num_val_rows", 6, "--methods", *methods, "--selection_ratio", 0.3, 0.5]
    flags += ["--seeds", 0, 1, "--eval_dataset", f"{data / 'hard'}:test", "--tsne_ratio", 0.5]
    done = run_recipe("compare.py", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "compare_output"
    assert (folder / "tsne.md").is_file() and list(folder.glob("accuracy*.png"))
    table = pc.read_csv(folder / "results.csv")
    assert set(table["method"].to_pylist()) == {*methods, "random", "full"}
    assert {"accuracy_hard:test", "top_5_accuracy", "train_seconds"} <= set(table.column_names)
    assert table["model"].unique().to_pylist() == ["resnet-20"] and table["data"].unique().to_pylist() == ["things"]
    before = cell_files(folder)
    again = run_recipe("compare.py", *flags, cwd=tmp_path)
    assert again.returncode == 0 and cell_files(folder) == before and ", 0 results" not in again.stderr
    assert "0 results were computed" in again.stderr


@pytest.mark.slow
def test_a_sweep_that_was_killed_goes_on(data, tmp_path):
    flags = ["--dataset_name", data / "things", "--label_column_name", "kind", "--model_name_or_path", data / "clip"]
    flags += ["--architecture", "resnet-20", "--num_train_epochs", 2, "--methods", "diverse", "--seeds", 0, 1]
    flags = [*map(str, flags), "--selection_ratio", "0.5"]
    killed = ForkedRecipe("compare.py", *flags, "--output_dir", "killed", cwd=tmp_path)
    # Hashes of two sets, embeddings, and a selection: it is in a training, or in what comes between two.
    killed.kill_when(lambda: len(list((tmp_path / "killed" / "cells").glob("*.npz"))) >= 5)
    before = cell_files(tmp_path / "killed")
    rows = run_sweep(parse_sweep_arguments([*flags, "--output_dir", str(tmp_path / "killed")]))
    after = cell_files(tmp_path / "killed")
    assert len(rows) == 2 * 3 and len(before) < len(after) and {name: after[name] for name in before} == before
    whole = run_sweep(parse_sweep_arguments([*flags, "--output_dir", str(tmp_path / "whole")]))
    assert [row["accuracy"] for row in rows] == [row["accuracy"] for row in whole]


@pytest.mark.slow
def test_cells_of_code_that_only_moved_are_found_again(data, tmp_path):
    arguments = sweep_on(data, tmp_path, methods=["herding"])
    rows = run_sweep(arguments)
    cells = Cells(tmp_path / "cells")
    for path, key, values in list(cells.all()):
        cells.store({**key, "code": f"an earlier commit's {key['code']}"}, values)
        path.unlink()
    result = rekey_cells(arguments)
    assert result.differences == [] and result.num_rekeyed == len(cell_files(tmp_path))
    np.testing.assert_equal(run_sweep(arguments), rows)

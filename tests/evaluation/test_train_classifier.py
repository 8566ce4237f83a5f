"""Training classifiers: the parts by hand, runs in this process, and the recipe as users launch it."""

import ast
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from conftest import REPOSITORY
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from huggingface_hub import ModelCard
from loopback_hub.server import LoopbackHub
from made_results import make_result
from PIL import Image as PILImage
from preloaded import run_python
from recipe_files import run_recipe
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoModelForImageClassification
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.utils import is_timm_available

from hf_clipselect import select_embeddings
from hf_clipselect.embedded import load_digits_dataset
from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.classifier import (
    ARCHITECTURES,
    PRETRAINED,
    fit_and_test,
    parse_training_arguments,
    top_k_accuracy,
    train_classifier,
)
from hf_clipselect.evaluation.classifier.architectures import pretrained_classifier, random_classifier
from hf_clipselect.evaluation.classifier.checkpoints import check_fits
from hf_clipselect.evaluation.classifier.eval_sets import load_eval_sets, load_train_rows
from hf_clipselect.evaluation.classifier.fitting import build_classifier, image_side
from hf_clipselect.evaluation.classifier.pixel_rows import Rows, random_resized_crop, random_small_crop
from hf_clipselect.evaluation.classifier.trainer import milestone_factor


RECIPE = REPOSITORY / "recipes" / "train_classifier.py"
YAML_RECIPES = sorted((REPOSITORY / "recipes").glob("*/train*.yaml"))
QUICK = ["--max_train_samples", "160", "--num_train_epochs", "2", "--per_device_train_batch_size", "32", "--use_cpu"]


def run(*flags: object) -> dict:
    return train_classifier(*parse_training_arguments([*QUICK, "--disable_tqdm", "true", *map(str, flags)]))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_top_k_by_hand_and_against_loops():
    logits = np.array([[0.1, 0.7, 0.2], [0.5, 0.5, 0.0], [0.0, 0.1, 0.9], [0.3, 0.2, 0.1]])
    # A tie goes to the lower number; the third row has two right classes.
    targets = np.array([[1, -1], [0, -1], [0, 2], [2, -1]])
    assert top_k_accuracy(logits, targets) == {"accuracy": 0.75}
    # Without class 1 the first row is wrong whatever it is called.
    assert top_k_accuracy(logits, targets, classes=np.array([2, 0])) == {"accuracy": 0.5}
    logits, targets = rng().normal(size=(50, 9)), rng(1).integers(0, 9, size=(50, 1))
    ranks = [sum(row > row[target]) for row, [target] in zip(logits, targets, strict=True)]
    assert top_k_accuracy(logits, targets) == {
        "accuracy": pytest.approx(np.mean(np.array(ranks) < 1)),
        "top_5_accuracy": pytest.approx(np.mean(np.array(ranks) < 5)),
    }


def test_milestones_are_those_of_torch():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[3, 5, 9], gamma=0.2)
    for step in range(12):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * milestone_factor(step, [3, 5, 9], 0.2))
        optimizer.step()
        schedule.step()


def test_a_small_crop_shifts_by_at_most_an_eighth():
    image = PILImage.fromarray(np.arange(1, 65, dtype=np.uint8).reshape(8, 8)).convert("RGB")
    padded = np.pad(np.asarray(image), ((1, 1), (1, 1), (0, 0)))
    possible = {padded[top : top + 8, left : left + 8].tobytes() for top in range(3) for left in range(3)}
    assert {random_small_crop(image, 8, rng(seed)).tobytes() for seed in range(100)} == possible


def test_of_a_small_image_that_is_not_square_the_middle_is_learned():
    pixels = np.zeros((8, 24, 3), dtype=np.uint8)
    pixels[:, 8:16] = 255
    processor = random_classifier("resnet-20", ["a", "b"], side=8).image_processor
    dataset = Dataset.from_dict({"image": [PILImage.fromarray(pixels)]}, features=Features({"image": Image()}))
    rows = Rows(dataset, "image", processor, 8, labels=np.zeros(1, dtype=np.int64), augment=True)
    for epoch in range(10):
        rows.epoch.fill_(epoch)
        white = (rows[0]["pixel_values"] > 1).all(dim=0)
        assert white.sum() >= 7 * 7  # all but the row and the column that a shift by one pixel brings in


@pytest.mark.parametrize("shape", [(300, 200), (1000, 100), (224, 224)])
def test_a_large_crop_is_a_part_of_the_image(shape):
    # Red tells the column and green the row: the corners say which rectangle was cut out.
    height, width = shape
    down, right = np.mgrid[:height, :width]
    pixels = np.stack([255 * right / width, 255 * down / height, 0 * right], axis=2).astype(np.uint8)
    for seed in range(20):
        part = np.asarray(random_resized_crop(PILImage.fromarray(pixels), 64, rng(seed)), dtype=float) / 255
        assert part.shape == (64, 64, 3)
        sides = (part[-1, -1, 1] - part[0, 0, 1]) * height, (part[-1, -1, 0] - part[0, 0, 0]) * width
        assert 0.04 < sides[0] * sides[1] / (height * width) <= 1 and 0.65 < sides[0] / sides[1] < 1.55


def test_rows_differ_by_epoch_and_seed_alone(images_dataset):
    processor = random_classifier("resnet-20", ["a", "b"], side=12).image_processor
    rows, again, other = (
        Rows(images_dataset, "image", processor, 12, labels=np.arange(60), augment=True, flip=True, seed=seed)
        for seed in (1, 1, 2)
    )
    first = [rows[row]["pixel_values"] for row in range(60)]
    assert rows[7]["labels"] == 7 and first[0].shape == (3, 12, 12)
    assert all(torch.equal(first[row], again[row]["pixel_values"]) for row in reversed(range(60)))
    assert not all(torch.equal(first[row], other[row]["pixel_values"]) for row in range(60))
    rows.epoch.fill_(1)
    assert not all(torch.equal(first[row], rows[row]["pixel_values"]) for row in range(60))


@pytest.mark.parametrize("augment", [False, True])
def test_rows_that_are_asked_for_together_are_those_asked_for_one_by_one(images_dataset, augment):
    processor = random_classifier("resnet-20", ["a", "b"], side=12).image_processor
    rows = Rows(images_dataset, "image", processor, 12, labels=np.arange(60), augment=augment, flip=True)
    for row, together in zip((9, 2, 31), rows.__getitems__([9, 2, 31]), strict=True):
        assert together["labels"] == rows[row]["labels"] == row
        assert torch.equal(together["pixel_values"], rows[row]["pixel_values"])


def test_a_row_that_is_tested_is_what_the_image_processor_gives(images_dataset):
    processor = random_classifier("resnet-20", ["a", "b"], side=300).image_processor
    row = Rows(images_dataset, "image", processor, 224)[5]
    expected = processor(images=images_dataset[5]["image"], return_tensors="pt")["pixel_values"][0]
    assert set(row) == {"pixel_values"} and torch.equal(row["pixel_values"], expected)
    assert expected.shape == (3, 224, 224)


@pytest.mark.parametrize(
    ("architecture", "side", "num_classes", "millions"),
    [
        # He et al. (2016) 0.27; timm and torchvision for ImageNet; 11.17 and 23.52 are the usual CIFAR ResNets.
        ("resnet-20", 32, 10, 0.272),
        ("resnet-18", 32, 10, 11.174),
        ("resnet-50", 32, 10, 23.521),
        ("resnet-18", 500, 1000, 11.690),
        ("resnet-50", 224, 1000, 25.557),
        ("vit-s", 224, 1000, 22.051),
        ("vit-b", 224, 1000, 86.568),
        ("vit-l", 224, 1000, 304.327),
        ("swin-t", 224, 1000, 28.288),
    ],
)
def test_architectures_have_their_parameters(architecture, side, num_classes, millions):
    with torch.device("meta"):
        classifier = random_classifier(architecture, [str(i) for i in range(num_classes)], side=side)
    assert classifier.model.num_parameters() == pytest.approx(millions * 1e6, abs=600)
    assert classifier.image_size == (side if side <= 64 else 224)


@pytest.mark.parametrize("architecture", ["resnet-18", "vit-s", "swin-t"])
@pytest.mark.parametrize("side", [8, 32])
def test_small_images_keep_their_size(architecture, side):
    model = random_classifier(architecture, ["a", "b", "c"], side=side).model.eval()
    pixels = torch.zeros(2, 3, side, side)
    with torch.inference_mode():
        assert model(pixel_values=pixels).logits.shape == (2, 3)
        if architecture == "resnet-18":
            # Three of the four stages halve the side: 4 x 4 positions are left of 32.
            assert model.resnet(pixels).last_hidden_state.shape[-2:] == (side // 8, side // 8)


@pytest.mark.skipif(is_timm_available(), reason="timm is installed")
@pytest.mark.parametrize("architecture", ["vgg-16", "densenet-121", "timm/resnet10t"])
def test_timm_is_asked_for_by_its_extra(architecture):
    with pytest.raises(InputError, match=rf'{architecture} is built by timm.*pip install "hf_clipselect\[timm\]"'):
        run("--architecture", architecture, "--output_dir", "never")


@pytest.mark.skipif(not is_timm_available(), reason="needs timm")
@pytest.mark.parametrize("architecture", ["vgg-16", "densenet-121"])
def test_timm_builds_these(architecture):
    model = random_classifier(architecture, ["a", "b", "c"], side=64).model.eval()
    with torch.inference_mode():
        assert model(pixel_values=torch.zeros(2, 3, 64, 64)).logits.shape == (2, 3)


@pytest.mark.skipif(not is_timm_available(), reason="needs timm")
def test_weights_of_timm_keep_their_normalisation(tmp_path):
    """A folder as timm has it on the Hub."""
    import timm

    model = timm.create_model("resnet10t", num_classes=3)
    config = {**model.pretrained_cfg, "mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2), "num_classes": 3}
    content = {"architecture": "resnet10t", "num_classes": 3, "num_features": 512, "pretrained_cfg": config}
    (tmp_path / "config.json").write_text(json.dumps(content))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    classifier = pretrained_classifier(str(tmp_path), ["a", "b", "c", "d"])
    assert tuple(classifier.image_processor.image_mean) == (0.5, 0.5, 0.5) and classifier.image_size == 176
    assert tuple(classifier.image_processor.image_std) == (0.2, 0.2, 0.2)
    assert classifier.model.config.id2label == {0: "a", 1: "b", 2: "c", 3: "d"}
    kept = classifier.model.timm_model.conv1[0].weight
    assert torch.equal(kept, model.conv1[0].weight)
    with torch.inference_mode():
        assert classifier.model.eval()(pixel_values=torch.zeros(1, 3, 176, 176)).logits.shape == (1, 4)


@pytest.mark.slow
@pytest.mark.skipif(not is_timm_available(), reason="needs timm")
def test_a_network_of_timm_is_trained_saved_and_loaded(tmp_path):
    rows = load_digits_dataset("test").select(range(40))
    features = rows.features
    rows = rows.map(lambda row: {"image": row["image"].resize((32, 32))}, features=features)
    rows.save_to_disk(tmp_path / "rows")
    flags = [
        "--dataset_name",
        tmp_path / "rows",
        "--eval_dataset",
        f"{tmp_path / 'rows'}:test",
        "--train_split_name",
        "test",
    ]
    run(*flags, "--architecture", "densenet-121", "--output_dir", tmp_path / "run", "--num_train_epochs", 1)
    card = (tmp_path / "run" / "README.md").read_text()
    assert "`pip install timm`" in card and "timm 1" in card and "`densenet-121` with random weights" in card
    again = ["--model_name_or_path", tmp_path / "run", "--num_train_epochs", 0, "--output_dir", tmp_path / "again"]
    first, second = json.loads((tmp_path / "run" / "results.json").read_text()), run(*flags, *again)
    assert first["eval"] == second["eval"] and second["model"]["architecture"] == "timm/densenet121"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two epochs of five steps, with all checkpoints."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    results = run("--output_dir", folder, "--save_strategy", "steps", "--save_steps", 3, "--save_total_limit", 9)
    return results, folder


def test_a_run_leaves_a_model_its_figures_and_a_card(trained):
    results, folder = trained
    assert results == json.loads((folder / "results.json").read_text())
    assert results["train"]["num_rows"] == 160 and results["train"]["num_steps"] == 10
    figures = results["eval"]["embedded/digits:test"]
    assert figures["num_rows"] == 500 and 0.1 < figures["accuracy"] < figures["top_5_accuracy"]
    card = ModelCard.load(folder / "README.md")
    assert {result.metric_value for result in card.data.eval_results} == {
        figures["accuracy"],
        figures["top_5_accuracy"],
    }
    assert "More Information Needed" not in card.text and f"{figures['accuracy']:.2%}" in card.text


def test_rows_in_memory_are_trained_on_as_a_run_trains_and_leave_no_file(trained, tmp_path):
    flags = [*QUICK, "--disable_tqdm", "true", "--output_dir", str(tmp_path / "never")]
    arguments, training = parse_training_arguments(flags)
    train = load_train_rows(arguments)
    eval_sets = load_eval_sets(arguments, train)
    fitted = fit_and_test(train, eval_sets, arguments, training)
    [tested] = fitted.tested
    assert tested.figures == trained[0]["eval"]["embedded/digits:test"] and fitted.num_steps == 10
    assert tested.is_right.mean() == tested.figures["accuracy"] and fitted.seconds > 0
    assert not (tmp_path / "never").exists() and training.output_dir == str(tmp_path / "never")
    # Images of 8 pixels: another side is another network, here the one of stems and patches of the papers.
    assert image_side(train) == 8
    large = build_classifier(arguments, train, side=65)
    assert large.image_size == 224 and fitted.classifier.image_size == 8


def test_a_model_is_loaded_by_name_and_measures_the_same(trained):
    results, folder = trained
    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    assert model.config.id2label[7] == "seven"
    test = load_digits_dataset("test")
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels = processor(images=[image.convert("RGB") for image in test["image"]], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        right = model(pixel_values=pixels).logits.argmax(1) == torch.tensor(test["label"])
    assert right.double().mean().item() == pytest.approx(results["eval"]["embedded/digits:test"]["accuracy"])


def test_a_model_is_loaded_by_the_code_beside_its_weights(trained):
    """As with trust_remote_code=True, where this package is not installed."""
    _, folder = trained
    source = (folder / "small_image_resnet.py").read_text()
    imported = {
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert imported == {"torch", "transformers"}
    code = json.loads((folder / "config.json").read_text())["auto_map"]["AutoModelForImageClassification"]
    kind = get_class_from_dynamic_module(code, str(folder))
    assert kind.__module__.startswith("transformers_modules.")
    loaded, weights = kind.from_pretrained(folder).state_dict(), load_file(folder / "model.safetensors")
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


@pytest.mark.parametrize("step", [3, 6])
def test_a_run_that_goes_on_ends_with_the_same_weights(trained, tmp_path, step):
    """Step 3 is in the middle of the first epoch, step 6 in the second."""
    _, folder = trained
    shutil.copytree(folder / f"checkpoint-{step}", tmp_path / f"checkpoint-{step}")
    # A process that is killed while it saves leaves weights without the state that belongs to them.
    shutil.copytree(folder / "checkpoint-9", tmp_path / "checkpoint-9")
    (tmp_path / "checkpoint-9" / "trainer_state.json").unlink()
    run("--output_dir", tmp_path, "--resume_from_checkpoint", "true", "--save_strategy", "no")
    whole, resumed = (load_file(path / "model.safetensors") for path in (folder, tmp_path))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_another_run_is_not_written_over(trained):
    with pytest.raises(InputError, match="holds another run; .*--resume_from_checkpoint.*--overwrite_output_dir"):
        run("--output_dir", trained[1])


def test_training_anew_leaves_nothing_to_go_on_from_by_mistake(trained, tmp_path):
    folder = shutil.copytree(trained[1], tmp_path / "run")
    results = run("--output_dir", folder, "--overwrite_output_dir", "--num_train_epochs", 0)
    assert not list(folder.glob("checkpoint-*")) and results["train"]["num_steps"] == 0
    assert results == json.loads((folder / "results.json").read_text())


def test_a_checkpoint_of_another_network_or_other_classes_is_refused(trained, tmp_path):
    checkpoint = trained[1] / "checkpoint-6"
    with pytest.raises(InputError, match="checkpoint-6 is of a run with another network; .*--overwrite_output_dir"):
        run("--resume_from_checkpoint", checkpoint, "--architecture", "vit-s", "--output_dir", tmp_path / "never")
    with pytest.raises(InputError, match="another network"):
        check_fits(str(checkpoint), random_classifier("resnet-18", ["a", "b"], side=8).model)
    with pytest.raises(InputError, match="other names of classes"):
        check_fits(str(checkpoint), random_classifier("resnet-20", list("abcdefghij"), side=8).model)
    assert not (tmp_path / "never").exists()


def test_a_training_that_diverged_has_no_accuracy(tmp_path):
    with pytest.raises(InputError, match="training diverged.*embedded/digits:test.*--learning_rate"):
        run("--output_dir", tmp_path, "--learning_rate", 1e30, "--num_train_epochs", 1)
    assert not (tmp_path / "results.json").exists()


@pytest.mark.slow
def test_a_push_that_would_fail_is_refused_before_training(tmp_path):
    with LoopbackHub(tmp_path / "hub") as hub:
        done = run_python(
            RECIPE,
            *QUICK,
            "--push_to_hub",
            "--hub_model_id",
            "alice/digits",
            cwd=tmp_path,
            env=hub.environment("hf_alice_read", tmp_path / "home"),
        )
    assert done.returncode == 2 and "the token of alice may read but not write there" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "classifier_output").exists()


def test_a_trained_model_is_a_start_for_other_classes(trained, tmp_path, images_dataset):
    images_dataset.save_to_disk(tmp_path / "three")
    results = run(
        "--dataset_name",
        tmp_path / "three",
        "--model_name_or_path",
        trained[1],
        "--eval_dataset",
        f"{tmp_path / 'three'}:train",
        "--output_dir",
        tmp_path / "run",
    )
    assert results["eval"]["three:train"]["num_classes"] == 3 and results["model"]["image_size"] == 8
    written = (tmp_path / "run" / "README.md").read_text() + (tmp_path / "run" / "results.json").read_text()
    assert str(tmp_path) not in written and "model-index" not in written


@pytest.fixture(scope="module")
def subset(tmp_path_factory):
    """A selection of the digits by made-up embeddings, as a run publishes it."""
    folder = tmp_path_factory.mktemp("subset")
    train = load_digits_dataset("train")
    embeds = np.eye(10)[np.array(train["label"])] + rng().normal(scale=0.3, size=(len(train), 10))
    result = select_embeddings(embeds, np.eye(10), np.array(train["label"]), selection_ratio=0.3)
    result.apply(train).to_parquet(folder / "train-00000-of-00001.parquet")
    return folder


def test_subsets_are_trained_on_and_several_sets_tested_on(subset, tmp_path):
    test = load_digits_dataset("test")
    names = test.features["label"].names
    # Some classes in another order, and rows with several right classes.
    few = [row for row, label in enumerate(test["label"]) if label in (1, 3, 8)]
    feature = ClassLabel(names=["eight", "one", "three"])
    labels = [feature.str2int(names[test[row]["label"]]) for row in few]
    some = test.select(few).remove_columns("label").add_column("label", labels, feature=feature)
    for name in ("some", "lists"):
        (tmp_path / name).mkdir()
    some.to_parquet(tmp_path / "some" / "test-0.parquet")
    lists = Features({"image": Image(), "label": List(Value("int64"))})
    Dataset.from_dict({"image": test["image"][:50], "label": [list(range(10))] * 50}, features=lists).to_parquet(
        tmp_path / "lists" / "test-0.parquet"
    )
    results = run(
        "--dataset_name",
        subset,
        "--architecture",
        "resnet-20",
        "--eval_dataset",
        "embedded/digits:test",
        tmp_path / "some",
        f"{tmp_path / 'lists'}:test",
        "--output_dir",
        tmp_path / "run",
        "--lr_milestones",
        1,
        "--lr_gamma",
        0.2,
        "--max_eval_samples",
        100,
        "--eval_strategy",
        "epoch",
    )
    whole, some, lists = results["eval"].values()
    assert (whole["num_rows"], some["num_rows"], lists["num_rows"]) == (100, 100, 50)
    assert (whole["num_classes"], some["num_classes"], lists["num_classes"]) == (10, 3, 10)
    assert some["accuracy"] > whole["accuracy"] and "top_5_accuracy" not in some and lists["accuracy"] == 1
    logs = json.loads(next((tmp_path / "run").glob("checkpoint-*/trainer_state.json")).read_text())["log_history"]
    assert [log["learning_rate"] for log in logs if "learning_rate" in log] == pytest.approx([0.1, 0.02])
    # The evaluation of the last epoch is that of the first set.
    evaluated = [log["eval_accuracy"] for log in logs if "eval_accuracy" in log]
    assert len(evaluated) == 2 and evaluated[-1] == pytest.approx(whole["accuracy"])


def test_a_share_that_was_not_written_is_found_by_the_scores(tmp_path):
    train = load_digits_dataset("train")
    make_result(train, (0.3,), name="embedded/digits", report=True).save(tmp_path / "subset")
    with pytest.raises(
        InputError, match="is the folder of a selection; .*subset --dataset_config_name.*--selection_ratio"
    ):
        run("--dataset_name", tmp_path, "--architecture", "resnet-20", "--output_dir", tmp_path / "never")
    results = run(
        "--dataset_name",
        tmp_path / "subset",
        "--selection_ratio",
        0.1,
        "--max_train_samples",
        9999,
        "--architecture",
        "resnet-20",
        "--eval_dataset",
        "embedded/digits:test",
        "--output_dir",
        tmp_path / "run",
    )
    assert results["train"]["num_rows"] == 130
    card = (tmp_path / "run" / "README.md").read_text()
    assert (
        "130 of `subset`, split `train`, selection ratio 0.1, selected from `embedded/digits`, split `train`\n" in card
    )


def test_what_can_not_be_tested_on_is_told_before_training(subset, tmp_path):
    never = ["--output_dir", tmp_path / "never"]
    with pytest.raises(InputError, match="nothing to test on.*train.*--eval_dataset"):
        run("--dataset_name", subset, *never)
    with pytest.raises(InputError, match="NAME:CONFIG:SPLIT"):
        run("--eval_dataset", "a:b:c:d", *never)
    features = Features({"image": Image(), "label": ClassLabel(names=["one", "dog"])})
    Dataset.from_dict(
        {"image": load_digits_dataset("test")["image"][:2], "label": [0, 1]}, features=features
    ).save_to_disk(tmp_path / "dogs")
    with pytest.raises(InputError, match="'part'.*train, test, all .--eval_split_name"):
        run("--eval_split_name", "part", *never)
    with pytest.raises(InputError, match="embedded/digits:part can't be loaded: .*'part'.*train, test, all .SPLIT"):
        run("--eval_dataset", "embedded/digits:part", *never)
    with pytest.raises(InputError, match="both be called data:test"):
        run("--eval_dataset", f"{tmp_path}/a/data:test", f"{tmp_path}/b/data:test", *never)
    with pytest.raises(InputError, match="embedded/digits:test can't be tested on: .*1 class only"):
        run("--eval_dataset", "embedded/digits:test", "--max_eval_samples", 1, *never)
    with pytest.raises(InputError, match="1 classes that the model does not learn, such as 'dog'; it learns 'zero'"):
        run("--eval_dataset", f"{tmp_path / 'dogs'}", *never)
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--architecture", "resnet-19"], "resnet-19 is unknown; choose one of resnet-20, resnet-18"),
        (["--architecture", "resnet-18", "--model_name_or_path", "x"], "give one of them"),
        (["--architecture", "resnet-20", "--pretrained"], "no weights are known for resnet-20"),
        (["--model_name_or_path", "nowhere"], "nowhere can't be loaded as an image classifier"),
        (["--lr_milestones", "60", "30"], "epochs above 0 that increase"),
        (["--lr_milestones", "1", "--warmup_steps", "5"], "do not go together"),
        (["--lr_milestones", "1", "--max_steps", "5"], "are epochs, and --max_steps 5 are none"),
        (["--max_train_samples", "0"], "at least 1"),
        (["--per_device_train_batch_size", "0"], "--per_device_train_batch_size must be at least 1, got 0"),
        (["--num_train_epochs", "-1"], "--num_train_epochs must be 0"),
        (["--push_to_hub"], "--push_to_hub needs --hub_model_id"),
        (["--selection_ratio", "0.3", "--dataset_config_name", "ratio_30"], "both say which rows"),
        (["--selection_ratio", "0.3"], "needs a selection: name its folder"),
        (["--resume_from_checkpoint", "nowhere"], "nowhere is not a checkpoint folder"),
        (["--optim", "none_such"], "training arguments do not fit"),
        (["--hub_token", "hf_x"], "would be written into training_args.bin"),
        (["--push_to_hub", "--hub_model_id", "digits"], "is no id of a repository; give one such as user/name"),
    ],
)
def test_arguments_that_do_not_fit(flags, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run("--output_dir", tmp_path / "never", *flags)
    assert not (tmp_path / "never").exists()


def test_pretrained_weights_are_named_for_architectures():
    assert set(PRETRAINED) == set(ARCHITECTURES) - {"resnet-20"}


@pytest.mark.parametrize("path", YAML_RECIPES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_yaml_recipes_are_the_papers_schedules(path):
    arguments, training = parse_training_arguments(["--config", str(path), "--use_cpu"])
    text, values = path.read_text(), yaml.safe_load(path.read_text())
    assert (
        all(f"# {word}:" in text for word in ("Paper", "Hardware", "Launch"))
        and f"recipes/{path.parent.name}/{path.name}" in text
    )
    assert not any(str(value).startswith(("/", "~")) for value in values.values())
    rate = [
        training.learning_rate * milestone_factor(epoch, arguments.lr_milestones, arguments.lr_gamma)
        for epoch in range(int(training.num_train_epochs))
    ]
    drops = [epoch for epoch in range(1, len(rate)) if rate[epoch] < rate[epoch - 1]]
    expected = {  # epochs, rows of a step and process, first and last rate, epochs after which it falls, weight decay
        "cifar10": (200, 128, 0.1, 0.0008, [60, 120, 160], 5e-4),
        "imagenet1k": (105, 32, 0.01, 0.000001, [30, 60, 90, 100], 1e-3),
    }[path.parent.name]
    assert (len(rate), training.per_device_train_batch_size, rate[0]) == expected[:3]
    assert rate[-1] == pytest.approx(expected[3]) and drops == expected[4] and training.weight_decay == expected[5]
    assert training.optim == "sgd" and training.optim_args == "momentum=0.9"


@pytest.mark.slow
def test_the_recipe_learns_the_digits_and_pushes_the_model(tmp_path):
    command = [RECIPE, "--use_cpu", "--num_train_epochs", "5", "--push_to_hub", "--hub_model_id", "alice/digits"]
    with LoopbackHub(tmp_path / "hub") as hub:
        options = {"cwd": tmp_path, "env": hub.environment("hf_alice_write", tmp_path / "home")}
        hub.faults.add("status", method="POST", path="/commit/", status=403, times=None)
        failed = subprocess.run([sys.executable, *command], capture_output=True, text=True, **options)
        assert failed.returncode == 1 and "--resume_from_checkpoint true pushes it" in failed.stderr.splitlines()[-1]
        hub.faults.clear()
        command += ["--resume_from_checkpoint", "true"]
        done = run_python(*command, **options)
        assert done.returncode == 0, done.stderr[-3000:]
        pushed = hub.read("alice/digits", "README.md").decode()
        assert {"model.safetensors", "config.json", "small_image_resnet.py", "preprocessor_config.json"} <= set(
            hub.tree("alice/digits")
        )
    assert pushed == (tmp_path / "classifier_output" / "README.md").read_text() and "# digits" in pushed
    figures = json.loads((tmp_path / "classifier_output" / "results.json").read_text())["eval"]["embedded/digits:test"]
    assert figures["accuracy"] > 0.9 and f"accuracy {100 * figures['accuracy']:.2f} %" in done.stdout


@pytest.mark.slow
def test_two_processes_train_one_model(trained, tmp_path):
    """The rows of a step are halved, so that steps are those of one process."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
        "29643",
        RECIPE,
        *QUICK,
        "--per_device_train_batch_size",
        "16",
        "--output_dir",
        tmp_path / "run",
    ]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env={**os.environ, "ACCELERATE_USE_CPU": "true"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("embedded/digits:test: accuracy") == 1
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["train"]["processes"] == 2 and results["train"]["num_steps"] == 10
    assert results["eval"]["embedded/digits:test"]["num_rows"] == 500


def test_bad_input_exits_with_one_line(tmp_path):
    done = run_recipe("train_classifier.py", "--architecture", "resnet-19", "--use_cpu", cwd=tmp_path)
    assert done.returncode == 2 and not any(tmp_path.iterdir())
    assert done.stderr.splitlines()[-1].startswith("error: --architecture resnet-19")

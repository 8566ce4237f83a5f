"""The YAML files of the paper's tables and figures: what they say, parse to, build and select."""

import re
from pathlib import Path

import numpy as np
import pyarrow.csv as pc
import pytest
import torch
import yaml
from datasets import ClassLabel, Dataset, Features, Image
from dual_encoders import save_dual_encoder
from PIL import Image as PILImage
from recipe_files import RECIPES, run_recipe
from transformers.utils import is_timm_available

from hf_clipselect.adapters.training import Schedule
from hf_clipselect.config.arguments import DEFAULT_PROMPT_TEMPLATE, AdaptationArguments
from hf_clipselect.config.command_line import parse_arguments
from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.classifier.architectures import SMALL_SIZE, TIMM_PREFIX, random_classifier
from hf_clipselect.evaluation.comparison import METHODS, parse_sweep_arguments, settings_of
from hf_clipselect.evaluation.comparison.sweep import kept_rows
from hf_clipselect.evaluation.paper_figures import paper_figures
from hf_clipselect.selection import selection_count


SWEEPS = sorted([*RECIPES.glob("*/table*.yaml"), *RECIPES.glob("*/figure*.yaml")])
PAPER = sorted(RECIPES.glob("*/paper.yaml"))
# Longer side of the images of each dataset, for the networks.
SIDES = {"uoft-cs/cifar10": 32, "uoft-cs/cifar100": 32, "zh-plus/tiny-imagenet": 64, "ILSVRC/imagenet-1k": 224}
# What the paper prints and a sweep makes: its tables, and the figures that are no pictures.
MADE = {"table": range(1, 12), "figure": (4, 5, 6, 7, 10)}
NAMES = ["red thing", "green thing", "blue thing", "dark thing"]
COLORS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [30, 30, 30]])
NUM_ROWS = 64
THETA_NEEDS_ROWS = "paper_loop_theta_5e-5"
PROXY = "ResNet-18"

each_sweep = pytest.mark.parametrize("path", SWEEPS, ids=lambda path: str(path.relative_to(RECIPES)))


def head_of(path: Path) -> str:
    """The comment at the top, in one line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))


def part_of(head: str, name: str) -> str:
    return re.search(rf"{name}: +(.*?)(?= (?:Paper|Hardware|Hours|Launch): |$)", head)[1]


def test_every_table_and_figure_has_a_command():
    heads = " ".join(head_of(path) for path in SWEEPS)
    for what, numbers in MADE.items():
        for number in numbers:
            assert re.search(rf"\b{what}s? {number}\b", heads, re.IGNORECASE), (what, number)


@each_sweep
def test_a_head_tells_hardware_hours_and_its_command(path):
    head = head_of(path)
    assert "GPU" in part_of(head, "Hardware")
    assert "an estimate, not run" in part_of(head, "Hours")
    assert f"--config recipes/{path.relative_to(RECIPES)}" in part_of(head, "Launch")


@each_sweep
def test_figures_in_a_head_are_those_that_the_paper_prints(path):
    printed = {f"{figure.figure:.2f}" for figure in paper_figures()}
    told = re.findall(r"(?<![\d.])\d+\.\d\d(?!\d)", part_of(head_of(path), "Paper"))
    assert set(told) <= printed


@each_sweep
def test_hours_are_those_of_the_trainings(path):
    """As many as all methods at all ratios take, seed by seed, beside those that tune."""
    arguments = parse_sweep_arguments(["--config", str(path)])
    damages = len(arguments.noise_rate) * len(arguments.corruption_rate)
    methods = [METHODS[name] for name in arguments.methods if name != "full"]
    per_ratio = len(methods) * len(arguments.seeds)
    per_ratio += sum(len(method.variants()) for method in methods if method.grid) * len(arguments.tuning_seeds)
    parts = {
        "trainings": (per_ratio * len(arguments.selection_ratio) + len(arguments.seeds)) * len(arguments.architecture),
        "on all rows": per_ratio * sum(arguments.selection_ratio) + len(arguments.seeds),
    }
    hours = part_of(head_of(path), "Hours")
    assert int(re.search(r"([\d,]+) trainings", hours)[1].replace(",", "")) == damages * parts["trainings"]
    whole = int(re.search(r"as long as (\d+) on all rows", hours)[1])
    assert whole == pytest.approx(damages * parts["on all rows"], abs=0.51)
    each = sum(float(hour) for hour in re.findall(r"([\d.e+]+) h (?:of|for)", hours)) or float(
        re.search(r"at ([\d.e+]+) h", hours)[1]
    )
    assert float(re.search(r"about ([\d.]+),", hours)[1]) == pytest.approx(each * whole, rel=0.1)


@each_sweep
def test_what_the_paper_calls_ours_has_its_loop(path):
    """`paper` sorts the scores, which the paper prints as "w/o L_s" in table 5 alone."""
    arguments = parse_sweep_arguments(["--config", str(path)])
    assert "paper_loop" in arguments.methods
    if "paper" in arguments.methods:
        assert "`paper`" in head_of(path) or "cifar100/table5.yaml" in head_of(path)


@each_sweep
def test_a_head_tells_what_methods_learn_from(path):
    """Of adapters as a sweep trains them on 50,000 rows or more, and of the proxy; and how to change that."""
    head, arguments = head_of(path), parse_sweep_arguments(["--config", str(path)])
    adaptation = AdaptationArguments(adaptation="always")
    schedule = Schedule.for_rows(50_000, adaptation)
    rate = f"{schedule.learning_rate(0, adaptation.learning_rate):.1e}".replace("e-0", "e-")
    trained = f"at most {schedule.num_steps} steps of {schedule.batch_size:,} rows, Adam at {rate}"
    assert f'{trained}, the prompt "{DEFAULT_PROMPT_TEMPLATE}"' in head
    assert "recipes/cifar10/paper.yaml" in head or "recipes/cifar100/paper.yaml" in head
    assert arguments.prompt_template is None
    has_proxy = any(METHODS[name].needs_proxy for name in arguments.methods)
    assert (f"a {PROXY} that is trained ten epochs" in head) == has_proxy
    assert ("--proxy_architecture and --proxy_epochs" in head) == has_proxy
    assert (arguments.proxy_architecture, arguments.proxy_epochs) == (PROXY.lower(), 10)


@each_sweep
def test_a_head_tells_the_stems_of_its_networks(path):
    head, arguments = head_of(path), parse_sweep_arguments(["--config", str(path)])
    small = SIDES[arguments.dataset_name] <= SMALL_SIZE
    has_resnet = any(name.startswith("resnet") for name in arguments.architecture)
    assert ("with a 3x3 convolution of stride 1 and no pooling" in head) == (small and has_resnet)
    # timm's has the same at every size.
    assert ("DenseNet-121 begins with a 7x7 convolution of stride 2" in head) == (
        "densenet-121" in arguments.architecture
    )


@each_sweep
def test_a_sweep_parses_and_names_what_there_is(path):
    arguments = parse_sweep_arguments(["--config", str(path)])
    assert arguments.dataset_name in SIDES
    assert not any(str(value).startswith(("/", "~")) for value in yaml.safe_load(path.read_text()).values())
    assert arguments.output_dir == f"compare_output/{path.parent.name}_{path.stem}"
    if path.stem == "table9":  # the smaller theta must be a row at least
        assert THETA_NEEDS_ROWS in arguments.methods


@each_sweep
def test_its_networks_are_built(path):
    arguments = parse_sweep_arguments(["--config", str(path)])
    for architecture in arguments.architecture:
        with torch.device("meta"):
            if architecture in ("vgg-16", "densenet-121") or architecture.startswith(TIMM_PREFIX):
                if not is_timm_available():
                    with pytest.raises(InputError, match="timm"):
                        random_classifier(architecture, NAMES, side=SIDES[arguments.dataset_name])
                    continue
            model = random_classifier(architecture, NAMES, side=SIDES[arguments.dataset_name]).model
        assert model.config.num_labels == len(NAMES)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """64 pictures of 12 x 12 pixels, one colour a class, a test split, and a CLIP with random weights."""
    folder = tmp_path_factory.mktemp("paper")
    rng = np.random.default_rng(0)
    features = Features({"image": Image(), "label": ClassLabel(names=NAMES)})
    (folder / "things").mkdir()
    for split, count in (("train", NUM_ROWS), ("test", 16)):
        labels = np.arange(count) % len(NAMES)
        pixels = np.clip(COLORS[labels][:, None, None] + rng.normal(0, 50, (count, 12, 12, 3)), 0, 255)
        images = [PILImage.fromarray(image) for image in pixels.astype(np.uint8)]
        columns = {"image": images, "label": labels}
        Dataset.from_dict(columns, features=features).to_parquet(folder / "things" / f"{split}-0.parquet")
    save_dual_encoder("clip", folder / "clip")
    return folder


def toy_flags(data: Path, output_dir: Path) -> list[str]:
    """What makes a sweep one of minutes on a CPU: other rows, fewer, a smaller CLIP and network, one epoch."""
    values = {
        "dataset_name": data / "things",
        "train_split_name": "train",
        "eval_split_name": "test",
        "label_column_name": "label",
        "model_name_or_path": data / "clip",
        "max_train_samples": NUM_ROWS,
        "pretrained": "false",
        "architecture": "resnet-20",
        "num_train_epochs": 1,
        "per_device_train_batch_size": 16,
        "learning_rate": 0.01,
        "dataloader_num_workers": 0,
        "proxy_architecture": "resnet-20",
        "proxy_epochs": 1,
        "num_val_rows": 4,
        "seeds": 0,
        "tuning_seeds": 1,
        "output_dir": output_dir,
    }
    return [text for name, value in values.items() for text in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory):
    """Shared, so that methods of several tables select once."""
    return tmp_path_factory.mktemp("swept")


@pytest.mark.slow
@each_sweep
def test_its_selections_are_made(path, data, output_dir):
    arguments = parse_sweep_arguments(["--config", str(path), *toy_flags(data, output_dir)])
    arguments.eval_dataset = None
    for setting in settings_of(arguments):
        for name in arguments.methods:
            if name == THETA_NEEDS_ROWS:
                with pytest.raises(InputError, match="theta"):
                    METHODS[name].check(setting, arguments.selection_ratio)
                continue
            if check := METHODS[name].check:
                check(setting, arguments.selection_ratio)
            for variant in METHODS[name].variants():
                kept = kept_rows(setting, variant, arguments.selection_ratio)
                counts = {ratio: len(rows) for ratio, rows in kept.items()}
                expected = {ratio: selection_count(ratio, NUM_ROWS) for ratio in arguments.selection_ratio}
                assert counts == (dict.fromkeys(expected, NUM_ROWS) if name == "full" else expected), name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar100/table5.yaml", "cifar10/table6.yaml"])
def test_two_go_from_images_to_tables_and_plots(name, data, tmp_path):
    flags = [*toy_flags(data, tmp_path / "out"), "--selection_ratio", "0.5"]
    flags += ["--tsne_ratio", "0.5"] if name == "cifar10/table6.yaml" else []
    done = run_recipe("compare.py", "--config", RECIPES / name, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"results.csv", "results.parquet", "summary.csv", "tables.md"} < written
    assert any(path.endswith(".png") for path in written)
    rows = pc.read_csv(tmp_path / "out" / "results.csv").to_pylist()
    assert [row["method"] for row in rows] == parse_sweep_arguments(["--config", str(RECIPES / name)]).methods
    assert all(0 <= row["accuracy"] <= 1 and row["model"] == "resnet-20" for row in rows)


@pytest.mark.parametrize("path", PAPER, ids=lambda path: str(path.relative_to(RECIPES)))
def test_the_recipe_of_the_paper_is_what_the_paper_says(path):
    arguments = parse_arguments(["--config", str(path)])
    selection, adaptation = arguments.selection, arguments.adaptation
    assert (selection.objective, selection.solver, selection.theta) == ("paper", "sgd", 5e-4)
    assert (selection.ratio_weight, selection.neighbor_fraction) == (2, 0.1)
    # Appendix C; no fewer steps than 30 epochs of 50,000 rows take.
    assert (adaptation.adaptation, adaptation.learning_rate) == ("always", 1e-4)
    assert (adaptation.num_train_epochs, adaptation.train_batch_size) == (30, 256)
    assert adaptation.max_train_steps >= 30 * 50_000 // 256
    assert arguments.model.prompt_template == ["A photo of {}."]


@pytest.mark.slow
@pytest.mark.parametrize("path", PAPER, ids=lambda path: str(path.relative_to(RECIPES)))
def test_the_recipe_of_the_paper_runs_on_the_digits(path, tmp_path):
    flags = ["--dataset_name", "embedded/digits", "--model_name_or_path", "embedded/tiny-clip", "--use_cpu"]
    flags += ["--label_column_name", "label", "--output_dir", "run"]
    done = run_recipe("select.py", "--config", path, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    counts = [int(count) for count in re.findall(r"ratio_\d+: (\d+) rows", done.stdout)]
    # Theta of 1,297 rows is less than one, so the loop stops at the counts themselves.
    assert counts == [selection_count(ratio, 1297) for ratio in (0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)]

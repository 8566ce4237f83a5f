"""Measure how well a selection keeps wrong labels and damaged images out, and what the kept rows are worth.

    python recipes/label_noise.py                                   # embedded digits, 20 % noise, seeds 0 to 2
    python recipes/label_noise.py --objective released --selection_ratio 0.2 0.5 0.8
    python recipes/label_noise.py --noise_rate 0 --corruption_rate 0.2   # right labels, damaged images

For each seed exactly round(rate * N) rows of the train split get another label, uniformly, and as many images as the corruption
rate says are damaged, in equal shares by the five corruptions of the paper (at severity 5, the strength of the code that the
paper refers to; milder ones leave images that CLIP still reads); the test split stays untouched. Prints for each
ratio the share of wrong labels and of damaged images among the kept rows (lower is better; `ideal` is the least that the ratio
allows), the zero-shot accuracy on the test split before and after adaptation, and the rows of the largest class over those of
the smallest. On embedded digits a small network is trained too, on the kept rows, on random rows of the same number (mean of
three draws) and on all rows, wrong labels and damaged images included. `--output_json` keeps the numbers.
"""

import os
import sys


# Python puts this folder first on its path, where select.py would hide the standard library's `select`.
_HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder or os.getcwd()) != _HERE]

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset

from hf_clipselect import load_adapters, select_dataset
from hf_clipselect.config import EMBEDDED_DATASET, default_model
from hf_clipselect.data import LabelledImages, prepare_dataset
from hf_clipselect.embedded.digits_network import digit_pixels, digits_accuracy
from hf_clipselect.encoder import load_backbone, open_image
from hf_clipselect.metrics import load_metric
from hf_clipselect.prompts import class_prompts
from hf_clipselect.robustness import add_label_noise, corrupt_images
from hf_clipselect.source import load_source


NUM_RANDOM_DRAWS = 3


def main() -> None:
    arguments = parse_arguments()
    model_name = arguments.model_name_or_path or default_model(arguments.dataset_name)
    clean = prepare_dataset(*load_source(arguments.dataset_name, split="train"))
    test = prepare_dataset(*load_source(arguments.dataset_name, split=arguments.eval_split_name))
    runs = [run_seed(seed, clean, test, model_name, arguments) for seed in arguments.seeds]
    print_noise(runs, arguments)
    print_worth(runs, arguments)
    if arguments.output_json:
        names = ("dataset_name", "noise_rate", "corruption_rate", "corruption_severity", "objective", "seeds")
        settings = {name: getattr(arguments, name) for name in names}
        Path(arguments.output_json).write_text(json.dumps({**settings, "model": model_name, "runs": runs}, indent=2))


def run_seed(
    seed: int, clean: LabelledImages, test: LabelledImages, model_name: str, arguments: argparse.Namespace
) -> dict[str, object]:
    """One selection on wrong labels and damaged images, and what is known about it because the clean rows are."""
    ratios = arguments.selection_ratio
    noisy_labels = add_label_noise(clean.labels, len(clean.class_names), rate=arguments.noise_rate, seed=seed)
    wrong = noisy_labels != clean.labels
    noisy = corrupt_images(
        with_labels(clean, noisy_labels),
        image_column=clean.image_column,
        rate=arguments.corruption_rate,
        seed=seed,
        severity=arguments.corruption_severity,
    )
    damaged = np.array(noisy["corruption"]) != "none"
    with tempfile.TemporaryDirectory() as folder:
        result = select_dataset(
            noisy,
            model_name_or_path=model_name,
            selection_ratio=ratios,
            objective=arguments.objective,
            adaptation=arguments.adaptation,
            seed=seed,
            output_dir=folder,
        )
        adapter = Path(folder) / "adapter"
        adapted = test_accuracy(test, model_name, adapter if adapter.is_dir() else None)
    kept = {str(ratio): result.at(ratio).selected for ratio in ratios}
    run = {
        "seed": seed,
        "noise_among_kept": {ratio: float(wrong[rows].mean()) for ratio, rows in kept.items()},
        "least_possible": {ratio: least_share(rows, wrong) for ratio, rows in kept.items()},
        "corrupted_among_kept": {ratio: float(damaged[rows].mean()) for ratio, rows in kept.items()},
        "least_corrupted": {ratio: least_share(rows, damaged) for ratio, rows in kept.items()},
        "class_max_min": {ratio: class_max_min(rows, noisy_labels) for ratio, rows in kept.items()},
        "test_accuracy_plain": test_accuracy(test, model_name, None),
        "test_accuracy_adapted": adapted,
        "adapters_kept": result.report["adaptation"]["kept"],
        "num_steps": result.report["adaptation"]["num_steps"],
    }
    if arguments.dataset_name == EMBEDDED_DATASET:
        run["network_accuracy"] = network_accuracy(digit_pixels(noisy), noisy_labels, kept, seed)
    return run


def with_labels(images: LabelledImages, labels: np.ndarray) -> Dataset:
    column, features = images.label_column, images.dataset.features
    return images.dataset.remove_columns(column).add_column(column, labels, feature=features[column])


def least_share(rows: np.ndarray, bad: np.ndarray) -> float:
    """What a perfect detector would leave: more rows are kept than are good only at high ratios."""
    return max(0, len(rows) - int((~bad).sum())) / len(rows)


def class_max_min(kept: np.ndarray, labels: np.ndarray) -> float:
    """Rows of the largest class over those of the smallest, among the classes that the dataset has; inf where one is lost."""
    selected = np.isin(np.arange(len(labels)), kept)
    return load_metric("selection_quality").compute(selected=selected, references=labels)["class_max_min"]


def network_accuracy(
    pixels: np.ndarray, labels: np.ndarray, kept: dict[str, np.ndarray], seed: int
) -> dict[str, dict[str, float]]:
    # The seed alone draws the rows with wrong labels, [seed, 1] the damaged ones.
    rng = np.random.default_rng([seed, 3])
    draws = {
        ratio: [rng.choice(len(labels), size=len(rows), replace=False) for _ in range(NUM_RANDOM_DRAWS)]
        for ratio, rows in kept.items()
    }
    accuracy = {
        "kept": {ratio: digits_accuracy(pixels[rows], labels[rows], seed=seed) for ratio, rows in kept.items()},
        "random": {
            ratio: float(np.mean([digits_accuracy(pixels[rows], labels[rows], seed=seed) for rows in draws[ratio]]))
            for ratio in kept
        },
    }
    return {**accuracy, "all": dict.fromkeys(kept, digits_accuracy(pixels, labels, seed=seed))}


@torch.inference_mode()
def test_accuracy(test: LabelledImages, model_name: str, adapter: Path | None) -> float:
    """Zero-shot accuracy through the full model, images and all: what a user of the published adapters gets."""
    backbone = load_backbone(model_name)
    model = backbone.model if adapter is None else load_adapters(adapter, base_model=backbone.model)
    [prompts] = class_prompts(test.class_names)
    texts = model.get_text_features(**backbone.tokenizer(prompts, padding=True, return_tensors="pt")).pooler_output
    correct = 0
    for start in range(0, len(test.labels), 64):
        batch = [open_image(image) for image in test.dataset[start : start + 64][test.image_column]]
        pixels = backbone.image_processor(images=batch, return_tensors="pt")["pixel_values"]
        images = model.get_image_features(pixel_values=pixels).pooler_output
        predictions = (torch.nn.functional.normalize(images) @ torch.nn.functional.normalize(texts).T).argmax(1)
        correct += int((predictions.numpy() == test.labels[start : start + 64]).sum())
    return correct / len(test.labels)


def print_noise(runs: list[dict], arguments: argparse.Namespace) -> None:
    print(f"\nWrong labels among the kept rows, % ({arguments.noise_rate:.0%} of all labels are wrong)")
    print_header(arguments, "   test accuracy % plain -> adapted")
    for run in runs:
        accuracy = f"{run['test_accuracy_plain']:.1%} -> {run['test_accuracy_adapted']:.1%}".replace("%", "")
        print_row(f"seed {run['seed']}", percent(run["noise_among_kept"]), f"   {accuracy}")
    print_row("mean", percent(*(run["noise_among_kept"] for run in runs)))
    print_row("ideal", percent(runs[0]["least_possible"]))


def print_worth(runs: list[dict], arguments: argparse.Namespace) -> None:
    """What the README's table does not hold, means over the seeds."""
    if arguments.corruption_rate:
        severity = f"severity {arguments.corruption_severity}"
        print(f"\nDamaged images among the kept rows, % ({arguments.corruption_rate:.0%} of all images, {severity})")
        print_header(arguments)
        for run in runs:
            print_row(f"seed {run['seed']}", percent(run["corrupted_among_kept"]))
        print_row("mean", percent(*(run["corrupted_among_kept"] for run in runs)))
        print_row("ideal", percent(runs[0]["least_corrupted"]))
    if "network_accuracy" in runs[0]:
        print(
            "\nTest accuracy of a small network (64-128-10 on the pixels) trained on these rows, %, mean of the seeds"
        )
        print_header(arguments)
        for name in ("kept", "random", "all"):
            print_row(name, percent(*(run["network_accuracy"][name] for run in runs)))
    print("\nRows of the largest class / of the smallest, among the kept rows, mean of the seeds")
    print_header(arguments)
    print_row("kept", np.mean([list(run["class_max_min"].values()) for run in runs], axis=0))


def print_header(arguments: argparse.Namespace, more: str = "") -> None:
    print("ratio".ljust(10) + "".join(f"{ratio:>8}" for ratio in arguments.selection_ratio) + more)


def print_row(name: str, values: np.ndarray, more: str = "") -> None:
    print(name.ljust(10) + "".join(f"{value:8.2f}" for value in values) + more)


def percent(*shares: dict[str, float]) -> np.ndarray:
    """Means over the seeds, one for each ratio."""
    return 100 * np.mean([list(of_seed.values()) for of_seed in shares], axis=0)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_name", default=EMBEDDED_DATASET, help="Hub id, local folder or embedded/digits.")
    parser.add_argument("--eval_split_name", default="test", help="Split with clean labels to test the adapters on.")
    parser.add_argument("--model_name_or_path", help="CLIP to use; default as in select.py.")
    parser.add_argument("--noise_rate", type=float, default=0.2, help="Share of the labels to make wrong.")
    parser.add_argument("--corruption_rate", type=float, default=0.0, help="Share of the images to damage.")
    parser.add_argument("--corruption_severity", type=int, default=5, help="How badly, 1 to 5; 5 is the paper's.")
    parser.add_argument("--objective", default="clean", help="Preset of the selection.")
    parser.add_argument("--adaptation", default="auto", help="auto, always or off.")
    parser.add_argument("--selection_ratio", type=float, nargs="+", default=[0.2, 0.3, 0.7, 0.8, 0.9])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output_json", help="File for the numbers.")
    return parser.parse_args()


if __name__ == "__main__":
    main()

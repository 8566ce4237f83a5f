"""Measure how well a selection keeps wrong labels out: add symmetric label noise, select, count, and test the adapters.

    python recipes/label_noise.py                                   # embedded digits, 20 % noise, seeds 0 to 2
    python recipes/label_noise.py --objective released --selection_ratio 0.2 0.5 0.8

For each seed exactly round(rate * N) rows of the train split get another label, uniformly; the test split stays untouched.
Prints the share of wrong labels among the kept rows for each ratio (lower is better; `ideal` is the least that the ratio
allows) and the zero-shot accuracy on the test split before and after adaptation. `--output_json` keeps the numbers.
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

from hf_clipselect import SelectionResult, load_adapters, select_dataset
from hf_clipselect.config import EMBEDDED_DATASET, default_model
from hf_clipselect.data import LabelledImages, prepare_dataset
from hf_clipselect.encoder import load_backbone, open_image
from hf_clipselect.prompts import class_prompts
from hf_clipselect.robustness import add_label_noise
from hf_clipselect.source import load_source


def main() -> None:
    arguments = parse_arguments()
    model_name = arguments.model_name_or_path or default_model(arguments.dataset_name)
    clean = prepare_dataset(*load_source(arguments.dataset_name, split="train"))
    test = prepare_dataset(*load_source(arguments.dataset_name, split=arguments.eval_split_name))
    runs = [run_seed(seed, clean, test, model_name, arguments) for seed in arguments.seeds]
    print_table(runs, arguments)
    if arguments.output_json:
        settings = {name: getattr(arguments, name) for name in ("dataset_name", "noise_rate", "objective", "seeds")}
        Path(arguments.output_json).write_text(json.dumps({**settings, "model": model_name, "runs": runs}, indent=2))


def run_seed(
    seed: int, clean: LabelledImages, test: LabelledImages, model_name: str, arguments: argparse.Namespace
) -> dict[str, object]:
    """One selection on noisy labels, and what is known about it because the clean labels are."""
    noisy_labels = add_label_noise(clean.labels, len(clean.class_names), rate=arguments.noise_rate, seed=seed)
    wrong = noisy_labels != clean.labels
    with tempfile.TemporaryDirectory() as folder:
        result = select_dataset(
            with_labels(clean, noisy_labels),
            model_name_or_path=model_name,
            selection_ratio=arguments.selection_ratio,
            objective=arguments.objective,
            adaptation=arguments.adaptation,
            seed=seed,
            output_dir=folder,
        )
        adapter = Path(folder) / "adapter"
        adapted = test_accuracy(test, model_name, adapter if adapter.is_dir() else None)
    return {
        "seed": seed,
        "noise_among_kept": {str(ratio): noise_share(result.at(ratio), wrong) for ratio in arguments.selection_ratio},
        "least_possible": {str(ratio): least_noise(result.at(ratio), wrong) for ratio in arguments.selection_ratio},
        "test_accuracy_plain": test_accuracy(test, model_name, None),
        "test_accuracy_adapted": adapted,
        "adapters_kept": result.report["adaptation"]["kept"],
        "num_steps": result.report["adaptation"]["num_steps"],
    }


def with_labels(images: LabelledImages, labels: np.ndarray) -> Dataset:
    column, features = images.label_column, images.dataset.features
    return images.dataset.remove_columns(column).add_column(column, labels, feature=features[column])


def noise_share(result: SelectionResult, wrong: np.ndarray) -> float:
    return float(wrong[result.selected].mean())


def least_noise(result: SelectionResult, wrong: np.ndarray) -> float:
    """What a perfect detector would leave: more rows are kept than are clean only at high ratios."""
    return max(0, len(result.selected) - int((~wrong).sum())) / len(result.selected)


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


def print_table(runs: list[dict], arguments: argparse.Namespace) -> None:
    ratios = arguments.selection_ratio
    ideal = list(runs[0]["least_possible"].values())
    shares = np.array([list(run["noise_among_kept"].values()) for run in runs])
    rows = [(f"seed {run['seed']}", row, run) for run, row in zip(runs, shares, strict=True)]
    print(f"\nWrong labels among the kept rows, % ({arguments.noise_rate:.0%} of all labels are wrong)")
    print("ratio".ljust(10) + "".join(f"{ratio:>8}" for ratio in ratios) + "   test accuracy % plain -> adapted")
    for name, row, run in rows:
        accuracy = f"{run['test_accuracy_plain']:.1%} -> {run['test_accuracy_adapted']:.1%}".replace("%", "")
        print(name.ljust(10) + "".join(f"{100 * share:8.2f}" for share in row) + f"   {accuracy}")
    print("mean".ljust(10) + "".join(f"{100 * share:8.2f}" for share in shares.mean(axis=0)))
    print("ideal".ljust(10) + "".join(f"{100 * share:8.2f}" for share in ideal))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_name", default=EMBEDDED_DATASET, help="Hub id, local folder or embedded/digits.")
    parser.add_argument("--eval_split_name", default="test", help="Split with clean labels to test the adapters on.")
    parser.add_argument("--model_name_or_path", help="CLIP to use; default as in select.py.")
    parser.add_argument("--noise_rate", type=float, default=0.2, help="Share of the labels to make wrong.")
    parser.add_argument("--objective", default="clean", help="Preset of the selection.")
    parser.add_argument("--adaptation", default="auto", help="auto, always or off.")
    parser.add_argument("--selection_ratio", type=float, nargs="+", default=[0.2, 0.3, 0.7, 0.8, 0.9])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output_json", help="File for the numbers.")
    return parser.parse_args()


if __name__ == "__main__":
    main()

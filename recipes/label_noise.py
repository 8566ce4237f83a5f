"""Measure how well a selection keeps wrong labels and damaged images out, and what the kept rows are worth.

    python recipes/label_noise.py                                   # embedded digits, 20 % noise, seeds 0 to 2
    python recipes/label_noise.py --objective released --selection_ratio 0.2 0.5 0.8
    python recipes/label_noise.py --noise_rate 0 --corruption_rate 0.2   # right labels, damaged images

For each seed exactly round(rate * N) rows of the train split get another label, uniformly, and as many images as the
corruption rate says are damaged, in equal shares by the five corruptions of the paper (at severity 5, the strength of
the code that the paper refers to; milder ones leave images that CLIP still reads); the test split stays untouched.
Prints for each ratio the share of wrong labels and of damaged images among the kept rows (lower is better; `ideal` is
the least that the ratio allows), the zero-shot accuracy on the test split before and after adaptation, and the rows of
the largest class over those of the smallest. On embedded digits a small network is trained too, on the kept rows, on
random rows of the same number (mean of three draws) and on all rows, wrong labels and damaged images included.
`--output_dir` keeps the tables (tables.md) and the numbers of each seed (results.json).
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
from hf_clipselect.config.arguments import EMBEDDED_DATASET, default_model
from hf_clipselect.data import LabelledImages, prepare_dataset
from hf_clipselect.data.prompts import class_prompts
from hf_clipselect.data.source import load_source
from hf_clipselect.encoder.backbone import load_backbone
from hf_clipselect.encoder.images import open_image
from hf_clipselect.errors import InputError, RunError
from hf_clipselect.evaluation.digits_network import digit_pixels, digits_accuracy
from hf_clipselect.evaluation.metrics import load_metric
from hf_clipselect.evaluation.robustness import add_label_noise, corrupt_images
from hf_clipselect.pipeline.provenance import recipe_origin
from hf_clipselect.runtime.files import make_folder, write_text_atomically
from hf_clipselect.runtime.terminal import error_line


NUM_RANDOM_DRAWS = 3


def main() -> int:
    try:
        measure(parse_arguments())
    except (InputError, RunError) as error:
        sys.stderr.write(error_line(error))
        return 2 if isinstance(error, InputError) else 1
    return 0


def measure(arguments: argparse.Namespace) -> None:
    folder = make_folder(arguments.output_dir, "--output_dir") if arguments.output_dir else None
    model_name = arguments.model_name_or_path or default_model(arguments.dataset_name)
    clean = prepare_dataset(*load_source(arguments.dataset_name, split="train"))
    test = prepare_dataset(*load_source(arguments.dataset_name, split=arguments.eval_split_name))
    runs = [run_seed(seed, clean, test, model_name, arguments) for seed in arguments.seeds]
    names = ("dataset_name", "noise_rate", "corruption_rate", "corruption_severity", "objective", "seeds")
    results = {**{name: getattr(arguments, name) for name in names}, "model": model_name, "runs": runs}
    print(markdown(results))
    if folder is not None:
        write_text_atomically(folder / "results.json", json.dumps(results, indent=2) + "\n")
        head = recipe_origin(__file__, "torch", "scikit-learn", "numpy")
        write_text_atomically(folder / "tables.md", f"{head}\n\n{markdown(results)}")


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
    """Rows of the largest class over those of the smallest, among the classes that the dataset has; inf where one is
    lost.
    """
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


def markdown(results: dict[str, object]) -> str:
    """The tables of a run; means are over the seeds."""
    runs, corrupted = results["runs"], results["corruption_rate"]
    setting = f"{results['noise_rate']:.0%} wrong labels, objective {results['objective']}"
    ratios = [f"{ratio:g}" for ratio in map(float, runs[0]["noise_among_kept"])]
    noise = by_seed(runs, "noise_among_kept", "least_possible")
    for run in runs:
        accuracies = (f"{100 * run[name]:.1f}" for name in ("test_accuracy_plain", "test_accuracy_adapted"))
        noise[f"seed {run['seed']}"].append(" -> ".join(accuracies))
    tables = {"Wrong labels among the kept rows, %:": table([*ratios, "test accuracy, plain -> adapted"], noise)}
    if corrupted:
        setting += f", {corrupted:.0%} damaged images (severity {results['corruption_severity']})"
        damage = by_seed(runs, "corrupted_among_kept", "least_corrupted")
        tables["Damaged images among the kept rows, %:"] = table(ratios, damage)
    if "network_accuracy" in runs[0]:
        accuracy = {
            name: percent(*(run["network_accuracy"][name] for run in runs)) for name in ("kept", "random", "all")
        }
        tables["Test accuracy, network trained on these rows, %, mean of the seeds:"] = table(ratios, accuracy)
    classes = np.mean([list(run["class_max_min"].values()) for run in runs], axis=0)
    tables["Rows of the largest class / of the smallest, mean of the seeds:"] = table(ratios, {"kept": cells(classes)})
    parts = [f"{caption}\n\n{lines}" for caption, lines in tables.items()]
    return "\n".join([f"## {results['dataset_name']}, {setting}\n", *parts])


def by_seed(runs: list[dict], figure: str, least: str) -> dict[str, list[str]]:
    rows = {f"seed {run['seed']}": percent(run[figure]) for run in runs}
    return rows | {"mean": percent(*(run[figure] for run in runs)), "ideal": percent(runs[0][least])}


def table(columns: list[str], rows: dict[str, list[str]]) -> str:
    lines = [f"| rows | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    lines += [f"| {' | '.join([name, *row, *[''] * (len(columns) - len(row))])} |" for name, row in rows.items()]
    return "\n".join(lines) + "\n"


def percent(*shares: dict[str, float]) -> list[str]:
    """Means over the seeds, one for each ratio."""
    return cells(100 * np.mean([list(of_seed.values()) for of_seed in shares], axis=0))


def cells(values: np.ndarray) -> list[str]:
    return [f"{value:.2f}" for value in values]


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
    parser.add_argument("--output_dir", help="Folder for the tables and the numbers of each seed.")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

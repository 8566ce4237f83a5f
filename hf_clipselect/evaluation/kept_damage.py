"""What a selection keeps of wrong labels and damaged images, and how well the kept rows train.

Legend: N rows.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from ..adapters.peft_folder import load_adapters
from ..config.arguments import Arguments
from ..data import LabelledImages
from ..data.prompts import class_prompts
from ..encoder.backbone import load_backbone
from ..encoder.images import open_image
from ..pipeline.prepare_dataset import Passed, prepare_dataset
from ..pipeline.stages import run_stages
from ..runtime.caller_state import own_settings
from ..runtime.launch import make_accelerator
from .digits_network import digit_pixels, digits_accuracy
from .metrics import load_metric
from .robustness import add_label_noise, corrupt_images


_NUM_RANDOM_DRAWS = 3


def measure_seed(
    seed: int,
    clean: LabelledImages,
    test: LabelledImages,
    *,
    model_name: str,
    noise_rate: float,
    corruption_rate: float,
    corruption_severity: int,
    objective: str,
    adaptation: str,
    selection_ratio: Sequence[float],
    train_network: bool,
) -> dict[str, Any]:
    """Damage the training rows, select from them, and compare what is kept with the clean rows.

    Args:
        seed (`int`): Of the damage, the selection and the trainings.
        clean (`LabelledImages`), test (`LabelledImages`): Training and test rows, as they are.
        model_name (`str`), objective (`str`), adaptation (`str`), selection_ratio (`Sequence[float]`):
            As in `select_dataset`.
        noise_rate (`float`): Share of the labels to make wrong.
        corruption_rate (`float`), corruption_severity (`int`): As in [`corrupt_images`].
        train_network (`bool`): Whether to train networks on the pixels of the digits too.

    Returns:
        `dict`: For each figure its values by ratio, as plain JSON types.

    Raises:
        InputError: An argument is out of range, or the data can't be read.
    """
    noisy_labels = add_label_noise(clean.labels, len(clean.class_names), rate=noise_rate, seed=seed)
    wrong = noisy_labels != clean.labels
    noisy = corrupt_images(
        _with_labels(clean, noisy_labels),
        image_column=clean.image_column,
        rate=corruption_rate,
        seed=seed,
        severity=corruption_severity,
    )
    damaged = np.array(noisy["corruption"]) != "none"
    arguments = {
        "dataset_name": "",
        "model_name_or_path": model_name,
        "selection_ratio": list(selection_ratio),
        "objective": objective,
        "adaptation": adaptation,
        "seed": seed,
    }
    # As a run selects, but without the report and the subset, which nobody reads here.
    with own_settings(), ExitStack() as stack:
        arguments["output_dir"] = stack.enter_context(TemporaryDirectory())
        prepared = prepare_dataset(
            Arguments.from_dict(arguments), Passed(noisy), accelerator=make_accelerator(), stack=stack, seconds={}
        )
        outcome = run_stages(prepared, {})
        adapter = prepared.inputs.folder.adapter if outcome.adapted.adaptation.kept else None
        plain, adapted = _test_accuracies(test, model_name, adapter)
    kept = {str(ratio): outcome.result.at(ratio).selected for ratio in selection_ratio}
    run: dict[str, Any] = {
        "seed": seed,
        "noise_among_kept": {ratio: float(wrong[rows].mean()) for ratio, rows in kept.items()},
        "least_possible": {ratio: _least_share(rows, wrong) for ratio, rows in kept.items()},
        "corrupted_among_kept": {ratio: float(damaged[rows].mean()) for ratio, rows in kept.items()},
        "least_corrupted": {ratio: _least_share(rows, damaged) for ratio, rows in kept.items()},
        "class_max_min": {ratio: _class_max_min(rows, noisy_labels) for ratio, rows in kept.items()},
        "test_accuracy_plain": plain,
        "test_accuracy_adapted": adapted,
        "adapters_kept": outcome.adapted.adaptation.kept,
        "num_steps": outcome.adapted.adaptation.num_steps,
    }
    if train_network:
        run["network_accuracy"] = _network_accuracy(digit_pixels(noisy), noisy_labels, kept, seed)
    return run


def _with_labels(images: LabelledImages, labels: np.ndarray) -> Dataset:
    column, features = images.label_column, images.dataset.features
    return images.dataset.remove_columns(column).add_column(column, labels, feature=features[column])


def _least_share(rows: np.ndarray, bad: np.ndarray) -> float:
    """What a perfect detector would leave: more rows are kept than are good only at high ratios."""
    return max(0, len(rows) - int((~bad).sum())) / len(rows)


def _class_max_min(kept: np.ndarray, labels: np.ndarray) -> float:
    """Rows of the largest class over those of the smallest of the dataset's classes; inf where one is lost."""
    selected = np.isin(np.arange(len(labels)), kept)
    return load_metric("selection_quality").compute(selected=selected, references=labels)["class_max_min"]


def _network_accuracy(
    pixels: np.ndarray, labels: np.ndarray, kept: dict[str, np.ndarray], seed: int
) -> dict[str, dict[str, float]]:
    # The seed alone draws the rows with wrong labels, [seed, 1] the damaged ones.
    rng = np.random.default_rng([seed, 3])
    draws = {
        ratio: [rng.choice(len(labels), size=len(rows), replace=False) for _ in range(_NUM_RANDOM_DRAWS)]
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
def _test_accuracies(test: LabelledImages, model_name: str, adapter: Path | None) -> tuple[float, float]:
    """Zero-shot accuracy of plain CLIP, and with the adapters if there are any, through the full model, images and
    all: what a user of the published adapters gets.
    """
    backbone = load_backbone(model_name)
    models: list[Any] = [backbone.model]
    if adapter is not None:
        models.append(load_adapters(adapter, base_model=load_backbone(model_name).model))
    [prompts] = class_prompts(test.class_names)
    tokens = backbone.tokenizer(prompts, padding=True, return_tensors="pt")
    texts = [torch.nn.functional.normalize(model.get_text_features(**tokens).pooler_output) for model in models]
    correct = np.zeros(len(models), dtype=np.int64)
    for start in range(0, len(test.labels), 64):
        batch = [open_image(image) for image in test.dataset[start : start + 64][test.image_column]]
        pixels = backbone.image_processor(images=batch, return_tensors="pt")["pixel_values"]
        for number, model in enumerate(models):
            images = torch.nn.functional.normalize(model.get_image_features(pixel_values=pixels).pooler_output)
            predictions = (images @ texts[number].T).argmax(1).numpy()
            correct[number] += (predictions == test.labels[start : start + 64]).sum()
    accuracies = correct / len(test.labels)
    return float(accuracies[0]), float(accuracies[-1])


def markdown(results: Mapping[str, Any]) -> str:
    """The tables of several seeds.

    Args:
        results (`Mapping`): The flags, and as "runs" what [`measure_seed`] gave for each seed.

    Returns:
        `str`: Markdown; means are over the seeds.
    """
    runs, corrupted = results["runs"], results["corruption_rate"]
    setting = f"{results['noise_rate']:.0%} wrong labels, objective {results['objective']}"
    ratios = [f"{ratio:g}" for ratio in map(float, runs[0]["noise_among_kept"])]
    noise = _by_seed(runs, "noise_among_kept", "least_possible")
    for run in runs:
        accuracies = (f"{100 * run[name]:.1f}" for name in ("test_accuracy_plain", "test_accuracy_adapted"))
        noise[f"seed {run['seed']}"].append(" -> ".join(accuracies))
    tables = {"Wrong labels among the kept rows, %:": _table([*ratios, "test accuracy, plain -> adapted"], noise)}
    if corrupted:
        setting += f", {corrupted:.0%} damaged images (severity {results['corruption_severity']})"
        damage = _by_seed(runs, "corrupted_among_kept", "least_corrupted")
        tables["Damaged images among the kept rows, %:"] = _table(ratios, damage)
    if "network_accuracy" in runs[0]:
        accuracy = {
            name: _percent(*(run["network_accuracy"][name] for run in runs)) for name in ("kept", "random", "all")
        }
        tables["Test accuracy, network trained on these rows, %, mean of the seeds:"] = _table(ratios, accuracy)
    classes = np.mean([list(run["class_max_min"].values()) for run in runs], axis=0)
    caption = "Rows of the largest class / of the smallest, mean of the seeds:"
    tables[caption] = _table(ratios, {"kept": _cells(classes)})
    parts = [f"{caption}\n\n{lines}" for caption, lines in tables.items()]
    return "\n".join([f"## {results['dataset_name']}, {setting}\n", *parts])


def _by_seed(runs: list[dict[str, Any]], figure: str, least: str) -> dict[str, list[str]]:
    rows = {f"seed {run['seed']}": _percent(run[figure]) for run in runs}
    return rows | {"mean": _percent(*(run[figure] for run in runs)), "ideal": _percent(runs[0][least])}


def _table(columns: list[str], rows: dict[str, list[str]]) -> str:
    lines = [f"| rows | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    lines += [f"| {' | '.join([name, *row, *[''] * (len(columns) - len(row))])} |" for name, row in rows.items()]
    return "\n".join(lines) + "\n"


def _percent(*shares: dict[str, float]) -> list[str]:
    """Means over the seeds, one for each ratio."""
    return _cells(100 * np.mean([list(of_seed.values()) for of_seed in shares], axis=0))


def _cells(values: np.ndarray) -> list[str]:
    return [f"{value:.2f}" for value in values]

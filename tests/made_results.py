"""Results of a selection made from random scores: what a run gives, without a model."""

import dataclasses
from typing import Any

import numpy as np

from hf_clipselect import SelectionResult
from hf_clipselect.data import read_images
from hf_clipselect.data.source import describe_source
from hf_clipselect.results.run_report import summarize
from hf_clipselect.results.scores_table import column_values, score_table
from hf_clipselect.results.subsets import select_from_table
from hf_clipselect.scores.sample_scores import SampleScores
from hf_clipselect.selection import resolve_objective


def random_noise(labels: np.ndarray, num_classes: int, *, seed: int = 0) -> dict[str, Any]:
    """What the noise model and herding might give for readable rows of these labels: columns of `SampleScores`."""
    rng = np.random.default_rng([seed, 1])
    wrong = rng.random(len(labels)) < 0.3
    by_class = np.lexsort((rng.random(len(labels)), labels))
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[by_class] = np.arange(len(labels)) - np.searchsorted(labels[by_class], labels[by_class])
    return {
        "label_error_probability": np.where(
            wrong, rng.uniform(0.6, 1, len(labels)), rng.uniform(0, 0.2, len(labels))
        ).astype(np.float32),
        "clean_label": np.where(wrong, (labels + 1) % num_classes, labels),
        "class_rank": ranks,
    }


def make_result(
    dataset,
    ratios=(0.3,),
    *,
    rows=None,
    unreadable=(),
    objective="clean",
    name="",
    seed=0,
    source=None,
    report=False,
    noise=False,
):
    """The result of a run on these rows of a dataset, with random scores; with `report` it has one like a run's, and
    with `noise` the columns of a noise model.
    """
    rows = np.arange(len(dataset)) if rows is None else np.asarray(rows)
    readable = np.setdiff1d(np.arange(len(rows)), unreadable)
    rng = np.random.default_rng(seed)
    names = dataset.features["label"].names
    labels = np.asarray(dataset["label"][:])[rows]
    scores = SampleScores(
        predicted_label=rng.integers(0, len(names), len(readable)),
        sas=rng.uniform(0, 1, len(readable)).astype(np.float32),
        margin=rng.uniform(-1, 1, len(readable)).astype(np.float32),
        sds=rng.uniform(0, 2, len(readable)).astype(np.float32),
        **(random_noise(labels[readable], len(names), seed=seed) if noise else {}),
    ).scattered(readable, len(rows))
    objective = resolve_objective(objective)
    result = SelectionResult(
        scores=select_from_table(score_table(labels, names, rows, scores), objective, ratios),
        ratios=ratios,
        objective=objective,
        source=read_images(dataset, source or describe_source(dataset, name=name)).source,
        seed=seed,
    )
    return dataclasses.replace(result, report=make_report(result)) if report else result


def make_report(result, **changes):
    """A report like that of a run; CLIP without adapters always predicted the class 0."""
    readable = column_values(result.scores, "predicted_label") >= 0
    rows = column_values(result.scores, "source_index")
    run = {
        "source": result.source.to_dict(),
        "model": {
            "name": "embedded/tiny-clip",
            "revision": None,
            "weights_sha256": "0" * 64,
            "embed_dim": 8,
            "prompt_template": ["A photo of a {}."],
        },
        "objective": result.objective.to_dict(),
        "adaptation": {
            "mode": "off",
            "kept": False,
            "reason": "Adaptation is off.",
            "method": None,
            "num_steps": 0,
            "batch_size": None,
            "learning_rate": None,
            "temperature": None,
            "held_out_rows": 0,
            "held_out_agreement_plain": None,
            "held_out_agreement_adapted": None,
            "standard_error": None,
            "held_out_loss_plain": None,
            "held_out_loss_adapted": None,
            "adapter": None,
        },
        "arguments": {
            "dataset_name": result.source.name,
            "selection_ratio": list(result.ratios),
            "output_dir": "/home/me/out",
            "overwrite_output_dir": False,
            "push_to_hub": True,
            "hub_dataset_id": "me/pruned",
            "class_names_file": "/home/me/names.txt",
        },
        "captions": None,
        "versions": {"hf_clipselect": "0.1.0"},
        "seed": result.seed,
        "seconds": {"encode": 1.25},
        "warnings": ["The file /home/me/names.txt is odd."],
    }
    return summarize(
        result.scores,
        class_names=result.scores.features["label"].names,
        ratios=result.ratios,
        plain_agrees=readable & (column_values(result.scores, "label") == 0),
        run={**run, **changes},
        unreadable={int(row): "Cannot read image." for row in rows[~readable]},
    )

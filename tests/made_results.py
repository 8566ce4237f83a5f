"""Results of a selection made from random scores: what a run gives, without a model."""

import dataclasses

import numpy as np

from hf_clipselect import SelectionResult
from hf_clipselect.data import read_images
from hf_clipselect.data.source import describe_source
from hf_clipselect.results.run_report import summarize
from hf_clipselect.results.scores_table import column_values, score_table
from hf_clipselect.results.subsets import select_from_table
from hf_clipselect.scores.sample_scores import SampleScores
from hf_clipselect.selection import resolve_objective


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
    noise=None,
):
    """The result of a run on these rows of a dataset, with random scores; with `report` it has one like a run's.

    `noise` adds the columns of a noise model to the scores table.
    """
    rows = np.arange(len(dataset)) if rows is None else np.asarray(rows)
    readable = np.setdiff1d(np.arange(len(rows)), unreadable)
    rng = np.random.default_rng(seed)
    names = dataset.features["label"].names
    scores = SampleScores(
        predicted_label=rng.integers(0, len(names), len(readable)),
        sas=rng.uniform(0, 1, len(readable)).astype(np.float32),
        margin=rng.uniform(-1, 1, len(readable)).astype(np.float32),
        sds=rng.uniform(0, 2, len(readable)).astype(np.float32),
    ).scattered(readable, len(rows))
    labels = np.asarray(dataset["label"][:])[rows]
    objective = resolve_objective(objective)
    table = score_table(labels, names, rows, scores)
    result = SelectionResult(
        scores=select_from_table(table if noise is None else noise(table), objective, ratios),
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

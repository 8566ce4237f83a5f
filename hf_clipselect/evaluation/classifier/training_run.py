"""Train a classifier, test it, and write down what came of it."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HTTPError
from transformers import TimmWrapperConfig, set_seed

from ...data import LabelledImages
from ...data.source import DatasetSource
from ...errors import InputError, PushError
from ...hub import Repository
from ...hub.access import check_access
from ...results.saved_selection import read_selection
from ...runtime.files import write_text_atomically
from ...runtime.hub_ids import hide_paths
from ...runtime.retries import describe
from .architectures import TIMM_PREFIX, Classifier
from .checkpoints import RESULTS_FILE, check_fits, find_checkpoint, remove_run
from .classifier_card import classifier_card
from .eval_sets import load_eval_sets, load_train_rows
from .fitting import build_classifier, evaluate_on, fit_decoding, make_trainer
from .small_image_resnet import SmallImageResNetConfig
from .trainer import ClassifierTrainer
from .training_arguments import ClassifierArguments, ClassifierTrainingArguments


_PACKAGES = ("hf_clipselect", "torch", "transformers", "datasets", "accelerate")


def train_classifier(arguments: ClassifierArguments, training: ClassifierTrainingArguments) -> dict[str, Any]:
    """Train a network on the rows of a dataset and test it.

    The same seed gives the same rows in the same order with the same crops, also where a run goes on from a
    checkpoint. The folder `training.output_dir` then holds the model with its image processor, README.md, results.json
    and the last checkpoint.

    Args:
        arguments ([`ClassifierArguments`]): Rows and network.
        training ([`ClassifierTrainingArguments`]): Schedule and all else that `Trainer` takes.

    Returns:
        `dict`: The content of results.json: `model`, `train`, `versions`, and for each set in `eval` its `num_rows`,
        `num_classes`, `accuracy` and, among more than five classes, `top_5_accuracy`.

    Raises:
        InputError: The rows, the network, the schedule or the checkpoint do not fit, the folder holds another run, the
            training diverged, or the Hub would refuse the push.
        PushError: The Hub can't be reached, or the push failed; the folder then has everything.
    """
    _check_processes(training)
    fit_decoding(training)
    checkpoint = find_checkpoint(arguments, training)
    _check_push(training)
    train = load_train_rows(arguments)
    eval_sets = load_eval_sets(arguments, train)
    set_seed(training.seed)
    classifier = build_classifier(arguments, train)
    if checkpoint is not None:
        check_fits(checkpoint, classifier.model)
    results: dict[str, Any] = {
        "model": _model_facts(arguments, classifier),
        "train": _train_facts(arguments, training, train),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in _PACKAGES}},
        "eval": {},
    }
    if results["model"]["needs_timm"]:
        results["versions"]["timm"] = version("timm")
    output_dir, selected_from = Path(training.output_dir), _source_of_selection(arguments.dataset_name)

    def write_card() -> None:
        sources = [train.source, *(tested.source for tested in eval_sets[: len(results["eval"])])]
        name = (training.hub_model_id or output_dir.resolve().name).split("/")[-1]
        card = classifier_card(results, sources, model_name=name, selected_from=selected_from)
        write_text_atomically(output_dir / "README.md", card)

    trainer = make_trainer(arguments, training, classifier, train, eval_sets[0], write_card)
    if checkpoint is None and trainer.is_world_process_zero():
        remove_run(output_dir)
    outcome = trainer.train(resume_from_checkpoint=checkpoint)
    results["train"] |= {"num_steps": outcome.global_step, "seconds": round(outcome.metrics["train_runtime"], 1)}
    trainer.save_model(_internal_call=True)  # else it would be pushed here, before it is tested
    for tested in eval_sets:
        results["eval"][hide_paths(tested.name)] = evaluate_on(trainer, tested, classifier).figures
    if arguments.paper_accuracy is not None:
        results["paper_accuracy"] = arguments.paper_accuracy
    if trainer.is_world_process_zero():
        write_text_atomically(output_dir / RESULTS_FILE, json.dumps(results, indent=2) + "\n")
        write_card()
    if training.push_to_hub:
        _push(trainer)
    return results


def _source_of_selection(dataset_name: str) -> DatasetSource | None:
    """Of a folder that a selection wrote, the dataset that it selected from; its own name says nothing to others."""
    for folder in (Path(dataset_name), Path(dataset_name, "subset")):
        if (folder / "selection.json").is_file():
            return read_selection(folder / "selection.json")["source"]
    return None


def _model_facts(arguments: ClassifierArguments, classifier: Classifier) -> dict[str, Any]:
    config = classifier.model.config
    of_timm = config.model_type == TimmWrapperConfig.model_type
    return {
        "architecture": arguments.architecture
        or (TIMM_PREFIX + config.architecture if of_timm else config.model_type),
        "pretrained": classifier.pretrained and hide_paths(classifier.pretrained),
        "num_parameters": classifier.model.num_parameters(),
        "image_size": classifier.image_size,
        "needs_its_code": isinstance(config, SmallImageResNetConfig),
        "needs_timm": of_timm,
    }


def _push(trainer: ClassifierTrainer) -> None:
    training = trainer.args
    try:
        trainer.push_to_hub(commit_message="Trained classifier")
    except (HTTPError, OSError) as error:
        raise PushError(
            f"Pushing to {training.hub_model_id} failed: {describe(error)} The model is in {training.output_dir}; the "
            "same command with --resume_from_checkpoint true pushes it without training again."
        ) from None


def _train_facts(
    arguments: ClassifierArguments, training: ClassifierTrainingArguments, train: LabelledImages
) -> dict[str, Any]:
    per_step = training.train_batch_size * training.world_size * training.gradient_accumulation_steps
    if arguments.lr_milestones:
        after = ", ".join(f"{epoch:g}" for epoch in arguments.lr_milestones)
        falls = f"times {arguments.lr_gamma:g} after the epochs {after}"
    else:
        falls = f"{getattr(training.lr_scheduler_type, 'value', training.lr_scheduler_type)} schedule"
    optimizer = getattr(training.optim, "value", training.optim)
    schedule = (
        f"{training.num_train_epochs:g} epochs, {per_step} rows a step, {optimizer} "
        f"({training.optim_args or 'its defaults'}), learning rate {training.learning_rate:g}, {falls}, weight decay "
        f"{training.weight_decay:g}"
    )
    flips = "mirrored at random" if arguments.horizontal_flip else "not mirrored"
    crops = "random crops" if arguments.augmentation == "standard" else "no crops"
    return {
        "num_rows": len(train.labels),
        "dataset_name": hide_paths(arguments.dataset_name),
        "dataset_config_name": arguments.dataset_config_name,
        "selection_ratio": arguments.selection_ratio,
        "schedule": schedule,
        "augmentation": f"{crops}, {flips}",
        "seed": training.seed,
        "processes": training.world_size,
        "precision": "bf16" if training.bf16 else "fp16" if training.fp16 else "float32",
        "device": torch.cuda.get_device_name() if training.device.type == "cuda" else training.device.type,
    }


def _check_push(training: ClassifierTrainingArguments) -> None:
    """Refuse a push that would fail after the training."""
    if not training.push_to_hub:
        return
    if training.hub_model_id is None:
        raise InputError("--push_to_hub needs --hub_model_id, the model repository, such as me/digits-resnet.")
    repository = Repository(training.hub_model_id, "model", bool(training.hub_private_repo))
    check_access(repository, flags={"model": "hub_model_id"})


def _check_processes(training: ClassifierTrainingArguments) -> None:
    launched = int(os.environ.get("WORLD_SIZE", 1))
    if launched != training.world_size:
        # Independent runs would both write the output folder.
        raise InputError(
            f"{launched} processes were launched, but they do not see each other ({training.world_size} counted). For "
            "several processes on the CPU: ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 "
            "recipes/train_classifier.py --use_cpu ..."
        )

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
from ...errors import InputError, PushError
from ...hub import Repository
from ...hub.access import check_access
from ...hub.merge import OUR_CONFIG
from ...runtime.files import write_text_atomically
from ...runtime.hub_ids import hide_paths
from ...runtime.retries import describe
from .architectures import TIMM_PREFIX, Classifier
from .checkpoints import COMPARISON_FILE, RESULTS_FILE, check_fits, find_checkpoint, remove_run
from .classifier_card import classifier_card
from .eval_sets import EvalSet, load_eval_sets, load_train_rows
from .fitting import build_classifier, evaluate_on, fit_decoding, make_trainer
from .papers_figures import figures_of_paper
from .selected_rows import load_selected_rows
from .selection_file import read_selection_behind
from .small_image_resnet import SmallImageResNetConfig
from .trainer import ClassifierTrainer
from .training_arguments import ClassifierArguments, ClassifierTrainingArguments
from .worth import SELECTED, Comparison, arm_result
from .worth_table import comparison_table


_PACKAGES = ("hf_clipselect", "torch", "transformers", "datasets", "accelerate")


def train_classifier(arguments: ClassifierArguments, training: ClassifierTrainingArguments) -> dict[str, Any]:
    """Train a network on the rows of a dataset and test it.

    The same seed gives the same rows in the same order with the same crops, also where a run goes on from a
    checkpoint. The folder `training.output_dir` then holds the model with its image processor, README.md, results.json
    and the last checkpoint. With `arguments.compare_with` it also holds comparison.md and the folder `comparison`; the
    model is that of the selected rows and the first seed, and the same call goes on from what is there.

    Args:
        arguments ([`ClassifierArguments`]): Rows and network.
        training ([`ClassifierTrainingArguments`]): Schedule and all else that `Trainer` takes.

    Returns:
        `dict`: The content of results.json: `model`, `train`, `versions`, and for each set in `eval` its `num_rows`,
        `num_classes`, `accuracy` and, among more than five classes, `top_5_accuracy`. `paper` holds the paper's
        figures where it prints some for these rows and this network, and `comparison` what [`Comparison`] gives.

    Raises:
        InputError: The rows, the network, the schedule or the checkpoint do not fit, the folder holds another run, the
            training diverged, or the Hub would refuse the push.
        PushError: The Hub can't be reached, or the push failed; the folder then has everything.
    """
    _check_processes(training)
    fit_decoding(training)
    checkpoint = None if arguments.compare_with else find_checkpoint(arguments, training)
    _check_push(training)
    train, eval_sets, comparison = _load(arguments, training)
    if comparison is not None:
        checkpoint = find_checkpoint(arguments, training, goes_on=comparison.has_begun)
    set_seed(training.seed)
    classifier = build_classifier(arguments, train)
    if checkpoint is not None:
        check_fits(checkpoint, classifier.model)
    results = _facts_before(arguments, training, classifier, train)
    # A repository of a selection is known by the sizes that it has.
    sized = arguments.selection_ratio is not None or OUR_CONFIG.fullmatch(arguments.dataset_config_name or "")
    selection = read_selection_behind(arguments.dataset_name, on_hub=bool(sized))
    output_dir = Path(training.output_dir)

    def write_card() -> None:
        sources = [train.source, *(tested.source for tested in eval_sets[: len(results["eval"])])]
        name = (training.hub_model_id or output_dir.resolve().name).split("/")[-1]
        selected_from = None if selection is None else selection["source"]
        card = classifier_card(results, sources, model_name=name, selected_from=selected_from)
        write_text_atomically(output_dir / "README.md", card)

    def write() -> None:
        if not trainer.is_world_process_zero():
            return
        write_text_atomically(output_dir / RESULTS_FILE, json.dumps(results, indent=2) + "\n")
        if "comparison" in results:
            write_text_atomically(output_dir / COMPARISON_FILE, comparison_table(results["comparison"]))
        write_card()

    trainer = make_trainer(arguments, training, classifier, train, eval_sets[0], write_card)
    if trainer.is_world_process_zero():
        if checkpoint is None:
            remove_run(output_dir, keep_comparison=comparison is not None and comparison.has_begun)
        if comparison is not None:
            comparison.records.begin()
    outcome = trainer.train(resume_from_checkpoint=checkpoint)
    seconds, num_steps = outcome.metrics["train_runtime"], outcome.global_step
    results["train"] |= {"num_steps": num_steps, "seconds": round(seconds, 1)}
    trainer.save_model(_internal_call=True)  # else it would be pushed here, before it is tested
    tested = [evaluate_on(trainer, eval_set, classifier) for eval_set in eval_sets]
    results["eval"] = {hide_paths(result.name): result.figures for result in tested}
    if paper := figures_of_paper(arguments, train, eval_sets, selection):
        results["paper"] = paper
    write()
    if comparison is not None:
        # Of a training that went on, the seconds are those of a part.
        first = arm_result(tested, len(train.labels), num_steps, seconds if checkpoint is None else None)
        results["comparison"] = comparison.run(first)
        [whole, *_] = results["comparison"]["arms"][SELECTED]["seconds"]
        results["train"]["seconds"] = results["train"]["seconds"] if whole is None else whole
        write()
    if training.push_to_hub:
        _push(trainer)
    return results


def _facts_before(
    arguments: ClassifierArguments,
    training: ClassifierTrainingArguments,
    classifier: Classifier,
    train: LabelledImages,
) -> dict[str, Any]:
    """What results.json holds before anything is trained."""
    results: dict[str, Any] = {
        "model": _model_facts(arguments, classifier),
        "train": _train_facts(arguments, training, train),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in _PACKAGES}},
        "eval": {},
    }
    if results["model"]["needs_timm"]:
        results["versions"]["timm"] = version("timm")
    return results


def _load(
    arguments: ClassifierArguments, training: ClassifierTrainingArguments
) -> tuple[LabelledImages, list[EvalSet], Comparison | None]:
    """The rows to learn, those to test on, and what they are to be compared with."""
    if not arguments.compare_with:
        train = load_train_rows(arguments)
        return train, load_eval_sets(arguments, train), None
    rows = load_selected_rows(arguments)
    eval_sets = load_eval_sets(arguments, rows.selected, rows.place)
    return rows.selected, eval_sets, Comparison(rows, eval_sets, arguments, training)


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

"""Trains a network on rows that are in memory and tests it: a run that is published, or one training of a comparison.

Shapes: N rows of a set that is tested on.
"""

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from transformers import PrinterCallback, set_seed
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from ...data import LabelledImages, with_image_column_undecoded
from ...encoder.decoding import why_no_processes
from ...encoder.images import open_image
from ...errors import InputError
from .architectures import PRETRAINED, Classifier, pretrained_classifier, random_classifier
from .classifier_accuracy import first_is_right, top_k_accuracy
from .eval_sets import EvalSet
from .pixel_rows import Rows
from .trainer import ClassifierTrainer
from .training_arguments import ClassifierArguments, ClassifierTrainingArguments


@dataclass(frozen=True)
class SetResult:
    """How a network does on one set.

    Args:
        name (`str`): Of the set, as it was asked for.
        is_right (`np.ndarray` of shape `(N,)`, bool): Whether the class that is predicted first is right.
        figures (`dict[str, float]`): `num_rows`, `num_classes`, `accuracy` and, among more than five classes,
            `top_5_accuracy`.
    """

    name: str
    is_right: np.ndarray
    figures: dict[str, float]


@dataclass(frozen=True)
class Fitted:
    """What came of one training.

    Args:
        trainer ([`ClassifierTrainer`]): With the trained model.
        classifier ([`Classifier`]): The model and how its images are prepared.
        num_steps (`int`): Steps of the optimizer.
        seconds (`float`): That the training took, without loading and testing.
        tested (`list[SetResult]`): One for each set, in their order.
    """

    trainer: ClassifierTrainer
    classifier: Classifier
    num_steps: int
    seconds: float
    tested: list[SetResult]


def fit_and_test(
    train: LabelledImages,
    eval_sets: Sequence[EvalSet],
    arguments: ClassifierArguments,
    training: ClassifierTrainingArguments,
    *,
    side: int | None = None,
) -> Fitted:
    """Train a network on rows that are in memory, and test it; no file is left behind.

    The seed alone, `training.seed`, decides weights, order and crops. It is set for the whole process.

    Args:
        train ([`LabelledImages`]): The rows to learn, with the labels to learn.
        eval_sets (`Sequence[EvalSet]`): At least one set.
        arguments ([`ClassifierArguments`]): Network and augmentation; what it says of rows is not read.
        training ([`ClassifierTrainingArguments`]): Schedule. Its output folder is not written to, nothing is pushed,
            and with `disable_tqdm` nothing is printed.
        side (`int`, *optional*): Of the images, which decides what network is built; default that of the first row.
            Trainings on several parts of a dataset must be given the same.

    Returns:
        [`Fitted`]

    Raises:
        InputError: The network can't be built, or the training diverged.
    """
    set_seed(training.seed)
    classifier = build_classifier(arguments, train, side=side)
    with TemporaryDirectory() as folder:
        unsaved = copy.copy(training)
        unsaved.output_dir, unsaved.push_to_hub = folder, False
        unsaved.save_strategy, unsaved.eval_strategy = SaveStrategy.NO, IntervalStrategy.NO
        unsaved.load_best_model_at_end = False
        trainer = make_trainer(arguments, unsaved, classifier, train, eval_sets[0])
        trainer.remove_callback(PrinterCallback)  # which takes the place of a bar: it would print to stdout
        outcome = trainer.train()
        tested = [evaluate_on(trainer, eval_set, classifier) for eval_set in eval_sets]
    return Fitted(trainer, classifier, outcome.global_step, outcome.metrics["train_runtime"], tested)


def build_classifier(arguments: ClassifierArguments, train: LabelledImages, *, side: int | None = None) -> Classifier:
    """The network that the arguments name, with random weights from torch's random state, or with trained ones.

    Args:
        arguments ([`ClassifierArguments`]): Its name.
        train ([`LabelledImages`]): What it is to learn.
        side (`int`, *optional*): Longer side of the images; default that of the first row.

    Returns:
        [`Classifier`]

    Raises:
        InputError: It can't be built or loaded, or no trained weights are known for it.
    """
    architecture, name = arguments.architecture, arguments.model_name_or_path
    if architecture is not None and not arguments.pretrained:
        return random_classifier(architecture, train.class_names, side=side or image_side(train))
    name = name or pretrained_name(architecture or "")
    return pretrained_classifier(name, train.class_names, revision=arguments.model_revision)


def pretrained_name(architecture: str) -> str:
    """The model on the Hub whose weights an architecture starts from.

    Args:
        architecture (`str`): One of those that random weights are known for.

    Returns:
        `str`: Its Hub id.

    Raises:
        InputError: None is known.
    """
    if architecture not in PRETRAINED:
        raise InputError(
            f"--pretrained: no weights are known for {architecture}, only for {', '.join(PRETRAINED)}; name some with "
            "--model_name_or_path."
        )
    return PRETRAINED[architecture]


def image_side(images: LabelledImages) -> int:
    """Longer side of the first image, in pixels."""
    first = with_image_column_undecoded(images)[0][images.image_column]
    return max(open_image(first).size)


def make_trainer(
    arguments: ClassifierArguments,
    training: ClassifierTrainingArguments,
    classifier: Classifier,
    train: LabelledImages,
    tested: EvalSet,
    write_card: Callable[[], None] | None = None,
) -> ClassifierTrainer:
    """What trains a network.

    Args:
        arguments ([`ClassifierArguments`]): Augmentation and milestones.
        training ([`ClassifierTrainingArguments`]): Schedule, and what is saved.
        classifier ([`Classifier`]): The network.
        train ([`LabelledImages`]): The rows to learn.
        tested ([`EvalSet`]): What `--eval_strategy` tests on during the training.
        write_card (`Callable[[], None]`, *optional*): As of [`ClassifierTrainer`].

    Returns:
        [`ClassifierTrainer`]
    """
    train_rows = _rows(
        train.dataset,
        train.image_column,
        classifier,
        train.labels,
        augment=arguments.augmentation == "standard",
        flip=arguments.horizontal_flip,
        seed=training.seed,
    )
    return ClassifierTrainer(
        model=classifier.model,
        args=training,
        train_dataset=train_rows,
        eval_dataset=_rows(tested.dataset, tested.image_column, classifier, tested.targets[:, 0]),
        processing_class=classifier.image_processor,
        lr_milestones=arguments.lr_milestones,
        lr_gamma=arguments.lr_gamma,
        write_card=write_card,
    )


def evaluate_on(trainer: ClassifierTrainer, tested: EvalSet, classifier: Classifier) -> SetResult:
    """Test a network on a set.

    Args:
        trainer ([`ClassifierTrainer`]): With the trained model.
        tested ([`EvalSet`]): The set.
        classifier ([`Classifier`]): How its images are prepared.

    Returns:
        [`SetResult`]

    Raises:
        InputError: The training diverged: what the network gives is not finite.
    """
    rows = _rows(tested.dataset, tested.image_column, classifier, None)
    logits = trainer.predict(rows).predictions
    logits = logits[0] if isinstance(logits, tuple) else logits
    if not np.isfinite(logits).all():
        raise InputError(
            f"The training diverged: what the network gives for {tested.name} is not finite. Lower --learning_rate, "
            "or bound the gradients with --max_grad_norm 1."
        )
    figures = {
        "num_rows": len(rows),
        "num_classes": len(tested.classes),
        **top_k_accuracy(logits, tested.targets, classes=tested.classes),
    }
    return SetResult(tested.name, first_is_right(logits, tested.targets, classes=tested.classes), figures)


def _rows(
    dataset: Any, image_column: str, classifier: Classifier, labels: np.ndarray | None, **augmentation: Any
) -> Rows:
    return Rows(
        dataset, image_column, classifier.image_processor, classifier.image_size, labels=labels, **augmentation
    )


def fit_decoding(training: ClassifierTrainingArguments) -> None:
    """Leave out what can't be: decoding processes where none can start, and pinned memory where there is no GPU.

    Args:
        training ([`ClassifierTrainingArguments`]): Changed in place; a warning tells of processes.
    """
    if training.dataloader_num_workers and (why := why_no_processes()) is not None:
        warnings.warn(
            f"--dataloader_num_workers {training.dataloader_num_workers}: this process decodes the images itself, "
            f"since {why}.",
            stacklevel=3,
        )
        training.dataloader_num_workers = 0
    training.dataloader_pin_memory &= training.device.type != "cpu"  # torch warns of it

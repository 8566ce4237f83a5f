"""What is trained on the kept rows of a dataset of images: classifiers of transformers, with the schedule of the
arguments.

Legend: N test rows, H width of what the last layer of a network takes.
"""

import dataclasses
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState
from transformers.utils import is_timm_available

from ...config.arguments import with_defaults
from ...data import LabelledImages
from ...errors import InputError
from ...runtime.hub_ids import hide_paths
from ...runtime.words import in_one_line
from ..baselines.image_classifier import last_layer
from ..classifier import ClassifierArguments, ClassifierTrainingArguments, fit_and_test
from ..classifier.architectures import needs_timm, random_classifier
from ..classifier.eval_sets import load_eval_sets, load_train_rows
from ..classifier.fitting import Fitted, fit_decoding, image_side, pretrained_name
from ..classifier.pixel_rows import Rows
from ..classifier.training_arguments import check_training
from .cells import code_digest
from .images_arguments import ImagesArguments
from .sweep_arguments import SweepArguments


logger = logging.getLogger(__name__)

# What decides a training beside its arguments and its rows; what only reads flags or writes cards is none of it.
_CLASSIFIER = ("architectures", "classifier_accuracy", "fitting", "pixel_rows", "small_image_resnet", "trainer")
_CODE = (
    *(f"evaluation/classifier/{name}.py" for name in _CLASSIFIER),
    "evaluation/comparison/images_training.py",
    "encoder/images.py",
    "encoder/bit_depth.py",
)
# Of the arguments those that choose rows, which the key of a training has by their content, or that change no result.
_ELSEWHERE = {
    "dataset_config_name",
    "train_split_name",
    "image_column_name",
    "label_column_name",
    "max_train_samples",
    "max_eval_samples",
    "eval_dataset",
    "eval_split_name",
    "model_name_or_path",
    "model_revision",
    "prompt_template",
    "architecture",
    "per_device_eval_batch_size",
    "dataloader_num_workers",
    "proxy_architecture",
    "proxy_epochs",
}


class ImagesTraining:
    """The networks of a sweep, how they are trained, and what they are tested on.

    Args:
        arguments ([`SweepArguments`]): Of the sweep.

    Raises:
        InputError: The rows can't be loaded, an argument is out of range, or no network can be built here.
    """

    def __init__(self, arguments: SweepArguments) -> None:
        self._arguments = arguments
        names = arguments.architecture or [self._classifier(None).architecture or ""]
        self.architectures = tuple(name for name in names if _can_be_built(name))
        if not self.architectures:
            raise InputError(
                f"None of the networks of --architecture {' '.join(names)} can be built without timm: pip install "
                '"hf_clipselect[timm]", or name others.'
            )
        self._check_schedule()
        first = self._classifier(self.architectures[0])
        self.train = load_train_rows(first)
        self.eval_sets = load_eval_sets(dataclasses.replace(first, eval_dataset=None), self.train)
        if arguments.eval_dataset:
            self.eval_sets += load_eval_sets(first, self.train)
        self.side = image_side(self.train)
        self._check_networks()

    def key(self, architecture: str, seed: int) -> dict[str, Any]:
        """All that decides a training beside the rows that are learnt and those that are tested on.

        Args:
            architecture (`str`): Which network.
            seed (`int`): Of weights, order and crops.

        Returns:
            `dict`: Plain JSON types.
        """
        classifier = vars(self._classifier(architecture))
        values = {name: getattr(self._arguments, name) for name in _names(ImagesArguments) - _ELSEWHERE}
        defaults = {own.name: own.default for own in dataclasses.fields(ClassifierTrainingArguments)}
        schedule = {
            name: classifier.get(name, defaults.get(name) if value is None else value)
            for name, value in values.items()
        }
        schedule["max_grad_norm"] = defaults["max_grad_norm"]
        return {"model": architecture, "seed": seed, "side": self.side, **schedule, "code": code_digest(*_CODE)}

    def measure(self, architecture: str, train: LabelledImages, seed: int) -> dict[str, float]:
        """Train a network on some rows, and test it on every set.

        Args:
            architecture (`str`): Which network.
            train ([`LabelledImages`]): The rows, with the labels to learn.
            seed (`int`): Of weights, order and crops.

        Returns:
            `dict[str, float]`: `accuracy` and, among more than five classes, `top_5_accuracy` on the test split;
            `accuracy_<set>` and `top_5_accuracy_<set>` on each further set; `train_seconds`, without testing.

        Raises:
            InputError: The training diverged, or the network does not take these images.
        """
        with self._fitted(architecture, train, seed) as fitted:
            figures = {}
            for number, tested in enumerate(fitted.tested):
                suffix = "" if number == 0 else f"_{hide_paths(tested.name)}"
                for name in ("accuracy", "top_5_accuracy"):
                    if name in tested.figures:
                        figures[name + suffix] = tested.figures[name]
        shown = f"accuracy {100 * figures['accuracy']:.1f} %"
        logger.info("%s on %d rows: %.0f s, %s", architecture, len(train.labels), fitted.seconds, shown)
        return {**figures, "train_seconds": fitted.seconds}

    def embed_test_rows(self, architecture: str, train: LabelledImages, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Train a network on some rows: what its last layer takes for the rows of the test split.

        Args:
            architecture, train, seed: As of [`measure`].

        Returns:
            `tuple[np.ndarray, np.ndarray]`: `(N, H)`, float32, and the right classes `(N,)`, int64.

        Raises:
            InputError: As [`measure`], or the network has no linear layer at its end.
        """
        test, taken = self.eval_sets[0], []
        with self._fitted(architecture, train, seed) as fitted:
            classifier = fitted.classifier
            rows = Rows(test.dataset, test.image_column, classifier.image_processor, classifier.image_size)
            hook = last_layer(classifier.model).register_forward_pre_hook(
                lambda _, inputs: taken.append(inputs[0].float().cpu().numpy())
            )
            try:
                fitted.trainer.predict(rows)
            finally:
                hook.remove()
        return np.concatenate(taken), test.targets[:, 0]

    @contextmanager
    def _fitted(self, architecture: str, train: LabelledImages, seed: int) -> Iterator[Fitted]:
        with _as_the_only_one():
            training = self._training(seed)
            fit_decoding(training)
            fitted = fit_and_test(train, self.eval_sets, self._classifier(architecture), training, side=self.side)
            yield fitted
            fitted.trainer.accelerator.free_memory()  # or a GPU would hold the networks of many trainings

    def _classifier(self, architecture: str | None) -> ClassifierArguments:
        return self._given(
            ClassifierArguments, architecture=architecture, model_name_or_path=None, model_revision=None
        )

    def _training(self, seed: int) -> ClassifierTrainingArguments:
        values = {"seed": seed, "disable_tqdm": True, "logging_strategy": "no"}  # of hundreds of trainings no lines
        # Said, since Trainer refuses bfloat16 where a GPU is only missing.
        return self._given(ClassifierTrainingArguments, use_cpu=not torch.accelerator.is_available(), **values)

    def _given(self, group: type, **values: Any) -> Any:
        known = _names(group) & _names(ImagesArguments) - values.keys()
        if group is ClassifierArguments:
            values["dataset_name"] = os.path.expandvars(self._arguments.dataset_name)
        return with_defaults(group, **{name: getattr(self._arguments, name) for name in known}, **values)

    def _check_schedule(self) -> None:
        """Refuse a schedule that can't be, before anything is loaded."""
        try:
            with _as_the_only_one():
                check_training(self._classifier(self.architectures[0]), self._training(0))
        except ValueError as error:  # TrainingArguments checks its own
            if isinstance(error, InputError):
                raise
            raise InputError(f"The training arguments do not fit: {in_one_line(error)}") from None

    def _check_networks(self) -> None:
        """Refuse networks that can't be built, before anything is encoded."""
        names = {self._arguments.proxy_architecture}
        for name in self.architectures:
            if self._arguments.pretrained:
                pretrained_name(name)
            else:
                names.add(name)
        for name in names:
            if not needs_timm(name):
                with torch.device("meta"):
                    random_classifier(name, self.train.class_names, side=self.side)


def _names(group: type) -> set[str]:
    return {own.name for own in dataclasses.fields(group)}


def _can_be_built(architecture: str) -> bool:
    if not needs_timm(architecture) or is_timm_available():
        return True
    logger.warning(
        '%s is left out: it is built by timm, which is not installed (pip install "hf_clipselect[timm]").',
        architecture,
    )
    return False


@contextmanager
def _as_the_only_one() -> Iterator[None]:
    """A training among selections: both are Accelerate's, whose precision is one for a process."""
    name = "ACCELERATE_MIXED_PRECISION"
    before = os.environ.get(name)
    try:
        yield
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before

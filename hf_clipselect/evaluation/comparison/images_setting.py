"""Labelled images from the Hub or a folder: any dual encoder scores them, and classifiers are trained on what is kept.

Legend: N rows, C classes.
"""

import json
import os
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, Dataset

from ...adapters.projections import Projections, embed_prompts
from ...config.arguments import DEFAULT_PROMPT_TEMPLATE, Arguments, default_model
from ...data import LabelledImages
from ...data.prompts import class_prompts
from ...encoder.backbone import load_backbone
from ...encoder.texts import encode_prompts
from ...pipeline.encode import encode
from ...pipeline.prepare_dataset import Passed, prepare_dataset
from ...pipeline.prepared import ImageInputs, Prepared
from ...pipeline.stages import run_stages
from ...results.selection_result import SelectionResult
from ...runtime.caller_state import own_settings
from ...runtime.hub_ids import hide_paths
from ...runtime.launch import make_accelerator
from ...scores.arrays import as_numpy
from ..baselines import TrainingDynamics
from ..baselines.image_classifier import train_image_classifier
from ..classifier.architectures import random_classifier
from ..cost import Cost
from ..robustness import corrupt_images
from ..robustness.corruptions import CORRUPTION_COLUMN, NOT_CORRUPTED
from .cells import Cells, code_digest, digest_of
from .image_digests import image_digests
from .images_training import ImagesTraining
from .setting import Damage, Setting
from .sweep_arguments import SweepArguments


_IMAGE, _LABEL = "image", "label"
# Features of the images of a setting, beside its cells.
_ENCODED_FOLDER = "encoded"
# Epochs of a proxy after which EL2N and GraNd are measured, and of how many MoSo is; fewer in a shorter training.
_EARLY_EPOCHS, _CHECKPOINTS = 2, 10
# Code of the networks that a proxy may be.
_PROXY_CODE = ("evaluation/classifier/architectures.py", "evaluation/classifier/small_image_resnet.py")


class LoadedImages:
    """The data of a sweep before any damage, which its settings share.

    Args:
        arguments ([`SweepArguments`]): Of the sweep.
        cells ([`Cells`]): Where hashes are kept.

    Raises:
        InputError: Rows, networks or the dual encoder can't be loaded, or an argument is out of range.
    """

    def __init__(self, arguments: SweepArguments, cells: Cells) -> None:
        self.arguments, self._cells = arguments, cells
        name = hide_paths(os.path.expandvars(arguments.dataset_name))
        self.name = name if arguments.dataset_config_name is None else f"{name} ({arguments.dataset_config_name})"
        self.training = ImagesTraining(arguments)
        self.train = _with_two_columns(self.training.train)
        self.prompts = class_prompts(self.train.class_names, arguments.prompt_template or [DEFAULT_PROMPT_TEMPLATE])
        self.model_name = arguments.model_name_or_path or default_model(arguments.dataset_name)
        backbone = load_backbone(self.model_name, revision=arguments.model_revision or "main")
        # Without what only the machine decides, which last digits depend on.
        self.encoder = {key: value for key, value in backbone.identity().items() if key != "matmul_precision"}

    @cached_property
    def digests(self) -> np.ndarray:
        """Of the image of each row, uint8 `(N, 16)`."""
        return image_digests(self.train.dataset, _IMAGE, self._cells)

    @cached_property
    def tested(self) -> str:
        """Hash of all that is tested on."""
        contents: list[np.ndarray | str] = []
        for tested in self.training.eval_sets:
            digests = image_digests(tested.dataset, tested.image_column, self._cells)
            contents += [tested.name, digests, tested.targets, tested.classes]
        return digest_of(*contents)


class ImagesSetting(Setting):
    """The training rows of a dataset of images, damaged.

    Images of one damage are encoded once, whatever the labels, and their features are kept beside the cells.

    Args:
        damage ([`Damage`]): What is done to them.
        loaded ([`LoadedImages`]): The data.
        folder (`Path`): That of the sweep.
        **options: As in [`Setting`].
    """

    def __init__(self, damage: Damage, loaded: LoadedImages, folder: Path, **options: Any) -> None:
        self._loaded, self._folder = loaded, folder
        self.models = loaded.training.architectures
        super().__init__(loaded.name, damage, loaded.train.labels, **options)

    @property
    def num_test_rows(self) -> int:
        return len(self._loaded.training.eval_sets[0].targets)

    @property
    def num_classes(self) -> int:
        return len(self._loaded.train.class_names)

    @cached_property
    def _damaged(self) -> Dataset:
        """With damaged images and right labels, and what was done to each."""
        return corrupt_images(
            self._loaded.train.dataset,
            image_column=_IMAGE,
            rate=self.damage.corruption_rate,
            seed=self.seed,
            severity=self.damage.corruption_severity,
        )

    @property
    def _images(self) -> Dataset:
        """Damaged images and right labels; of images that are not damaged the dataset itself, whatever the seed."""
        if self.damage.corruption_rate == 0:
            return self._loaded.train.dataset
        return self._damaged.remove_columns(CORRUPTION_COLUMN)

    @cached_property
    def _given(self) -> LabelledImages:
        """What a training gets: damaged images and wrong labels."""
        clean = self._loaded.train
        return replace(clean, dataset=_with_labels(self._images, clean.class_names, self.labels), labels=self.labels)

    @cached_property
    def is_corrupted(self) -> np.ndarray:
        if self.damage.corruption_rate == 0:
            return np.zeros(self.num_rows, dtype=bool)
        return np.array(self._damaged[CORRUPTION_COLUMN][:]) != NOT_CORRUPTED

    @cached_property
    def _digests(self) -> np.ndarray:
        """Of the image of each row as it is, uint8 `(N, 16)`."""
        digests, damaged = self._loaded.digests.copy(), np.flatnonzero(self.is_corrupted)
        if len(damaged):
            digests[damaged] = image_digests(self._images.select(damaged), _IMAGE, self.cells)
        return digests

    @cached_property
    def images_digest(self) -> str:
        encoder = json.dumps([self._loaded.encoder, self._loaded.prompts], sort_keys=True)
        return digest_of(self._digests, encoder)

    def embed(self) -> tuple[np.ndarray, np.ndarray]:
        with own_settings(), ExitStack() as stack:
            prepared = self._prepared(stack)
            images = encode(prepared).features.plain_embeds(prepared.inputs.model, np.arange(self.num_rows))
            inputs = prepared.inputs
            # Of all classes, also of those that are left without a row.
            texts = encode_prompts(inputs.backbone, inputs.prompts, inputs.folder.features)
            return images, as_numpy(embed_prompts(Projections(inputs.backbone.model), texts))

    def select(self, *, objective: str, ratio: float, **knobs: Any) -> SelectionResult:
        with own_settings(), ExitStack() as stack:
            prepared = self._prepared(stack, objective=objective, selection_ratio=[ratio], **knobs)
            # The features know nothing of labels, so that wrong ones of any kind and seed go with the same.
            return run_stages(replace(prepared, rows=replace(prepared.rows, labels=self.labels)), {}).result

    def _scored(self, objective: str, adaptation: str) -> tuple[SelectionResult, Cost]:
        """With the encoding, which is done once: whether it fell to a selection or to the embeddings is chance."""
        encoding = self.embeddings.cost
        result, cost = super()._scored(objective, adaptation)
        return result, encoding + cost

    def as_at_first(self, step: dict[str, Any], cost: Cost) -> Cost:
        # Features and adapters stay in the folder, also for code that came later: so none is part of the key.
        key = {"what": "cost", **step, "code": ""}
        values = self.cells.find(key)
        if values is None:
            values = {"cost": cost.as_array()}
            self.cells.store(key, values)
        return Cost(*values["cost"].tolist())

    def _prepared(self, stack: ExitStack, **knobs: Any) -> Prepared[ImageInputs]:
        loaded = self._loaded
        arguments = {
            "dataset_name": "",
            "image_column_name": _IMAGE,
            "label_column_name": _LABEL,
            "model_name_or_path": loaded.model_name,
            "model_revision": loaded.arguments.model_revision,
            "prompt_template": loaded.arguments.prompt_template,
            "output_dir": str(self._folder / _ENCODED_FOLDER / self.images_digest),
            "seed": self.seed,
        }
        return prepare_dataset(
            Arguments.from_dict({**arguments, **knobs}),
            Passed(self._images),
            accelerator=make_accelerator(),
            stack=stack,
            seconds={},
        )

    @property
    def proxy_name(self) -> str:
        arguments = self._loaded.arguments
        return f"{arguments.proxy_architecture} on images of {arguments.proxy_epochs} epochs"

    @property
    def proxy_key(self) -> dict[str, Any]:
        # The code of networks is none of the code of selections.
        return {**super().proxy_key, "proxy_code": code_digest(*_PROXY_CODE)}

    def train_proxy(self, rows: np.ndarray, val_rows: np.ndarray) -> TrainingDynamics:
        """Of an image classifier with random weights, without crops and flips."""
        given, arguments = self._given, self._loaded.arguments
        with torch.device("meta"):  # its weights are drawn anew for each run
            classifier = random_classifier(
                arguments.proxy_architecture, given.class_names, side=self._loaded.training.side
            )
        return train_image_classifier(
            given.dataset.select(rows),
            classifier.model.config,
            image_processor=classifier.image_processor,
            val_dataset=given.dataset.select(val_rows) if len(val_rows) else None,
            image_column_name=_IMAGE,
            label_column_name=_LABEL,
            num_epochs=arguments.proxy_epochs,
            early_epochs=min(_EARLY_EPOCHS, arguments.proxy_epochs),
            num_checkpoints=min(_CHECKPOINTS, arguments.proxy_epochs),
            num_workers=arguments.dataloader_num_workers or 0,
            seed=self.seed,
        )

    def train_and_test(self, model: str, rows: np.ndarray) -> float:
        return self.train_and_measure(model, rows)["accuracy"]

    def train_and_measure(self, model: str, rows: np.ndarray) -> dict[str, float]:
        return self._loaded.training.measure(model, _taken(self._given, rows), self.seed)

    def embed_test_rows(self, model: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._loaded.training.embed_test_rows(model, _taken(self._given, rows), self.seed)

    def training_key(self, model: str, rows: np.ndarray) -> dict[str, Any]:
        content = digest_of(self._digests[rows], self.labels[rows], *self._loaded.train.class_names)
        return {**self._loaded.training.key(model, self.seed), "rows": content, "tested": self._loaded.tested}


def _with_two_columns(images: LabelledImages) -> LabelledImages:
    """The same images and labels under names that no damage and no score bears, the labels as class labels."""
    dataset = images.dataset.with_format(None).select_columns([images.image_column])
    if images.image_column != _IMAGE:
        dataset = dataset.rename_column(images.image_column, _IMAGE)
    labelled = _with_labels(dataset, images.class_names, images.labels)
    return replace(images, dataset=labelled, image_column=_IMAGE, label_column=_LABEL)


def _with_labels(dataset: Dataset, class_names: list[str], labels: np.ndarray) -> Dataset:
    images = dataset.select_columns([_IMAGE])
    return images.add_column(_LABEL, labels, feature=ClassLabel(names=class_names))


def _taken(images: LabelledImages, rows: np.ndarray) -> LabelledImages:
    return replace(
        images,
        dataset=images.dataset.select(rows),
        labels=images.labels[rows],
        source_index=images.source_index[rows],
    )

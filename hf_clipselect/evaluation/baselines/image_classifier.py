"""An image classifier as the proxy, as in the papers: any that `transformers` knows, on the images themselves."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import nn
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    BaseImageProcessor,
    PretrainedConfig,
    PreTrainedModel,
)

from ...data import LabelledImages, read_images, with_image_column_undecoded
from ...encoder.bit_depth import white_level
from ...encoder.decoding import decoded_batches, warn_if_threads
from ...encoder.pixels import PreprocessedImages
from ...errors import InputError
from ...runtime.launch import make_accelerator
from .dynamics import TrainingDynamics
from .proxy import train_proxy
from .proxy_training import ProxyTraining


def train_image_classifier(
    dataset: Dataset,
    model: str | PretrainedConfig,
    *,
    image_processor: BaseImageProcessor | None = None,
    val_dataset: Dataset | None = None,
    image_column_name: str | None = None,
    label_column_name: str | None = None,
    num_epochs: int = 20,
    num_runs: int = 3,
    batch_size: int = 128,
    learning_rate: float = 0.1,
    weight_decay: float = 5e-4,
    optimizer: str = "sgd",
    early_epochs: int = 2,
    num_checkpoints: int = 10,
    num_workers: int = 0,
    seed: int = 0,
) -> TrainingDynamics:
    """Train an image classifier, and record what EL2N, GraNd, Forgetting, MoSo and Glister need.

    Optimizer, learning rate, weight decay and batch size are those of the papers' ResNets on CIFAR; for a transformer
    pass `optimizer="adamw", learning_rate=1e-3`, or 1e-4 where it is pretrained. Trained in float32, without
    augmentation (the papers crop and flip). Launched with several processes each takes its part of every batch.

    Args:
        dataset (`Dataset`): Images and labels; a row's number is its place here.
        model (`str` or `PretrainedConfig`): Pretrained model on the Hub or in a folder, which gets a new head where
            its classes are others; or the configuration of one, for random weights.
        image_processor (`BaseImageProcessor`, *optional*): Its preprocessing; default the one that belongs to the
            name.
        val_dataset (`Dataset`, *optional*): Validation rows, with the columns of the dataset.
        image_column_name, label_column_name (`str`, *optional*): As in [`select_dataset`].
        num_epochs, num_runs, batch_size, learning_rate, weight_decay, optimizer, early_epochs, num_checkpoints, seed:
            As in [`ProxyTraining`].
        num_workers (`int`, *optional*, defaults to 0): Processes that decode images, or threads where none can start,
            beside each training process.

    Returns:
        [`TrainingDynamics`]: Its `features` are what the last layer takes.

    Raises:
        InputError: The columns are not found, an image can't be read, a configuration comes without an image
            processor, the model has no linear layer at its end, or the training diverged.
    """
    training = ProxyTraining(
        num_epochs, num_runs, batch_size, learning_rate, weight_decay, optimizer, early_epochs, num_checkpoints, seed
    )
    prepare = partial(read_images, image_column_name=image_column_name, label_column_name=label_column_name)
    images = prepare(dataset)
    val_images = None if val_dataset is None else prepare(val_dataset)
    if image_processor is None:
        if not isinstance(model, str):
            raise InputError(
                "A configuration does not say how images are prepared; pass image_processor, such as "
                "ViTImageProcessor()."
            )
        image_processor = AutoImageProcessor.from_pretrained(model, backend="pil")
    accelerator = make_accelerator()
    warn_if_threads(num_workers)
    proxy = _Classifier(images, val_images, model, image_processor, num_workers, accelerator)
    return train_proxy(
        proxy,
        images.labels,
        training,
        num_val_rows=0 if val_images is None else len(val_images.labels),
        accelerator=accelerator,
    )


class _WithFeatures(nn.Module):
    """A classifier that also gives what its last layer took."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        taken = []
        hook = last_layer(self.model).register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
        try:
            logits = self.model(**pixels).logits
        finally:
            hook.remove()
        if len(taken) != 1 or taken[0].ndim != 2:
            raise InputError(
                f"The last layer of {type(self.model).__name__} does not take one vector for each image, which GraNd, "
                "MoSo and Glister look at; take another model, such as a ResNet or a ViT."
            )
        return taken[0], logits


def last_layer(model: PreTrainedModel) -> nn.Linear:
    """The linear layer that the logits of a classifier come from.

    Args:
        model (`PreTrainedModel`): An image classifier.

    Returns:
        `nn.Linear`: Its last one with as many outputs as there are classes.

    Raises:
        InputError: There is none.
    """
    layers = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) and module.out_features == model.config.num_labels
    ]
    if not layers:
        raise InputError(
            f"{type(model).__name__} has no linear layer of {model.config.num_labels} outputs, which GraNd, MoSo and "
            "Glister look at; take another model, such as a ResNet or a ViT."
        )
    return layers[-1]


class _Classifier:
    def __init__(
        self,
        images: LabelledImages,
        val_images: LabelledImages | None,
        model: str | PretrainedConfig,
        image_processor: BaseImageProcessor,
        num_workers: int,
        accelerator: Accelerator,
    ) -> None:
        self._names, self._model, self._num_workers = images.class_names, model, num_workers
        self._device = accelerator.device
        # Both as the training rows are: a model must not see one brighter than the other.
        white = white_level(with_image_column_undecoded(images), images.image_column)
        self._pixels = [
            PreprocessedImages(with_image_column_undecoded(given), given.image_column, image_processor, white=white)
            for given in (images, val_images)
            if given is not None
        ]

    def new_model(self) -> nn.Module:
        labels = {"id2label": dict(enumerate(self._names)), "label2id": {n: i for i, n in enumerate(self._names)}}
        if isinstance(self._model, str):
            model = AutoModelForImageClassification.from_pretrained(
                self._model, num_labels=len(self._names), ignore_mismatched_sizes=True, dtype=torch.float32, **labels
            )
        else:
            config = type(self._model).from_dict({**self._model.to_dict(), **labels})
            model = AutoModelForImageClassification.from_config(config)
        last_layer(model)
        return _WithFeatures(model)

    def last_layer(self, model: _WithFeatures) -> nn.Linear:
        return last_layer(model.model)

    def fixed_features(self, *, validation: bool = False) -> None:
        return None

    def batches(self, batches: Sequence[np.ndarray], *, validation: bool = False) -> Iterator[dict[str, Any]]:
        decoded = decoded_batches(
            self._pixels[validation],
            [rows.tolist() for rows in batches],
            num_workers=self._num_workers,
            pin_memory=self._device.type == "cuda",
        )
        for batch in decoded:
            if batch.pixels is None or batch.unreadable:
                row, reason = next(iter(batch.unreadable.items()))
                raise InputError(f"Row {row} of the dataset: {reason} Remove it before a proxy is trained.")
            yield {
                name: torch.as_tensor(values).to(self._device, non_blocking=True)
                for name, values in batch.pixels.items()
            }

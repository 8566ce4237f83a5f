"""transformers' `Trainer`, with the schedule and the weight decay that papers on image classifiers mean by SGD."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import EvalPrediction, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .classifier_accuracy import top_k_accuracy
from .pixel_rows import Rows


def milestone_factor(step: int, milestone_steps: Sequence[int], gamma: float) -> float:
    """Factor of the learning rate at a step (from 0): `gamma` to the power of the milestones that lie behind it."""
    return gamma ** bisect_right(milestone_steps, step)


class ClassifierTrainer(Trainer):
    """Trains on [`Rows`].

    Args:
        lr_milestones (`Sequence[float]`, *optional*): Epochs after which the learning rate falls; else
            `args.lr_scheduler_type`.
        lr_gamma (`float`, *optional*, defaults to 0.1): By what it is multiplied then.
        write_card (`Callable[[], None]`, *optional*): Writes README.md, whenever the model is pushed.
        kwargs: As of `Trainer`.
    """

    def __init__(
        self,
        *,
        lr_milestones: Sequence[float] | None = None,
        lr_gamma: float = 0.1,
        write_card: Callable[[], None] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(compute_metrics=accuracy_of_evaluation, callbacks=[_TellEpoch()], **kwargs)
        self.lr_milestones, self.lr_gamma, self.write_card = lr_milestones, lr_gamma, write_card

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The schedule of `lr_milestones`, or of `args.lr_scheduler_type`."""
        optimizer = optimizer or self.optimizer
        if optimizer is not None and self.lr_scheduler is None and self.lr_milestones:
            per_epoch = num_training_steps / (self.args.num_train_epochs or 1)  # none: nothing to schedule
            steps = [round(epoch * per_epoch) for epoch in self.lr_milestones]
            self.lr_scheduler = LambdaLR(optimizer, lambda step: milestone_factor(step, steps, self.lr_gamma))
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """With SGD all parameters decay, biases and normalisation too, as in torch and in the papers; else as
        `Trainer` has it.
        """
        if self.args.optim == "sgd":
            return [name for name, _ in model.named_parameters()]
        return super().get_decay_parameter_names(model)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Our card in the place of `Trainer`'s draft."""
        if self.write_card is not None and self.is_world_process_zero():
            self.write_card()


class _TellEpoch(TrainerCallback):
    """Crops and flips differ from epoch to epoch."""

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        rows = kwargs["train_dataloader"].dataset
        if isinstance(rows, Rows):
            rows.epoch.fill_(int(state.epoch or 0))


def accuracy_of_evaluation(prediction: EvalPrediction) -> dict[str, float]:
    """The accuracy that `Trainer` logs for an evaluation during training."""
    return top_k_accuracy(np.asarray(prediction.predictions), np.asarray(prediction.label_ids)[:, None])

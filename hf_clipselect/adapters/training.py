"""Trains adapters on cached features with symmetric InfoNCE.

Of several processes one trains: a step on heads of this size takes less time than two processes need to exchange its
gradients. So the weights do not depend on how many there are.

Legend: N rows, B rows of a batch, T templates, C classes or distinct captions, H and H' hidden sizes, D embed_dim.
"""

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, tqdm
from peft import PeftConfig, PeftModel
from torch import nn

from ..config.arguments import AdaptationArguments
from ..encoder.feature_rows import FeatureRows
from ..encoder.threads import one_thread_each
from ..runtime.processes import Processes
from .batches import batches_of, resident_images, resident_texts, take_texts
from .losses import grouped_info_nce
from .placing import new_adapters
from .projections import Projections


# The paper's StepLR(30) never fires within its 30 epochs (Appendix C); here the decay is a fraction of the run.
_DECAY_AT = 2 / 3
_DECAY_FACTOR = 0.1
# Where --max_train_steps leaves r - 1 of r steps out, the others have sqrt(r) times the rows; and r times the learning
# rate, times the square root for the larger batch, r^1.25 in all. r is at most this.
_LEFT_OUT_AT_MOST = 16.0
# And the held-out rows are looked at so many times, since they take as long as some steps.
_EVALUATIONS = 10
# Steps of fewer multiplications run on torch's own kernels.
_WORTH_ONEDNN = 5e7

# image_features (N, H), text_features (T, C, H'), labels (N,)
Features = tuple[FeatureRows, torch.Tensor, np.ndarray]


@dataclass(frozen=True)
class Schedule:
    """How long and in what batches adapters are trained."""

    batch_size: int  # at most the number of rows
    steps_per_epoch: int  # full batches in one pass; the rows left over are skipped, other rows in each pass
    num_steps: int  # of the full run, which the learning rates refer to
    evaluate_every: int  # steps between two evaluations on the held-out rows
    rate_factor: float = 1.0  # on the learning rate

    @classmethod
    def for_rows(cls, num_rows: int, arguments: AdaptationArguments) -> "Schedule":
        batch_size = min(arguments.train_batch_size, num_rows)
        all_steps = max(arguments.num_train_epochs * (num_rows // batch_size), arguments.min_train_steps)
        num_steps = min(all_steps, max(arguments.max_train_steps, arguments.min_train_steps))
        left_out = min(all_steps / num_steps, _LEFT_OUT_AT_MOST)
        batch_size = min(round(batch_size * left_out**0.5), num_rows)
        evaluations = min(arguments.num_train_epochs, _EVALUATIONS) if left_out > 1 else arguments.num_train_epochs
        return cls(batch_size, num_rows // batch_size, num_steps, -(-num_steps // evaluations), left_out**1.25)

    def for_fewer(self, num_rows: int) -> "Schedule":
        """The same number of steps and learning rates for a part of the rows."""
        batch_size = min(self.batch_size, num_rows)
        return replace(self, batch_size=batch_size, steps_per_epoch=num_rows // batch_size)

    def learning_rate(self, step: int, initial: float) -> float:
        return initial * self.rate_factor * (_DECAY_FACTOR if step >= _DECAY_AT * self.num_steps else 1.0)


@dataclass(frozen=True)
class AdapterTraining:
    """What all trainings of fresh adapters share: all but the rows, some or all of `num_rows`, and the steps.

    Each run puts new adapters onto `model`, which `unload()` of what it returns takes off.
    """

    model: nn.Module
    num_rows: int
    arguments: AdaptationArguments
    seed: int
    accelerator: Accelerator
    peft_config: PeftConfig

    @property
    def schedule(self) -> Schedule:
        return Schedule.for_rows(self.num_rows, self.arguments)

    def run(
        self,
        data: Features,
        *,
        num_steps: int,
        after_interval: Callable[[PeftModel, int], bool] | None = None,
        description: str = "Adapting",
    ) -> PeftModel:
        """Trains fresh adapters in this process. Their randomness follows the seed; the caller's stays as it was."""
        with self._new_adapters() as adapted:
            train_adapters(
                adapted,
                *data,
                arguments=self.arguments,
                schedule=self.schedule.for_fewer(len(data[0])),
                num_steps=num_steps,
                seed=self.seed,
                accelerator=self.accelerator,
                after_interval=after_interval and partial(after_interval, adapted),
                description=description,
            )
        return adapted

    def run_once(self, data: Features, *, num_steps: int) -> PeftModel:
        """What `run` gives, in all processes: the main one trains, and the others get its weights."""
        if Processes(self.accelerator).index == 0:
            adapted = self.run(data, num_steps=num_steps)
        else:
            with self._new_adapters() as adapted:
                adapted.eval()
        heads = Projections(adapted).to(self.accelerator.device)
        with torch.no_grad():
            for tensor in (*heads.parameters(), *heads.buffers()):  # also those that are not trained: some are random
                tensor.copy_(broadcast(tensor.detach().contiguous()))
        return adapted

    @contextmanager
    def _new_adapters(self) -> Iterator[PeftModel]:
        device = self.accelerator.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            yield new_adapters(self.model, self.peft_config)


def train_adapters(
    model: nn.Module,
    image_features: FeatureRows,
    text_features: torch.Tensor,
    labels: np.ndarray,
    *,
    arguments: AdaptationArguments,
    schedule: Schedule,
    num_steps: int,
    seed: int,
    accelerator: Accelerator,
    after_interval: Callable[[int], bool] | None = None,
    description: str = "Adapting",
) -> None:
    """Train the adapters on the two heads of `model`, in place: those of its parameters that require gradients.

    Features are as cached, of images `(N, H)` and of texts `(T, C, H')`; labels `(N,)` are int64 in `[0, C)`. Takes
    `num_steps`, at most `schedule.num_steps`; the seed decides the batches. Only the texts of a batch are embedded.
    `after_interval` is called with the number of steps taken, every `schedule.evaluate_every` steps, and ends the run
    by `False`; `description` is the title of the progress bar. This process trains alone, whatever the others do.
    """
    device = accelerator.device
    # Not prepared: Accelerate would make the heads data parallel, and to let go of them again it collects garbage, as
    # long as a hundred steps; its optimizer, in float32, only adds a search for packages, as long as a step.
    projections = Projections(model).to(device).train()
    trainable = [parameter for parameter in projections.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=arguments.learning_rate, fused=True)
    texts = resident_texts(text_features, device)
    images = resident_images(image_features, device, num_rows_read=num_steps * schedule.batch_size)
    rows = _shuffled_rows(len(labels), schedule, num_steps, seed)
    batches = batches_of(rows, images, labels, device=device, texts_on=texts.device)
    with (
        one_thread_each(device),  # the weights do not depend on how many there are
        _kernels_for(trainable, schedule.batch_size),
        tqdm(total=num_steps, desc=description, unit=" steps", mininterval=0.5) as progress,
    ):
        for step, batch in enumerate(batches, start=1):
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate(step - 1, arguments.learning_rate)
            image_embeds, text_embeds = projections(batch.images, take_texts(texts, batch.texts, device))
            loss = grouped_info_nce(
                image_embeds, text_embeds, batch.own_text, batch.log_counts, temperature=arguments.temperature
            )
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            progress.update()
            if step % schedule.evaluate_every == 0 or step == num_steps:
                value = loss.item()
                progress.set_postfix(loss=f"{value:.4f}", refresh=False)
                accelerator.log({f"{description.lower().replace(' ', '_')}/loss": value}, step=step)
                if after_interval is not None:
                    model.eval()  # an adapter may have dropout
                    go_on = after_interval(step)
                    projections.train()
                    if not go_on:
                        if step < num_steps:
                            progress.set_description(f"{description}, stopped early: no longer better")
                        break
    model.eval()


@torch.inference_mode()
def mean_loss(
    model: nn.Module,
    image_features: FeatureRows,
    text_features: torch.Tensor,
    labels: np.ndarray,
    *,
    batch_size: int,
    temperature: float,
) -> float:
    """The training loss on held-out rows, averaged over batches of the training's size.

    Takes features and labels as [`train_adapters`]; the temperature divides the cosines.
    """
    projections = Projections(model)
    device = next(projections.parameters()).device
    distinct, labels = np.unique(labels, return_inverse=True)
    text_embeds = projections.embed_texts(text_features[:, distinct].to(device))
    losses = []
    rows = np.split(np.arange(len(labels)), range(batch_size, len(labels), batch_size))
    for batch in batches_of(rows, image_features, labels, device=device, texts_on=device):
        embeds = projections.embed_images(batch.images), text_embeds[batch.texts]
        losses.append(grouped_info_nce(*embeds, batch.own_text, batch.log_counts, temperature=temperature))
    sizes = [len(some) for some in rows]
    return sum(map(operator.mul, sizes, torch.stack(losses).tolist())) / len(labels)


def _shuffled_rows(num_rows: int, schedule: Schedule, num_steps: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    for step in range(num_steps):
        position = step % schedule.steps_per_epoch
        if position == 0:
            order = rng.permutation(num_rows)
        yield order[position * schedule.batch_size : (position + 1) * schedule.batch_size]


@contextmanager
def _kernels_for(parameters: list[nn.Parameter], batch_size: int) -> Iterator[None]:
    """torch's own kernels for small steps, in which oneDNN only costs time."""
    enabled = torch.backends.mkldnn.enabled
    if batch_size * sum(parameter.numel() for parameter in parameters) < _WORTH_ONEDNN:
        # torch's context manager would set further flags, with a warning.
        torch.backends.mkldnn.enabled = False  # type: ignore[assignment]  # torch types the property, not its value
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = enabled

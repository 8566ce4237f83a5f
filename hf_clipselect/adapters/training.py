"""Trains adapters on cached features with symmetric InfoNCE; the batches do not depend on the number of processes.

Legend: N rows, B rows of a batch, T templates, C classes or distinct captions, H and H' hidden sizes, D embed_dim.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import tqdm
from peft import PeftConfig, PeftModel
from torch import nn

from ..config.arguments import AdaptationArguments
from ..encoder.feature_rows import FeatureRows
from .losses import info_nce_loss
from .placing import new_adapters
from .projections import Projections


# The paper's StepLR(30) never fires within its 30 epochs (Appendix C); here the decay is a fraction of the run.
_DECAY_AT = 2 / 3
_DECAY_FACTOR = 0.1
# Rows whose features are copied from the shards together, since a single batch has few rows in each shard.
_ROWS_AHEAD = 8192
# Steps of fewer multiplications, which one thread does within a millisecond, run on one thread.
_WORTH_THREADS = 5e7

# image_features (N, H), text_features (T, C, H'), labels (N,)
Features = tuple[FeatureRows, torch.Tensor, np.ndarray]


@dataclass(frozen=True)
class Schedule:
    """How long and in what batches adapters are trained."""

    batch_size: int  # of all processes together, at most the number of rows
    steps_per_epoch: int  # full batches in one pass; the rows left over are skipped, other rows in each pass
    num_steps: int  # of the full run, which the learning rates refer to
    evaluate_every: int  # steps between two evaluations on the held-out rows

    @classmethod
    def for_rows(cls, num_rows: int, arguments: AdaptationArguments) -> "Schedule":
        batch_size = min(arguments.train_batch_size, num_rows)
        steps_per_epoch = num_rows // batch_size
        num_steps = max(arguments.num_train_epochs * steps_per_epoch, arguments.min_train_steps)
        return cls(batch_size, steps_per_epoch, num_steps, evaluate_every=-(-num_steps // arguments.num_train_epochs))

    def for_fewer(self, num_rows: int) -> "Schedule":
        """The same number of steps and learning rates for a part of the rows."""
        batch_size = min(self.batch_size, num_rows)
        return replace(self, batch_size=batch_size, steps_per_epoch=num_rows // batch_size)

    def learning_rate(self, step: int, initial: float) -> float:
        return initial * (_DECAY_FACTOR if step >= _DECAY_AT * self.num_steps else 1.0)


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
        """Trains fresh adapters. Their randomness follows the seed, and the caller's random state stays."""
        device = self.accelerator.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            adapted = new_adapters(self.model, self.peft_config)
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
    `num_steps`, at most `schedule.num_steps`; the seed decides the batches. Each process embeds its part of every
    global batch; the loss sees the whole batch. `after_interval` is called with the number of steps taken, every
    `schedule.evaluate_every` steps, and ends the run by `False`; `description` is the title of the progress bar.
    """
    projections = Projections(model).train()
    trainable = [parameter for parameter in projections.parameters() if parameter.requires_grad]
    projections = accelerator.prepare(projections)
    # Not prepared: in float32 Accelerate's optimizer only adds a search for packages, as long as a step.
    optimizer = torch.optim.Adam(trainable, lr=arguments.learning_rate, fused=True)
    few_texts = text_features.shape[1] <= schedule.batch_size
    if few_texts:
        text_features = text_features.to(accelerator.device)
    batches = _batches(len(labels), schedule, num_steps, seed)
    ahead = max(1, _ROWS_AHEAD // schedule.batch_size)
    with (
        _suited_to(trainable, schedule.batch_size),
        tqdm(total=num_steps, desc=description, unit=" steps", mininterval=0.5) as progress,
    ):
        for step, (rows, mine) in enumerate(_with_own_features(batches, ahead, image_features, accelerator), start=1):
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate(step - 1, arguments.learning_rate)
            embeds = _embed_batch(projections, mine, text_features, labels[rows], accelerator, few_texts=few_texts)
            loss = info_nce_loss(*embeds, temperature=arguments.temperature)
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
    accelerator.free_memory()


def _embed_batch(
    projections: nn.Module,
    mine: np.ndarray,
    text_features: torch.Tensor,
    labels: np.ndarray,
    accelerator: Accelerator,
    *,
    few_texts: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings of a global batch: images (B, D), texts, and the number of each image's text among them (B,).

    `mine` are the features of this process's images. Where there are more texts than rows in a batch, as captions may
    be, only those of the batch are embedded, each process its part.
    """
    device = accelerator.device
    if not few_texts:
        distinct, labels = np.unique(labels, return_inverse=True)
        text_features = text_features[:, _own_part(distinct, accelerator)].to(device)
    image_embeds, text_embeds = projections(torch.from_numpy(mine).to(device), text_features)
    image_embeds = _gather_with_gradient(image_embeds, len(labels), accelerator)
    if not few_texts:
        text_embeds = _gather_with_gradient(text_embeds, len(distinct), accelerator)
    return image_embeds, text_embeds, torch.from_numpy(labels).to(device)


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
    texts, labels = np.unique(labels, return_inverse=True)
    text_embeds = projections.embed_texts(text_features[:, texts].to(device))
    total = 0.0
    for start in range(0, len(labels), batch_size):
        rows = np.arange(start, min(start + batch_size, len(labels)))
        embeds = projections.embed_images(torch.from_numpy(image_features.take(rows)).to(device))
        batch_labels = torch.from_numpy(labels[rows]).to(device)
        total += len(embeds) * info_nce_loss(embeds, text_embeds, batch_labels, temperature=temperature).item()
    return total / len(labels)


def _batches(num_rows: int, schedule: Schedule, num_steps: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    for step in range(num_steps):
        position = step % schedule.steps_per_epoch
        if position == 0:
            order = rng.permutation(num_rows)
        yield order[position * schedule.batch_size : (position + 1) * schedule.batch_size]


def _with_own_features(
    batches: Iterator[np.ndarray], batches_ahead: int, image_features: FeatureRows, accelerator: Accelerator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows of each global batch and the features of this process's part of them, read for many batches at once."""
    while ahead := list(islice(batches, batches_ahead)):
        own = [_own_part(rows, accelerator) for rows in ahead]
        features = np.split(image_features.take(np.concatenate(own)), np.cumsum([len(rows) for rows in own[:-1]]))
        yield from zip(ahead, features, strict=True)


def _own_part(numbers: np.ndarray, accelerator: Accelerator) -> np.ndarray:
    return np.array_split(numbers, accelerator.num_processes)[accelerator.process_index]


@contextmanager
def _suited_to(parameters: list[nn.Parameter], batch_size: int) -> Iterator[None]:
    """One thread and torch's own kernels for small steps, in which threads and oneDNN only cost time."""
    if batch_size * sum(parameter.numel() for parameter in parameters) >= _WORTH_THREADS:
        yield
        return
    threads, enabled = torch.get_num_threads(), torch.backends.mkldnn.enabled
    torch.set_num_threads(1)
    # torch's context manager would set further flags, with a warning.
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]  # torch types the property, not its value
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.mkldnn.enabled = enabled


def _gather_with_gradient(local: torch.Tensor, num_rows: int, accelerator: Accelerator) -> torch.Tensor:
    """The embeddings of the parts of all processes, in order; `Accelerator.gather` alone would cut the gradient."""
    world = accelerator.num_processes
    if world == 1:
        return local
    sizes = [len(part) for part in np.array_split(np.arange(num_rows), world)]
    padded = torch.cat([local, local.new_zeros(max(sizes) - len(local), local.shape[1])])
    parts = list(accelerator.gather(padded.detach()).split(max(sizes)))
    # Each process has the loss of the whole batch but the gradient of its own rows alone, and data parallelism takes
    # the mean over processes: with the own rows' gradient times `world`, that mean is the gradient of the whole batch.
    parts[accelerator.process_index] = local + (world - 1) * (local - local.detach())
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

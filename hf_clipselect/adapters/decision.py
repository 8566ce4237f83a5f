"""Decides how long to train adapters and whether to keep them.

Held-out rows choose the number of steps and decide `auto`. The kept adapters are then trained again on all rows for
that many steps, because rows that were trained on and rows that were not must not be ranked together.

Legend: N rows, T templates, C classes or captions, H and H' hidden sizes of the towers.
"""

import logging
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from peft import PeftConfig, PeftModel
from torch import nn

from ..config.arguments import AdaptationArguments
from ..encoder.feature_rows import FeatureRows
from ..errors import InputError
from ..runtime.processes import Processes
from ..selection import class_quotas
from ..selection.counts import round_half_up
from .adapter_files import AdapterFiles
from .mlp import MlpAdapterConfig
from .peft_configs import method_of
from .placing import absent_targets, check_method, check_on_projections, lay_out, on_heads
from .text_alignment import align_rows
from .training import AdapterTraining, Features, mean_loss


logger = logging.getLogger(__name__)

# A tenth of the rows is held out, or as many as tell a gain of a few percent, but at most three tenths; and no more
# than tell a gain of one percent, since all are looked at several times.
_HELD_OUT_FRACTION = 0.1
_HELD_OUT_ENOUGH = 500
_HELD_OUT_AT_MOST = 0.3
_HELD_OUT_ROWS_AT_MOST = 5000
# What is counted of held-out rows: without captions, and with them.
_AGREED = ("the zero-shot prediction agreed with the given label", "the own caption fitted better than others")
# Passes without a better held-out loss before the trial run ends, as a fraction of the full run.
_PATIENCE = 0.2


@dataclass(frozen=True)
class Adaptation:
    """Whether adapters were trained and kept, and why; all of it goes into config.yaml and the report."""

    mode: str  # "auto", "always" or "off"
    kept: bool  # whether the scores come from adapters; else from plain CLIP
    reason: str  # a sentence
    method: str | None = None  # PEFT type of the adapters
    num_steps: int = 0  # that the kept adapters were trained for; 0 for plain CLIP
    batch_size: int | None = None
    learning_rate: float | None = None
    temperature: float | None = None
    held_out_rows: int = 0  # that chose the number of steps
    # Share of held-out rows whose zero-shot prediction is the given label, or whose own caption fits best.
    held_out_agreement_plain: float | None = None
    held_out_agreement_adapted: float | None = None
    standard_error: float | None = None  # of the paired difference between the two
    held_out_loss_plain: float | None = None  # the training loss on the held-out rows
    held_out_loss_adapted: float | None = None
    # `name` and `revision` of adapters that were given, not trained: Hub id or path, and commit or `None`.
    adapter: dict[str, str | None] | None = None

    @classmethod
    def off(cls) -> "Adaptation":
        """Of a run that trains none."""
        return cls("off", kept=False, reason="Adaptation is off: the scores are those of plain CLIP.")

    @classmethod
    def of_given(cls, adapter: AdapterFiles, *, mode: str) -> "Adaptation":
        """Of a run that takes its adapters as they are."""
        return cls(
            mode,
            kept=True,
            reason=f"The adapters of {adapter} were used as they are; nothing was trained.",
            method=method_of(adapter.peft_config),
            adapter={"name": adapter.name, "revision": adapter.revision},
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def adapt(
    model: nn.Module,
    image_features: FeatureRows,
    text_features: torch.Tensor,
    labels: np.ndarray,
    *,
    arguments: AdaptationArguments,
    seed: int,
    accelerator: Accelerator,
    references: np.ndarray | None = None,
    peft_config: PeftConfig | None = None,
) -> tuple[nn.Module, Adaptation]:
    """Train adapters on cached features, or leave CLIP as it is, as `arguments.adaptation` says.

    The model is a frozen dual encoder, or `IdentityProjections` for ready embeddings. Features are as cached: those of
    the images `(N, H)`, of the texts `(T, C, H')`, of captions only those that have images; labels `(N,)` are int64 in
    `[0, C)`. The seed decides initial weights, held-out rows and batches. `references` `(R,)` are the captions that a
    held-out row's own has to beat, as from `draw_references`; None where the labels are classes. `peft_config` is any
    PEFT method on two linear projections; default the MLP adapters.

    Returns a `PeftModel` if adapters were kept, else `model`; and what was decided. The main process trains, and all
    get the same, bit for bit.
    """
    mode = arguments.adaptation
    if mode == "off":
        return model, Adaptation.off()
    data = (image_features, text_features, labels)
    training = AdapterTraining(model, len(labels), arguments, seed, accelerator, peft_config or MlpAdapterConfig())
    # Most captions have a single row, so any row may be held out.
    held_out = held_out_rows(labels if references is None else np.zeros_like(labels), seed=seed)
    trial = Processes(accelerator).on_main(lambda: _try_out(training, data, held_out, references))
    kept = trial.kept or mode == "always"
    reason = f"{trial.reason}: {'the adapters were kept' if kept else 'plain CLIP was kept'}."
    if kept and not trial.kept:
        reason += " (--adaptation always)"
    logger.info(reason)
    outcome = replace(trial, mode=mode, kept=kept, reason=reason, num_steps=trial.num_steps if kept else 0)
    return (training.run_once(data, num_steps=trial.num_steps) if kept else model), outcome


def _try_out(
    training: AdapterTraining, data: Features, held_out: np.ndarray, references: np.ndarray | None
) -> Adaptation:
    """Train without the held-out rows: how many steps are best for them, and whether the adapters beat plain CLIP.

    The `reason` of what is returned is the finding alone, without its consequence.
    """
    schedule, temperature = training.schedule, training.arguments.temperature
    settings = Adaptation(
        "auto",
        kept=False,
        reason="No class has a second row, so none could be held out to tell whether adapters help",
        method=method_of(training.peft_config),
        num_steps=schedule.num_steps,
        batch_size=schedule.batch_size,
        learning_rate=float(f"{schedule.learning_rate(0, training.arguments.learning_rate):.4g}"),
        temperature=temperature,
    )
    if not len(held_out):
        return settings
    image_features, text_features, labels = data
    rest = np.setdiff1d(np.arange(len(labels)), held_out)
    held_out_data = (image_features.subset(held_out), text_features, labels[held_out])
    plain = align_rows(training.model, *held_out_data, references=references)[0] == held_out_data[2]
    loss_plain = mean_loss(training.model, *held_out_data, batch_size=schedule.batch_size, temperature=temperature)
    best_step, best_loss, best = 0, float("inf"), plain
    weights: list[torch.Tensor] = []

    def evaluate(adapted: PeftModel, step: int) -> bool:
        nonlocal best_step, best_loss, weights
        loss = mean_loss(adapted, *held_out_data, batch_size=schedule.batch_size, temperature=temperature)
        if loss < best_loss:
            best_step, best_loss = step, loss
            weights = [parameter.detach().clone() for parameter in _trained(adapted)]
        return step - best_step < _PATIENCE * schedule.num_steps

    adapted = training.run(
        (image_features.subset(rest), text_features, labels[rest]),
        num_steps=schedule.num_steps,
        after_interval=evaluate,
        description="Adapting (trial)",
    )
    if best_step:
        for parameter, of_best in zip(_trained(adapted), weights, strict=True):
            parameter.data.copy_(of_best)
        best = align_rows(adapted, *held_out_data, references=references)[0] == held_out_data[2]
    adapted.unload()
    difference = best.astype(np.float64) - plain
    error = float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else float("inf")
    better = bool(difference.mean() > error)
    return replace(
        settings,
        kept=better,
        reason=f"On {len(held_out)} held-out rows {_AGREED[references is not None]} for "
        f"{plain.mean():.1%} with plain CLIP and {best.mean():.1%} with adapters "
        f"({_compared(difference.mean(), error, better)})",
        num_steps=best_step,
        held_out_rows=len(held_out),
        held_out_agreement_plain=float(plain.mean()),
        held_out_agreement_adapted=float(best.mean()),
        standard_error=error if np.isfinite(error) else None,
        held_out_loss_plain=loss_plain,
        held_out_loss_adapted=best_loss,
    )


def _trained(adapted: PeftModel) -> list[nn.Parameter]:
    return [parameter for parameter in adapted.parameters() if parameter.requires_grad]


def _compared(difference: float, error: float, better: bool) -> str:
    """How the adapters compare with plain CLIP on the held-out rows, in words for the figures beside them."""
    if difference <= 0:
        return f"{'worse' if difference < 0 else 'no better'}; one standard error of the difference is {error:.1%}"
    return f"{'more' if better else 'not more'} than one standard error of the difference, {error:.1%}, better"


def held_out_rows(labels: np.ndarray, *, seed: int) -> np.ndarray:
    """The numbers of a tenth to three tenths of the N rows, at most 5,000, int64: of each class its share, never all.

    Takes the labels `(N,)`, int64, from 0. They come in random order because the held-out loss is taken in batches,
    and batches of one class say nothing.
    """
    fraction = min(_HELD_OUT_AT_MOST, max(_HELD_OUT_FRACTION, _HELD_OUT_ENOUGH / len(labels)))
    sizes = np.bincount(labels)
    at_most = np.maximum(sizes - 1, 0)
    count = min(round_half_up(fraction, len(labels)), _HELD_OUT_ROWS_AT_MOST, int(at_most.sum()))
    quotas = class_quotas(labels, count, balance="proportional", num_classes=len(sizes), upper=at_most)
    rng = np.random.default_rng([seed, 1])  # not the stream of the batches
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
    rows = [rng.permutation(rows)[:quota] for rows, quota in zip(by_class, quotas, strict=True)]
    return rng.permutation(np.concatenate(rows))


def check_peft_config(model: nn.Module, peft_config: PeftConfig) -> None:
    """Raise `InputError`, before images are encoded, where adapters could not be trained or not be loaded again."""
    check_method(model, peft_config, "The PEFT config")
    if absent := absent_targets(model, peft_config):
        raise InputError(
            f"The PEFT config names target_modules that a {type(model).__name__} does not have: "
            f"{', '.join(absent)[:200]}."
        )
    check_on_projections(lay_out(model, on_heads(model, peft_config), "The PEFT config"), "The PEFT config")

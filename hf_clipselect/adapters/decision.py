"""Decides how long to train adapters and whether to keep them.

Held-out rows choose the number of steps and decide `auto`; the adapters that are kept are trained anew on all rows for
that many steps, because rows that were trained on and rows that were not must not be ranked together.
"""

import logging
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from peft import PeftConfig, PeftModel
from torch import nn

from ..config.arguments import AdaptationArguments
from ..encoder.feature_rows import FeatureRows
from ..errors import InputError
from ..selection import class_quotas
from ..selection.counts import round_half_up
from .adapter_files import AdapterFiles
from .placing import absent_targets, check_method, check_on_projections, lay_out, on_heads
from .text_alignment import align_rows
from .training import AdapterTraining, Features, mean_loss


logger = logging.getLogger(__name__)

# A tenth of the rows, but enough of them that a gain of a few percent shows above its standard error, as far as three
# tenths of the rows allow.
_HELD_OUT_FRACTION = 0.1
_HELD_OUT_ENOUGH = 500
_HELD_OUT_AT_MOST = 0.3
# What is counted of the held-out rows, by whether they have captions.
_AGREED = ("the zero-shot prediction agreed with the given label", "the own caption fitted better than others")
# Passes without a better held-out loss before the trial run ends, as a fraction of the full run.
_PATIENCE = 0.2


@dataclass(frozen=True)
class Adaptation:
    """What became of the adapters; all of it stands in config.yaml and the report.

    Args:
        mode (`str`): `"auto"`, `"always"` or `"off"`.
        kept (`bool`): Whether the scores come from adapters; else from plain CLIP.
        reason (`str`): Why, in a sentence.
        method (`str`, *optional*): PEFT type of the adapters.
        num_steps (`int`): Steps that the kept adapters were trained for; 0 for plain CLIP.
        batch_size, learning_rate, temperature: Settings of the training.
        held_out_rows (`int`): Rows that chose the number of steps.
        held_out_agreement_plain, held_out_agreement_adapted (`float`, *optional*):
            Share of held-out rows whose zero-shot prediction is the given label, or whose caption fits best, before
            and after.
        standard_error (`float`, *optional*): Of the paired difference between the two.
        held_out_loss_plain, held_out_loss_adapted (`float`, *optional*): The training loss on the held-out rows.
        adapter (`dict`, *optional*): `name` and `revision` of adapters that were given, not trained: Hub id or path,
            and commit or `None`.
    """

    mode: str
    kept: bool
    reason: str
    method: str | None = None
    num_steps: int = 0
    batch_size: int | None = None
    learning_rate: float | None = None
    temperature: float | None = None
    held_out_rows: int = 0
    held_out_agreement_plain: float | None = None
    held_out_agreement_adapted: float | None = None
    standard_error: float | None = None
    held_out_loss_plain: float | None = None
    held_out_loss_adapted: float | None = None
    adapter: dict[str, str | None] | None = None

    @classmethod
    def off(cls) -> "Adaptation":
        """Of a run that trains none."""
        return cls("off", kept=False, reason="Adaptation is off: the scores are those of plain CLIP.")

    @classmethod
    def of_given(cls, adapter: AdapterFiles, *, mode: str) -> "Adaptation":
        """Of a run that takes its adapters as they are."""
        config, _ = adapter.parsed_config
        return cls(
            mode,
            kept=True,
            reason=f"The adapters of {adapter} were used as they are; nothing was trained.",
            method=config.peft_type.value,
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

    Args:
        model (`nn.Module`): Frozen dual encoder, or `IdentityProjections` for ready embeddings.
        image_features ([`FeatureRows`] `(N, H)`): As cached.
        text_features (`torch.Tensor` of shape `(T, C, H')`): As cached, for classes or captions with images only.
        labels (`np.ndarray` of shape `(N,)`, int64): Given labels in `[0, C)`.
        arguments (`AdaptationArguments`): Mode and training settings.
        seed (`int`): Decides initial weights, held-out rows and batches.
        accelerator (`Accelerator`): Runs the training.
        references (`np.ndarray` of shape `(R,)`, *optional*): The captions that a held-out row's own has to beat, as
            from `draw_references`; None where the labels are classes.
        peft_config (`PeftConfig`, *optional*): Any PEFT method on two linear projections; default the MLP adapters.

    Returns:
        `tuple[nn.Module, Adaptation]`: A `PeftModel` if adapters were kept, else `model`; and what was decided.
    """
    if arguments.adaptation == "off":
        return model, Adaptation.off()
    data = (image_features, text_features, labels)
    training = AdapterTraining.for_rows(
        model, len(labels), arguments, seed=seed, accelerator=accelerator, peft_config=peft_config
    )
    # Hardly any caption has a second row that could stay: of captions any row may go.
    held_out = held_out_rows(labels if references is None else np.zeros_like(labels), seed=seed)
    trial = _try_out(training, data, held_out, references)
    kept = trial.better or arguments.adaptation == "always"
    reason = f"{trial.finding}: {'the adapters were kept' if kept else 'plain CLIP was kept'}."
    if kept and not trial.better:
        reason += " (--adaptation always)"
    logger.info(reason)
    outcome = Adaptation(
        arguments.adaptation,
        kept=kept,
        reason=reason,
        method=str(getattr(training.peft_config.peft_type, "value", training.peft_config.peft_type)),
        num_steps=trial.num_steps if kept else 0,
        batch_size=training.schedule.batch_size,
        learning_rate=arguments.learning_rate,
        temperature=arguments.temperature,
        held_out_rows=trial.num_rows,
        held_out_agreement_plain=trial.agreement_plain,
        held_out_agreement_adapted=trial.agreement_adapted,
        standard_error=trial.standard_error,
        held_out_loss_plain=trial.loss_plain,
        held_out_loss_adapted=trial.loss_adapted,
    )
    return (training.run(data, num_steps=trial.num_steps) if kept else model), outcome


@dataclass(frozen=True)
class _Trial:
    """What training without the held-out rows told: how long to train, and whether it beats plain CLIP on them."""

    num_steps: int
    better: bool
    finding: str
    num_rows: int = 0
    agreement_plain: float | None = None
    agreement_adapted: float | None = None
    standard_error: float | None = None
    loss_plain: float | None = None
    loss_adapted: float | None = None


def _try_out(training: AdapterTraining, data: Features, held_out: np.ndarray, references: np.ndarray | None) -> _Trial:
    """Train without the held-out rows and look at them on the way."""
    if not len(held_out):
        finding = "No class has a second row, so none could be held out to tell whether adapters help"
        return _Trial(training.schedule.num_steps, better=False, finding=finding)
    image_features, text_features, labels = data
    rest = np.setdiff1d(np.arange(len(labels)), held_out)
    ours = (image_features.subset(held_out), text_features, labels[held_out])
    measure = {"batch_size": training.schedule.batch_size, "temperature": training.arguments.temperature}
    plain = align_rows(training.model, *ours, references=references)[0] == ours[2]
    loss_plain = mean_loss(training.model, *ours, **measure)
    best_step, best_loss, best = 0, float("inf"), plain

    def look(adapted: PeftModel, step: int) -> bool:
        nonlocal best_step, best_loss, best
        # One process decides for all: a last digit may differ, and those that go on would wait for ever.
        [loss] = broadcast_object_list([mean_loss(adapted, *ours, **measure)])
        if loss < best_loss:
            best_step, best_loss = step, loss
            best = align_rows(adapted, *ours, references=references)[0] == ours[2]
        return step - best_step < _PATIENCE * training.schedule.num_steps

    training.run(
        (image_features.subset(rest), text_features, labels[rest]),
        num_steps=training.schedule.num_steps,
        after_interval=look,
        description="Adapting (trial)",
    ).unload()
    difference = best.astype(np.float64) - plain
    error = float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else float("inf")
    [better] = broadcast_object_list([bool(difference.mean() > error)])
    return _Trial(
        num_steps=best_step,
        better=better,
        finding=f"On {len(held_out)} held-out rows {_AGREED[references is not None]} for "
        f"{plain.mean():.1%} with plain CLIP and {best.mean():.1%} with adapters "
        f"({_compared(difference.mean(), error, better)})",
        num_rows=len(held_out),
        agreement_plain=float(plain.mean()),
        agreement_adapted=float(best.mean()),
        standard_error=error if np.isfinite(error) else None,
        loss_plain=loss_plain,
        loss_adapted=best_loss,
    )


def _compared(difference: float, error: float, better: bool) -> str:
    """What the held-out rows say of the adapters, in words that fit the figures beside them."""
    if difference <= 0:
        return f"{'worse' if difference < 0 else 'no better'}; one standard error of the difference is {error:.1%}"
    return f"{'more' if better else 'not more'} than one standard error of the difference, {error:.1%}, better"


def held_out_rows(labels: np.ndarray, *, seed: int) -> np.ndarray:
    """A tenth to three tenths of the rows, of every class its share and never all of it, in random order.

    In random order, because the held-out loss is taken in batches: batches of one class alone would say nothing.
    """
    fraction = min(_HELD_OUT_AT_MOST, max(_HELD_OUT_FRACTION, _HELD_OUT_ENOUGH / len(labels)))
    sizes = np.bincount(labels)
    at_most = np.maximum(sizes - 1, 0)
    count = min(round_half_up(fraction, len(labels)), int(at_most.sum()))
    quotas = class_quotas(labels, count, balance="proportional", num_classes=len(sizes), upper=at_most)
    rng = np.random.default_rng([seed, 1])  # another stream than that of the batches
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
    rows = [rng.permutation(rows)[:quota] for rows, quota in zip(by_class, quotas, strict=True)]
    return rng.permutation(np.concatenate(rows))


def check_peft_config(model: nn.Module, peft_config: PeftConfig) -> None:
    """Raise before the images are encoded where adapters could not be trained, or not be loaded again; nothing
    changes.
    """
    check_method(model, peft_config, "The PEFT config")
    if absent := absent_targets(model, peft_config):
        raise InputError(
            f"The PEFT config names target_modules that a {type(model).__name__} does not have: "
            f"{', '.join(absent)[:200]}."
        )
    check_on_projections(lay_out(model, on_heads(model, peft_config), "The PEFT config"), "The PEFT config")

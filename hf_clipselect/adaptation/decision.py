"""Decides how long to train adapters and whether to keep them.

Held-out rows choose the number of steps and decide `auto`; the adapters that are kept are trained anew on all rows for
that many steps, because rows that were trained on and rows that were not must not be ranked together.
"""

import copy
import logging
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from peft import PeftConfig, PeftModel, get_peft_model
from torch import nn

from ..config import AdaptationArguments
from ..errors import InputError
from ..mlp_adapter import MlpAdapterConfig
from ..scores import predicted_labels
from .projections import project
from .training import Schedule, mean_loss, train_adapters


logger = logging.getLogger(__name__)

# A tenth of the rows, but enough of them that a gain of a few percent shows above its standard error, as far as three tenths
# of the rows allow.
_HELD_OUT_FRACTION = 0.1
_HELD_OUT_ENOUGH = 500
_HELD_OUT_AT_MOST = 0.3
# Passes without a better held-out loss before the trial run ends, as a fraction of the full run.
_PATIENCE = 0.2


@dataclass
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
            Share of held-out rows whose zero-shot prediction is the given label, before and after.
        standard_error (`float`, *optional*): Of the paired difference between the two.
        held_out_loss_plain, held_out_loss_adapted (`float`, *optional*): The training loss on the held-out rows.
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

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def adapt(
    model: nn.Module,
    image_features: np.ndarray,
    text_features: torch.Tensor,
    labels: np.ndarray,
    *,
    arguments: AdaptationArguments,
    seed: int,
    accelerator: Accelerator,
    peft_config: PeftConfig | None = None,
) -> tuple[nn.Module, Adaptation]:
    """Train adapters on cached features, or leave CLIP as it is, as `arguments.adaptation` says.

    Args:
        model (`nn.Module`): Frozen dual encoder, or `IdentityProjections` for ready embeddings.
        image_features (`np.ndarray` of shape `(N, H)`, float32): Input of the visual projection.
        text_features (`torch.Tensor` of shape `(T, C, H')`): Input of the text projection, for classes with images only.
        labels (`np.ndarray` of shape `(N,)`, int64): Given labels in `[0, C)`.
        arguments (`AdaptationArguments`): Mode and training settings.
        seed (`int`): Decides initial weights, held-out rows and batches.
        accelerator (`Accelerator`): Runs the training.
        peft_config (`PeftConfig`, *optional*): Any PEFT method on the two projections; default the MLP adapters.

    Returns:
        `tuple[nn.Module, Adaptation]`: A `PeftModel` if adapters were kept, else `model`; and what was decided.
    """
    if arguments.adaptation == "off":
        return model, Adaptation("off", kept=False, reason="Adaptation is off: the scores are those of plain CLIP.")
    peft_config = peft_config or MlpAdapterConfig()
    outcome = Adaptation(
        arguments.adaptation,
        kept=False,
        reason="",
        method=str(getattr(peft_config.peft_type, "value", peft_config.peft_type)),
        learning_rate=arguments.learning_rate,
        temperature=arguments.temperature,
    )
    held_out = held_out_rows(labels, seed=seed)
    schedule = Schedule.for_rows(len(labels), arguments)
    outcome.batch_size = schedule.batch_size
    outcome.held_out_rows = len(held_out)
    data = (image_features, text_features, labels)
    if len(held_out):
        num_steps, enough = _try_out(
            model, data, held_out, peft_config, schedule, outcome, arguments, seed, accelerator
        )
    else:
        num_steps, enough = schedule.num_steps, False
        outcome.reason = "No class has two rows, so none could be held out"
    outcome.kept = enough or arguments.adaptation == "always"
    outcome.reason += ": the adapters were kept." if outcome.kept else ": plain CLIP was kept."
    if arguments.adaptation == "always" and not enough:
        outcome.reason += " (--adaptation always)"
    logger.info(outcome.reason)
    if not outcome.kept:
        return model, outcome
    outcome.num_steps = num_steps
    adapted = new_adapters(model, peft_config, seed=seed)
    train_adapters(
        adapted, *data, arguments=arguments, schedule=schedule, num_steps=num_steps, seed=seed, accelerator=accelerator
    )
    return adapted, outcome


def held_out_rows(labels: np.ndarray, *, seed: int) -> np.ndarray:
    """The same share of every class, a tenth to three tenths depending on the number of rows; sorted row numbers."""
    rng = np.random.default_rng([seed, 1])  # another stream than that of the batches
    fraction = min(_HELD_OUT_AT_MOST, max(_HELD_OUT_FRACTION, _HELD_OUT_ENOUGH / len(labels)))
    held_out = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = int(fraction * len(rows) + 0.5)
        held_out.append(rng.permutation(rows)[:count])
    return np.sort(np.concatenate(held_out))


def new_adapters(model: nn.Module, peft_config: PeftConfig, *, seed: int) -> PeftModel:
    """Fresh adapters on a frozen model; the caller's random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return get_peft_model(model, copy.deepcopy(peft_config))  # peft writes into the config it is given
        except ValueError as error:
            raise InputError(f"The PEFT config does not fit the model: {' '.join(str(error).split())[:400]}") from None


def _try_out(
    model: nn.Module,
    data: tuple[np.ndarray, torch.Tensor, np.ndarray],
    held_out: np.ndarray,
    peft_config: PeftConfig,
    schedule: Schedule,
    outcome: Adaptation,
    arguments: AdaptationArguments,
    seed: int,
    accelerator: Accelerator,
) -> tuple[int, bool]:
    """Train without the held-out rows; returns the best number of steps, and whether it beats plain CLIP there."""
    image_features, text_features, labels = data
    kept = np.setdiff1d(np.arange(len(labels)), held_out)
    ours = (image_features[held_out], text_features, labels[held_out])
    settings = {"batch_size": schedule.batch_size, "temperature": arguments.temperature}
    plain_correct = _correct(model, *ours)
    outcome.held_out_loss_plain = mean_loss(model, *ours, **settings)
    adapted = new_adapters(model, peft_config, seed=seed)
    best_step, best_loss, best_correct = 0, float("inf"), plain_correct

    def look(step: int) -> bool:
        nonlocal best_step, best_loss, best_correct
        loss = mean_loss(adapted, *ours, **settings)
        if loss < best_loss:
            best_step, best_loss, best_correct = step, loss, _correct(adapted, *ours)
        return step - best_step < _PATIENCE * schedule.num_steps

    batch_size = min(schedule.batch_size, len(kept))
    trial = replace(schedule, batch_size=batch_size, steps_per_epoch=len(kept) // batch_size)
    train_adapters(
        adapted, image_features[kept], text_features, labels[kept],
        arguments=arguments, schedule=trial, num_steps=schedule.num_steps, seed=seed, accelerator=accelerator,
        after_interval=look, description="Adapting (trial)",
    )  # fmt: skip
    adapted.unload()
    difference = best_correct.astype(np.float64) - plain_correct
    error = float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else float("inf")
    enough = bool(difference.mean() > error)
    outcome.held_out_agreement_plain = float(plain_correct.mean())
    outcome.held_out_agreement_adapted = float(best_correct.mean())
    outcome.held_out_loss_adapted = best_loss
    outcome.standard_error = error if np.isfinite(error) else None
    outcome.reason = (
        f"On {len(held_out)} held-out rows the zero-shot prediction agreed with the given label for "
        f"{plain_correct.mean():.1%} with plain CLIP and {best_correct.mean():.1%} with adapters "
        f"({'more' if enough else 'not more'} than one standard error of the difference, {error:.1%}, better)"
    )
    return best_step, enough


def _correct(
    model: nn.Module, image_features: np.ndarray, text_features: torch.Tensor, labels: np.ndarray
) -> np.ndarray:
    return predicted_labels(*project(model, image_features, text_features)) == labels

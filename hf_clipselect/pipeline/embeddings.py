"""`select_embeddings`: selection from CLIP embeddings that are already computed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ..config.arguments import AdaptationArguments, Arguments, RunArguments, SelectionArguments, with_defaults
from ..config.python_calls import python_door
from ..results.noise_summary import noise_summary
from ..results.selection_result import SelectionResult
from ..runtime.caller_state import own_settings
from ..selection import check_sizes
from .prepare_embeddings import GivenEmbeddings, prepare_embeddings
from .stages import Outcome, run_stages


@python_door()
@own_settings()
def select_embeddings(
    image_embeds: np.ndarray | torch.Tensor,
    text_embeds: np.ndarray | torch.Tensor,
    labels: np.ndarray | torch.Tensor | Sequence[int] | None = None,
    *,
    selection_ratio: float | Literal["auto"] | Sequence[float | Literal["auto"]] | None = None,
    selection_count: int | Sequence[int] | None = None,
    objective: str | None = None,
    adaptation: str = "auto",
    seed: int = 42,
    class_names: Sequence[str] | None = None,
    num_clusters: int | None = None,
    temperature: float | None = None,
    learning_rate: float | None = None,
    num_train_epochs: int | None = None,
    train_batch_size: int | None = None,
    max_train_steps: int | None = None,
    alignment: str | None = None,
    diversity_weight: float | str | None = None,
    normalization: str | None = None,
    class_balance: str | None = None,
    balance_by: str | None = None,
    min_per_class: int | None = None,
    class_quotas: Mapping[str, int] | str | Path | None = None,
    gate: bool | None = None,
    gate_floor: float | None = None,
    spread: bool | None = None,
    herding: bool | None = None,
    redundancy_weight: float | None = None,
    solver: str | None = None,
    ratio_weight: float | None = None,
    theta: float | None = None,
    neighbor_fraction: float = 0.1,
    num_neighbors: int | None = None,
    groups: Sequence[str] | np.ndarray | None = None,
    must_keep: Sequence[int] | np.ndarray | None = None,
    must_drop: Sequence[int] | np.ndarray | None = None,
    num_folds: int = 0,
    strict: bool = False,
) -> SelectionResult:
    """Select rows from ready CLIP embeddings; no model is loaded.

    Args:
        image_embeds (`np.ndarray` or `torch.Tensor` of shape `(num_rows, embed_dim)`): Normalised here, in float32.
        text_embeds (`np.ndarray` or `torch.Tensor` of shape `(num_classes, embed_dim)`):
            One prompt embedding per class, normalised here; the row of a class without images is not read. Without
            labels, of shape `(num_rows, embed_dim)`: the caption of each image.
        labels (`np.ndarray`, `torch.Tensor` or `Sequence[int]` of length `num_rows`, *optional*):
            Given labels in `[0, num_classes)`; None for image-text pairs, for which clusters of images stand in for
            classes.
        adaptation (`str`, *optional*, defaults to `"auto"`):
            `"auto"` or `"always"` train MLP adapters on the embeddings, `"off"` takes these as they are.
        class_names (`Sequence[str]`, *optional*): Names for the scores table; default the class numbers.
        num_clusters (`int`, *optional*): For image-text pairs; default one cluster for about 250 rows.
        groups (`Sequence[str]` of length `num_rows`, *optional*): A category for each row, which quotas may be for.
        must_keep, must_drop (`Sequence[int]`, *optional*): Row numbers that every subset holds, or none.
        selection_ratio, selection_count, objective, seed, strict: As in [`select_dataset`].
        temperature, learning_rate, num_train_epochs, train_batch_size: As in [`select_dataset`].
        max_train_steps, num_folds: As in [`select_dataset`].
        alignment, diversity_weight, normalization, redundancy_weight, solver: As in [`select_dataset`].
        ratio_weight, theta, class_balance, balance_by, min_per_class, class_quotas: As in [`select_dataset`].
        gate, gate_floor, spread, herding, neighbor_fraction, num_neighbors: As in [`select_dataset`].

    Returns:
        `SelectionResult`: As [`select_dataset`] gives; `.selected` are row numbers of the arrays. Unless adaptation
            is off, `.report["adaptation"]` tells whether adapters were kept, and why; with the noise model,
            `.report["noise"]` tells how many labels look wrong, and of which classes.

    Raises:
        InputError: Shapes do not match, a row is not finite or all zero, a label is out of range, or fewer than two
            classes have rows.
    """
    sizes = check_sizes(selection_ratio, selection_count)
    arguments = Arguments(
        adaptation=with_defaults(
            AdaptationArguments,
            adaptation=adaptation,
            temperature=temperature,
            learning_rate=learning_rate,
            num_train_epochs=num_train_epochs,
            train_batch_size=train_batch_size,
            max_train_steps=max_train_steps,
            num_folds=num_folds,
        ),
        selection=with_defaults(
            SelectionArguments,
            objective=objective,
            alignment=alignment,
            diversity_weight=diversity_weight,
            normalization=normalization,
            class_balance=class_balance,
            balance_by=balance_by,
            min_per_class=min_per_class,
            gate=gate,
            gate_floor=gate_floor,
            spread=spread,
            herding=herding,
            redundancy_weight=redundancy_weight,
            solver=solver,
            ratio_weight=ratio_weight,
            theta=theta,
            neighbor_fraction=neighbor_fraction,
            num_neighbors=num_neighbors,
            strict=strict,
        ),
        run=RunArguments(output_dir=None, seed=seed),
    )
    given = GivenEmbeddings(
        image_embeds, text_embeds, labels, class_names, num_clusters, class_quotas, groups, must_keep, must_drop
    )
    prepared = prepare_embeddings(given, arguments, sizes)
    outcome = run_stages(prepared, seconds={})
    return replace(outcome.result, report=_report(outcome, prepared.arguments.adaptation.adaptation))


def _report(outcome: Outcome, adaptation: str) -> dict[str, Any]:
    """What is told of a selection that no images belong to: of adapters, and of wrong labels."""
    report: dict[str, Any] = {}
    if adaptation != "off":
        report["adaptation"] = outcome.adapted.adaptation.to_dict()
    if (noise := outcome.adapted.plain.noise) is not None:
        report["noise"] = noise_summary(outcome.result.scores, noise.share_error)
    return report

"""The second door: selection from CLIP embeddings that are already there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..adapters.decision import adapt
from ..adapters.out_of_fold import out_of_fold_alignment
from ..adapters.projections import IdentityProjections
from ..adapters.text_alignment import align_rows
from ..config.arguments import Arguments
from ..config.python_calls import python_door
from ..data.row_facts import checked_class_quotas, facts_of
from ..data.source import DatasetSource
from ..encoder.feature_rows import FeatureRows
from ..errors import InputError
from ..results.scores_table import score_table
from ..results.selection_result import SelectionResult
from ..results.subsets import check_demands, select_from_table
from ..runtime.caller_state import own_settings
from ..runtime.launch import make_accelerator
from ..runtime.processes import Processes
from ..runtime.words import are, counted
from ..scores.arrays import as_numpy, checked_embeds, on_its_device
from ..scores.captions import draw_references
from ..scores.clusters import check_num_clusters, cluster_names, image_clusters
from ..scores.ensemble import ensemble_alignment
from ..scores.folds import check_num_folds, fold_numbers
from ..scores.sample_scores import cluster_scores, present_classes
from ..scores.trust import check_trust, measure_caption_trust, measure_trust
from ..selection import NUM_NEAREST, Objective, check_sizes, resolve_objective
from .preparation import check_knobs_for_captions
from .row_scores import score_rows


@python_door()
@own_settings()
def select_embeddings(
    image_embeds: np.ndarray | torch.Tensor,
    text_embeds: np.ndarray | torch.Tensor,
    labels: np.ndarray | torch.Tensor | Sequence[int] | None = None,
    *,
    selection_ratio: float | Sequence[float] | None = None,
    selection_count: int | Sequence[int] | None = None,
    objective: str | None = None,
    adaptation: str = "off",
    seed: int = 42,
    class_names: Sequence[str] | None = None,
    num_clusters: int | None = None,
    temperature: float | None = None,
    learning_rate: float | None = None,
    num_train_epochs: int | None = None,
    train_batch_size: int | None = None,
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
    redundancy_weight: float | None = None,
    solver: str | None = None,
    ratio_weight: float | None = None,
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
        adaptation (`str`, *optional*, defaults to `"off"`): `"auto"` or `"always"` train MLP adapters on the
            embeddings.
        class_names (`Sequence[str]`, *optional*): Names for the scores table; default the class numbers.
        num_clusters (`int`, *optional*): For image-text pairs; default one cluster for about 250 rows.
        groups (`Sequence[str]` of length `num_rows`, *optional*): A category for each row, which quotas may be for.
        must_keep, must_drop (`Sequence[int]`, *optional*): Row numbers that every subset holds, or none.
        selection_ratio, selection_count, objective, seed, temperature, learning_rate, num_train_epochs,
        train_batch_size, alignment, diversity_weight, normalization, class_balance, balance_by, min_per_class,
        class_quotas, gate, gate_floor, spread, redundancy_weight, solver, ratio_weight, neighbor_fraction,
        num_neighbors, num_folds, strict:
            As in [`select_dataset`].

    Returns:
        `SelectionResult`: As [`select_dataset`] gives; `.selected` are row numbers of the arrays, and unless
            adaptation is off, `.report["adaptation"]` tells what became of the adapters.

    Raises:
        InputError: Shapes do not match, a row is not finite or all zero, a label is out of range, or fewer than two
        classes
            have rows.
    """
    values = dict(locals())
    sizes = check_sizes(selection_ratio, selection_count)
    # Those are checked where they count.
    elsewhere = "selection_ratio selection_count must_keep must_drop num_clusters".split()
    arguments = Arguments.from_dict({name: value for name, value in values.items() if name not in elsewhere})
    knobs = {**arguments.selection.knobs(), "class_quotas": checked_class_quotas(class_quotas)}
    resolved = resolve_objective(objective, knobs)
    pairs = _check_pairs(image_embeds, text_embeds, labels, class_names, num_clusters, resolved)
    if num_folds:
        check_num_folds(num_folds, len(pairs.labels))
    facts = facts_of(len(pairs.labels), groups=groups, must_keep=must_keep, must_drop=must_drop)
    classes, compact = present_classes(pairs.labels)
    check_demands(*pairs.cells_before, facts, resolved, sizes)
    # Adapters are made for inputs of norm 1: what they learn must not depend on the scale that came in.
    image_embeds = _unit_rows(pairs.image_embeds, "image_embeds", lambda row: f"row {row}")
    text_embeds = _unit_rows(pairs.text_embeds[classes], "text_embeds", lambda row: pairs.describe_text(classes[row]))
    features = (FeatureRows([image_embeds]), torch.from_numpy(text_embeds)[None])
    ensemble = (
        ensemble_alignment(image_embeds, text_embeds, compact, seed=seed) if resolved.alignment == "ensemble" else None
    )
    clusters = references = None
    if labels is None:
        clusters = image_clusters(image_embeds.__getitem__, len(compact), num_clusters=num_clusters, seed=seed)
        references = draw_references(len(classes), seed=seed)
    model, report, processes, kept = IdentityProjections(image_embeds.shape[1]), {}, Processes(), False
    plain, _, _ = align_rows(model, *features, compact, references=references)
    if adaptation != "off":
        accelerator = make_accelerator()  # use_cpu=True fails where an earlier run of this process took the GPU
        model, outcome = adapt(
            model.to(accelerator.device),
            *features,
            compact,
            arguments=arguments.adaptation,
            seed=seed,
            accelerator=accelerator,
            references=references,
        )
        report, processes, kept = {"adaptation": outcome.to_dict()}, Processes(accelerator), outcome.kept
    scores, graph = score_rows(
        model,
        *features,
        compact,
        classes,
        neighbor_fraction=neighbor_fraction,
        num_neighbors=num_neighbors,
        processes=processes,
        num_nearest=NUM_NEAREST if resolved.redundancy_weight else 0,
        clusters=clusters,
        references=references,
    )
    scores = replace(scores, ensemble=processes.broadcast(ensemble))
    if num_folds and kept:
        predicted, sas, margin = out_of_fold_alignment(
            model.unload(),
            *features,
            compact,
            fold_numbers(compact, num_folds, seed=seed),
            num_steps=outcome.num_steps,
            arguments=arguments.adaptation,
            seed=seed,
            accelerator=accelerator,
            references=references,
        )
        scores = replace(scores, predicted_label=classes[predicted], sas=sas, margin=margin)
    adapted = np.searchsorted(classes, scores.predicted_label) if kept else None
    cells, names = pairs.labels, pairs.class_names
    if clusters is None:
        trust = measure_trust(compact, plain, adapted, text_embeds, [names[label] for label in classes])
    else:
        agrees = None if adapted is None else adapted == compact
        trust = measure_caption_trust(plain == compact, agrees, num_references=len(references))
        scores = cluster_scores(scores, pairs.labels, clusters)
        cells, names = clusters, cluster_names(clusters)
    check_trust(trust, strict=strict)
    table = score_table(cells, names, np.arange(len(cells)), scores, facts)
    return SelectionResult(
        scores=select_from_table(table, resolved, sizes, graph=graph, processes=processes),
        ratios=sizes,
        objective=resolved,
        source=DatasetSource("", None, None, None, fingerprint="", num_rows=len(cells), license=None),
        seed=seed,
        report=report,
    )


@dataclass(frozen=True)
class _Pairs:
    """What was given, checked: labels are numbers of rows of `text_embeds`."""

    image_embeds: np.ndarray  # (N, D)
    text_embeds: np.ndarray  # (C, D); (N, D) for captions
    labels: np.ndarray  # (N,), int64
    class_names: list[str] | None  # None for captions

    def describe_text(self, number: int) -> str:
        return f"row {number}" if self.class_names is None else f"class {number} ({self.class_names[number]})"

    @property
    def cells_before(self) -> tuple[np.ndarray, list[str]]:
        """What quotas are for, as far as it is known before there are clusters."""
        if self.class_names is None:
            return np.zeros_like(self.labels), ["all"]
        return self.labels, self.class_names


def _check_pairs(
    image_embeds: np.ndarray | torch.Tensor,
    text_embeds: np.ndarray | torch.Tensor,
    labels: np.ndarray | torch.Tensor | Sequence[int] | None,
    class_names: Sequence[str] | None,
    num_clusters: int | None,
    objective: Objective,
) -> _Pairs:
    if labels is not None:
        if num_clusters is not None:
            raise InputError(
                f"num_clusters {num_clusters} is for image-text pairs, which have no labels; leave it out."
            )
        image_embeds, text_embeds, labels = _as_arrays(image_embeds, text_embeds, labels)
        names = [str(label) for label in range(len(text_embeds))] if class_names is None else list(class_names)
        if len(set(names)) != len(text_embeds):
            raise InputError(
                f"class_names has {counted(len(set(names)), 'different name')}, text_embeds has "
                f"{counted(len(text_embeds), 'row')}; give each row a name of its own."
            )
        return _Pairs(image_embeds, text_embeds, labels, names)
    if class_names is not None:
        raise InputError("class_names are for labels, and there are none; leave them out, or pass labels.")
    image_embeds, text_embeds = _numbers(image_embeds, "image_embeds"), _numbers(text_embeds, "text_embeds")
    if len(image_embeds) != len(text_embeds):
        raise InputError(
            f"Without labels text_embeds needs one row per image, got {len(text_embeds)} for {len(image_embeds)}; "
            "pass the caption of each image, or labels."
        )
    image_embeds, text_embeds, labels = _as_arrays(image_embeds, text_embeds, np.arange(len(image_embeds)))
    check_knobs_for_captions(objective)
    check_num_clusters(num_clusters, len(labels))
    return _Pairs(image_embeds, text_embeds, labels, None)


def _numbers(embeds: np.ndarray | torch.Tensor, name: str) -> np.ndarray:
    return as_numpy(checked_embeds(embeds, name)).astype(np.float32, copy=False)


def _as_arrays(
    image_embeds: np.ndarray | torch.Tensor, text_embeds: np.ndarray | torch.Tensor, labels: np.ndarray | torch.Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image_embeds, text_embeds = _numbers(image_embeds, "image_embeds"), _numbers(text_embeds, "text_embeds")
    labels = as_numpy(on_its_device(labels, "labels"))
    shapes = image_embeds.shape, text_embeds.shape, labels.shape
    if image_embeds.ndim != 2 or text_embeds.ndim != 2 or image_embeds.shape[1] != text_embeds.shape[1]:
        raise InputError(
            f"Expected image_embeds (num_rows, embed_dim) and text_embeds (num_classes, embed_dim), got {shapes[0]} "
            f"and {shapes[1]}."
        )
    if labels.shape != (len(image_embeds),) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"Expected {len(image_embeds)} integer labels, one per row of image_embeds, got {labels.dtype} of shape "
            f"{shapes[2]}."
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(text_embeds):
        raise InputError(
            f"Labels must lie in [0, {len(text_embeds)}), the rows of text_embeds; got {labels.min()} to "
            f"{labels.max()}."
        )
    return image_embeds, text_embeds, labels.astype(np.int64)


def _unit_rows(embeds: np.ndarray, name: str, describe: Callable[[int], str]) -> np.ndarray:
    norms = np.sqrt(np.einsum("nd,nd->n", embeds, embeds, dtype=np.float64))  # neither overflows nor underflows
    bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    if len(bad):
        problem = "all zero" if norms[bad[0]] == 0 else "not finite"
        raise InputError(
            f"{name} has {counted(len(bad), 'row')} that {are(len(bad))} not finite or all zero, first "
            f"{describe(bad[0])}, which is {problem}; remove these rows, or embed them again."
        )
    return embeds / norms.astype(np.float32)[:, None]

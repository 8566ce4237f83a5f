"""Prepares a run on embeddings: arrays and settings are checked, embeddings normalised."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..adapters.projections import IdentityProjections
from ..config.arguments import Arguments
from ..data.row_facts import checked_class_quotas, facts_of
from ..data.source import DatasetSource
from ..errors import InputError
from ..runtime.launch import make_accelerator
from ..runtime.words import are, counted
from ..scores.arrays import as_numpy, checked_embeds, on_its_device
from ..scores.sample_scores import present_classes
from ..selection import Size, resolve_objective
from .prepared import EmbeddingInputs, GivenRows, Prepared, check_row_demands


@dataclass(frozen=True)
class GivenEmbeddings:
    """What a caller passes, as `select_embeddings` takes it."""

    image_embeds: np.ndarray | torch.Tensor
    text_embeds: np.ndarray | torch.Tensor
    labels: np.ndarray | torch.Tensor | Sequence[int] | None
    class_names: Sequence[str] | None
    num_clusters: int | None
    class_quotas: Mapping[str, int] | str | Path | None
    groups: Sequence[str] | np.ndarray | None
    must_keep: Sequence[int] | np.ndarray | None
    must_drop: Sequence[int] | np.ndarray | None


def prepare_embeddings(
    given: GivenEmbeddings, arguments: Arguments, sizes: tuple[Size, ...]
) -> Prepared[EmbeddingInputs]:
    """Check arrays and settings, and normalise the embeddings.

    Of `arguments` only adaptation, knobs and seed count. Raises `InputError` as `select_embeddings`.
    """
    knobs = {**arguments.selection.knobs(), "class_quotas": checked_class_quotas(given.class_quotas)}
    objective = resolve_objective(arguments.selection.objective, knobs, has_captions=given.labels is None)
    image_embeds, text_embeds, labels = _checked_arrays(given)
    rows = GivenRows(
        labels=labels,
        class_names=[] if given.labels is None else _class_names(given, len(text_embeds)),
        has_captions=given.labels is None,
        source_index=np.arange(len(labels)),
        source=DatasetSource("", None, None, None, fingerprint="", num_rows=len(labels), license=None),
        facts=facts_of(len(labels), groups=given.groups, must_keep=given.must_keep, must_drop=given.must_drop),
        num_clusters=given.num_clusters,
    )
    present, _ = present_classes(labels)
    check_row_demands(rows, objective, sizes, num_folds=arguments.adaptation.num_folds)
    # Adapters are made for inputs of norm 1: what they learn must not depend on the scale that came in.
    image_embeds = _unit_rows(image_embeds, "image_embeds", lambda row: f"row {row}")
    unit_texts = np.zeros_like(text_embeds)  # those of classes without rows are not read
    unit_texts[present] = _unit_rows(
        text_embeds[present],
        "text_embeds",
        lambda row: f"row {row}" if rows.has_captions else f"class {present[row]} ({rows.class_names[present[row]]})",
    )
    model, accelerator = IdentityProjections(image_embeds.shape[1]), None
    if arguments.adaptation.adaptation != "off":
        accelerator = make_accelerator()  # use_cpu=True fails where an earlier run of this process took the GPU
        model = model.to(accelerator.device)
    return Prepared(
        inputs=EmbeddingInputs(image_embeds, unit_texts, model, accelerator),
        rows=rows,
        arguments=arguments,
        objective=objective,
        sizes=sizes,
    )


def _class_names(given: GivenEmbeddings, num_texts: int) -> list[str]:
    if given.class_names is None:
        return [str(label) for label in range(num_texts)]
    names = list(given.class_names)
    if len(set(names)) != num_texts:
        raise InputError(
            f"class_names has {counted(len(set(names)), 'different name')}, text_embeds has "
            f"{counted(num_texts, 'row')}; give each row a name of its own."
        )
    return names


def _checked_arrays(given: GivenEmbeddings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings of images and texts, float32, and labels, int64; without labels a text of its own for each image."""
    if given.labels is not None and given.num_clusters is not None:
        raise InputError(
            f"num_clusters {given.num_clusters} is for image-text pairs, which have no labels; leave it out."
        )
    if given.labels is None and given.class_names is not None:
        raise InputError("class_names are for labels, and there are none; leave them out, or pass labels.")
    image_embeds, text_embeds = (
        as_numpy(checked_embeds(embeds, name)).astype(np.float32, copy=False)
        for embeds, name in ((given.image_embeds, "image_embeds"), (given.text_embeds, "text_embeds"))
    )
    if given.labels is None and len(image_embeds) != len(text_embeds):
        raise InputError(
            f"Without labels text_embeds needs one row per image, got {len(text_embeds)} for {len(image_embeds)}; "
            "pass the caption of each image, or labels."
        )
    labels = np.arange(len(image_embeds)) if given.labels is None else as_numpy(on_its_device(given.labels, "labels"))
    if image_embeds.shape[1] != text_embeds.shape[1]:
        raise InputError(
            "Expected image_embeds (num_rows, embed_dim) and text_embeds (num_classes, embed_dim), got "
            f"{image_embeds.shape} and {text_embeds.shape}."
        )
    if labels.shape != (len(image_embeds),) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"Expected {len(image_embeds)} integer labels, one per row of image_embeds, got {labels.dtype} of shape "
            f"{labels.shape}."
        )
    if not 0 <= labels.min() <= labels.max() < len(text_embeds):
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

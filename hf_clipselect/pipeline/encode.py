"""The first stage: rows that can be read, as features, with what each is aligned with.

Legend: N readable rows, T templates, C classes or captions with rows, H and H' hidden sizes of the towers.
"""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..adapters.projections import IdentityProjections, Projections, embed_rows
from ..encoder.feature_rows import FeatureRows
from ..encoder.features import encode_dataset
from ..encoder.texts import encode_texts
from ..encoder.tokens import Tokens, tokenize
from ..runtime.words import are, counted
from ..scores.arrays import as_numpy
from ..scores.captions import draw_references
from ..scores.clusters import image_clusters
from ..scores.sample_scores import present_classes
from ..scores.targets import Captions, Classes, Targets
from .prepared import AnyPrepared, GivenRows, ImageInputs


logger = logging.getLogger(__name__)

# Signs of a long text that a message shows.
_SHOWN = 60


@dataclass(frozen=True)
class Features:
    """What the two towers make of the rows, `(N, H)`, and of the texts, `(T, C, H')`, before their heads.

    `key` is the hash of what decided the features of the images; empty where nothing keeps them.
    """

    images: FeatureRows
    texts: torch.Tensor
    key: str = ""

    @property
    def both(self) -> tuple[FeatureRows, torch.Tensor]:
        return self.images, self.texts

    def plain_embeds(self, model: nn.Module, rows: np.ndarray) -> np.ndarray:
        """Unit-norm embeddings `(count, D)` of some rows by plain CLIP; those that were passed stay as they are."""
        if isinstance(model, IdentityProjections):
            return self.images.take(rows)
        return as_numpy(embed_rows(Projections(model), self.images, rows))


@dataclass(frozen=True)
class EncodedRows:
    """The readable rows, with their features and those of the texts that have rows.

    `numbers` `(N,)`, rising, are their places among the rows considered. `unreadable` are the others, each
    source_index with the reason.
    """

    numbers: np.ndarray
    targets: Targets
    features: Features
    unreadable: dict[int, str]


def encode(prepared: AnyPrepared) -> EncodedRows:
    """Features of all rows and texts: through the frozen towers, from the run's folder, or embeddings as they are.

    Raises `InputError` where an image can't be read and `--on_bad_image` is error, or fewer than two classes can be.
    """
    inputs, given = prepared.inputs, prepared.rows
    if isinstance(inputs, ImageInputs):
        features, unreadable = _through_towers(prepared, inputs)
    else:
        texts = torch.from_numpy(inputs.text_embeds)[None]
        features, unreadable = Features(FeatureRows([inputs.image_embeds]), texts), {}
    numbers = np.setdiff1d(np.arange(len(given.labels)), list(unreadable))
    numbers_of_texts, labels = present_classes(given.labels[numbers])
    images = features.images.subset(numbers) if unreadable else features.images
    features = Features(images, features.texts[:, numbers_of_texts], features.key)
    if given.has_captions:
        targets: Targets = _captions(prepared, features, labels)
    else:
        targets = Classes(labels, numbers_of_texts, given.class_names)
    reasons = {int(given.source_index[row]): reason for row, reason in sorted(unreadable.items())}
    return EncodedRows(numbers, targets, features, reasons)


def _through_towers(prepared: AnyPrepared, inputs: ImageInputs) -> tuple[Features, dict[int, str]]:
    arguments, folder = prepared.arguments, inputs.folder.features
    tokens = tokenize(inputs.backbone, inputs.prompts)
    _warn_about_long_texts(prepared.rows, tokens)
    if inputs.read is not None:
        encoded = inputs.read.encoded.features
    else:
        encoded = encode_dataset(
            inputs.images,
            inputs.backbone,
            folder,
            accelerator=inputs.accelerator,
            batch_size=inputs.batch_size,
            num_workers=arguments.model.dataloader_num_workers,
            on_bad_image=arguments.data.on_bad_image,
            overwrite=arguments.run.overwrite_output_dir,
        )
    texts = encode_texts(inputs.backbone, tokens, folder, processes=prepared.processes)
    _tell_of_unreadable(encoded.unreadable, prepared.rows)
    return Features(encoded.features, texts, encoded.key), encoded.unreadable


def _warn_about_long_texts(rows: GivenRows, tokens: Tokens) -> None:
    """Tell of prompts or captions whose ends the model will not read."""
    cut = np.unique(tokens.too_long % len(rows.class_names))
    if not len(cut):
        return
    if rows.has_captions:
        numbers = np.flatnonzero(np.isin(rows.labels, cut))
        logger.warning(
            "%d of %d captions are longer than the %d tokens that the model reads, and are cut there; the first "
            "is that of source_index %d. What stands at the end of such a caption does not count.",
            len(numbers),
            len(rows.labels),
            tokens.limit,
            rows.source_index[numbers[0]],
        )
        # Not in the warning: the report keeps that, and may be published without the captions.
        logger.info("It begins with %r.", rows.class_names[rows.labels[numbers[0]]][:_SHOWN])
    else:
        logger.warning(
            "The prompts of %d of %d classes are longer than the %d tokens that the model reads, and are cut there; "
            "the name of the first begins with %r. Give such classes shorter names with --class_names_file.",
            len(cut),
            len(rows.class_names),
            tokens.limit,
            rows.class_names[cut[0]][:_SHOWN],
        )


def _tell_of_unreadable(unreadable: dict[int, str], rows: GivenRows) -> None:
    if not unreadable:
        return
    logger.warning(
        "%d of %s could not be read and %s no part.",
        len(unreadable),
        counted(len(rows.labels), "image"),
        "takes" if len(unreadable) == 1 else "take",
    )
    logger.info("dropped.parquet names them with the reason.")
    must_keep = rows.facts.must_keep
    if must_keep is not None and (lost := must_keep[list(unreadable)].sum()):
        logger.warning(
            "%s of --must_keep %s among the images that could not be read, and %s not kept.",
            counted(lost, "row"),
            are(lost),
            are(lost),
        )


def _captions(prepared: AnyPrepared, features: Features, labels: np.ndarray) -> Captions:
    """Clusters of the images stand in for classes, by plain CLIP: adapters are trained on the captions."""
    clusters = None
    if prepared.processes.index == 0:
        clusters = image_clusters(
            lambda some: features.plain_embeds(prepared.inputs.model, some),
            len(labels),
            num_clusters=prepared.rows.num_clusters,
            seed=prepared.seed,
        )
    references = draw_references(features.texts.shape[1], seed=prepared.seed)
    return Captions(labels, references, prepared.processes.broadcast(clusters))

"""Scores of the rows of a shard by a reference, through the same encoder, adapters and scores as on one machine.

Legend: n readable rows of a shard, H size of the image features, C captions that differ, R texts of the reference.
"""

import copy
from collections.abc import Collection, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from math import ceil

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from ..adapters.adapter_files import AdapterFiles
from ..adapters.peft_folder import load_into
from ..adapters.projections import Projections, embed_prompts, embed_rows
from ..encoder.backbone import Backbone, load_backbone
from ..encoder.batch_features import batch_features
from ..encoder.cache import digest
from ..encoder.decoding import decoded_batches
from ..encoder.feature_rows import FeatureRows
from ..encoder.lean_pixels import LeanPixels
from ..encoder.pixels import PixelBatch, SentImages
from ..encoder.texts import text_features
from ..errors import InputError
from ..runtime.words import in_one_line
from ..scores.alignment import unit_alignment
from ..scores.arrays import as_numpy
from ..scores.captions import caption_alignment
from ..scores.clusters import nearest_centroids
from ..scores.diversity import reference_diversity
from .scale_reference import Reference
from .score_files import EMBEDDING, LABEL_ERROR, ShardScores
from .shard_labels import class_of_label
from .shards import ShardRows, UnreadableShardError, is_unicode, text_of


# Rows that are compared with texts at once, as on one machine: the last digits may depend on it.
_CHUNK_ROWS = 4096


@dataclass(frozen=True)
class CheckedShard:
    """A shard in memory, with the captions or the numbers of the classes of its rows; None for a row that has none."""

    rows: ShardRows
    texts: list[str | int | None]


class ShardScorer:
    """The model and the adapters of a reference on a device, and what scores shards with them.

    `num_workers` processes decode images; on a CPU `threads` passes run side by side. Raises `InputError` where the
    model or the adapters can't be loaded, or the model is not the reference's.
    """

    def __init__(
        self, reference: Reference, adapter: AdapterFiles | None, *, device: str, num_workers: int, threads: int
    ) -> None:
        self._reference, self._num_workers, self._threads = reference, num_workers, threads
        self._backbone = backbone = _load_model(reference, device)
        self._plain = self._adapted = Projections(backbone.model)
        if adapter is not None:
            # On a copy, whose towers go again: the features of some models are taken behind the heads.
            self._adapted = Projections(load_into(copy.deepcopy(backbone.model), adapter).to(device))
        self._lean = LeanPixels.of(backbone.image_processor) if reference.model.is_lean else None
        self._texts, self._embeds = (
            torch.from_numpy(array).to(device) for array in (reference.text_embeds, reference.embeds)
        )
        self._number_of_text = {text: number for number, text in enumerate(reference.texts)}
        self._text_of_class = {number: place for place, number in enumerate(reference.class_numbers)}
        starts = np.searchsorted(reference.clusters, np.arange(len(reference.num_nearest) + 1))
        self._references_of = [slice(*bounds) for bounds in zip(starts, starts[1:], strict=False)]

    def check(self, rows: ShardRows) -> CheckedShard:
        """Raises `UnreadableShardError` for a label that is no class of the sample, or a caption that is no text."""
        return CheckedShard(rows, [self._checked_text(text) for text in rows.texts])

    def decode(self, shards: Iterable[CheckedShard]) -> Generator[PixelBatch, None, None]:
        """Batches of the images of shards, one shard after the other, for [`score`]; decoded ahead, by processes that
        stay from shard to shard.
        """
        pixels = SentImages(self._backbone.image_processor, white=self._reference.model.white, lean=self._lean)
        batches = chain.from_iterable(map(self._batches, shards))
        on_gpu = self._backbone.model.device.type == "cuda"
        return decoded_batches(pixels, batches, num_workers=self._num_workers, pin_memory=on_gpu)

    def _batches(self, shard: CheckedShard) -> list[list[tuple[int, bytes | None]]]:
        """Fixed slices of a shard, so that one that is scored again has the same scores."""
        images, size = list(enumerate(shard.rows.images)), self._reference.model.batch_size
        return [images[start : start + size] for start in range(0, len(images), size)]

    def score(self, shard: CheckedShard, decoded: Iterator[PixelBatch], *, columns: Collection[str]) -> ShardScores:
        """Scores of the rows that have an image that can be read, and a text; takes their batches from `decoded`.

        `columns` may name `EMBEDDING` and, where the reference judges labels, `LABEL_ERROR`.
        """
        batches = islice(decoded, ceil(len(shard.rows.images) / self._reference.model.batch_size))
        features, unreadable = batch_features(self._backbone, batches, lean=self._lean, threads=self._threads)
        readable = np.setdiff1d(np.arange(len(shard.texts)), list(unreadable))
        has_text = np.array([shard.texts[row] is not None for row in readable], dtype=bool)
        kept = readable[has_text]
        uids = [shard.rows.uids[row] for row in kept]
        reasons = dict.fromkeys(readable[~has_text].tolist(), "it has no text that can be read") | unreadable
        example = f"row {min(reasons)}: {in_one_line(reasons[min(reasons)], 200)}" if reasons else None
        if not len(kept):
            nothing, none = np.empty((0, self._backbone.embed_dim), np.float32), np.empty(0, np.float32)
            further = nothing if EMBEDDING in columns else None, none if LABEL_ERROR in columns else None
            return ShardScores(uids, kept, kept, none, none, none, *further, example)
        of_rows, every = FeatureRows([features[has_text]]), np.arange(len(kept))
        with threadpool_limits(1):  # how many threads there are would decide last digits
            plain = embed_rows(self._plain, of_rows, every)
            embeds = plain if self._adapted is self._plain else embed_rows(self._adapted, of_rows, every)
            texts = [shard.texts[row] for row in kept]
            if self._reference.has_captions:
                clusters = nearest_centroids(as_numpy(plain), self._reference.centroids)
                sas, margin = self._align_captions(embeds, texts)
            else:
                clusters = np.array(texts)
                sas, margin = self._align_classes(embeds, clusters)
            sds = self._diversity(embeds, clusters)
            label_error = self._label_error(as_numpy(plain), clusters) if LABEL_ERROR in columns else None
        kept_embeds = as_numpy(embeds) if EMBEDDING in columns else None
        return ShardScores(uids, kept, clusters, sas, margin, sds, kept_embeds, label_error, example)

    def _checked_text(self, text: object) -> str | int | None:
        """A caption, or the number of a class; None where there is none, a blank one, or one that is no text, such as
        bytes that are no UTF-8 and the half of a sign that JSON may hold.
        """
        reference = self._reference
        if isinstance(text, bytes):
            text = text_of(text)
        if text is None or text != text or (isinstance(text, str) and not text.strip()):  # NaN is not itself
            return None
        if reference.has_captions:
            if not isinstance(text, str):
                raise UnreadableShardError(
                    f"the caption {in_one_line(text, 80)!r} is of type {type(text).__name__}, and not a text. Write "
                    "texts into the shards, or name another column when you run prepare."
                )
            return text if is_unicode(text) else None
        number = class_of_label(text, reference.class_of_label, are_numbers=reference.labels_are_numbers)
        if number is None or number not in self._text_of_class:
            raise UnreadableShardError(
                f"the label {in_one_line(text, 80)!r} is no class that the sample has rows of; make the sample so "
                "large that it has every class."
            )
        return number

    def _align_captions(self, embeds: torch.Tensor, captions: list) -> tuple[np.ndarray, np.ndarray]:
        """SAS and margin, each `(n,)`, float32: against the captions of the reference."""
        different, own = np.unique(np.array(captions, dtype=object), return_inverse=True)
        own_embeds = embed_prompts(self._adapted, text_features(self._backbone, [different.tolist()]))
        # A caption that is one of the reference's own has its number, others have numbers behind those.
        count = len(self._reference.texts)
        numbers = np.array([self._number_of_text.get(text, count + place) for place, text in enumerate(different)])
        parts = []
        for start in range(0, len(own), _CHUNK_ROWS):
            some = own[start : start + _CHUNK_ROWS]
            aligned = caption_alignment(
                embeds[start : start + _CHUNK_ROWS],
                own_embeds[torch.from_numpy(some)],
                numbers[some],
                self._texts,
                np.arange(count),
            )
            parts.append(aligned[1:])
        sas, margin = (np.concatenate(column) for column in zip(*parts, strict=True))
        return sas, margin

    def _align_classes(self, embeds: torch.Tensor, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """SAS and margin, each `(n,)`, float32: against the prompts of the classes."""
        return unit_alignment(embeds, self._texts, self._places_of(classes))[1:]

    def _places_of(self, classes: np.ndarray) -> np.ndarray:
        return np.array([self._text_of_class[number] for number in classes.tolist()])

    def _label_error(self, plain: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """How probably each label is wrong, `(n,)`, float32, by plain CLIP: adapters know the labels of the sample."""
        judge = self._reference.label_judge
        assert judge is not None, "checked before the step"
        return judge.error_probability(plain, self._places_of(classes))

    def _diversity(self, embeds: torch.Tensor, clusters: np.ndarray) -> np.ndarray:
        """SDS `(n,)`, float32: the mean distance to the nearest reference rows of the own cluster."""
        sds = np.empty(len(clusters), dtype=np.float32)
        for cluster in np.unique(clusters).tolist():
            rows = np.flatnonzero(clusters == cluster)
            references = self._embeds[self._references_of[cluster]]
            nearest = int(self._reference.num_nearest[cluster])
            sds[rows] = reference_diversity(embeds[torch.from_numpy(rows)], references, nearest)
        return sds


def _load_model(reference: Reference, device: str) -> Backbone:
    model = reference.model
    backbone = load_backbone(model.name, revision=model.revision or "main", device=device, precision=model.precision)
    backbone = replace(backbone, products=model.products)  # those of the sample, whatever is faster here
    if digest(backbone.identity()) != model.identity:
        raise InputError(
            f"The model {model.name} here is not the one that the reference was made with: its weights, its "
            "preprocessing or the version of transformers are others. Use the same ones on all machines, or run "
            "prepare again."
        )
    return backbone

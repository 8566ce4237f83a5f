"""The input of the stages, which `prepare_dataset` and `prepare_embeddings` both make."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from accelerate import Accelerator
from torch import nn

from ..adapters.adapter_files import AdapterFiles
from ..adapters.decision import PeftConfig
from ..adapters.projections import IdentityProjections
from ..config.arguments import Arguments
from ..data import LabelledImages, SourceImages
from ..data.row_facts import RowFacts
from ..data.source import DatasetSource
from ..encoder.backbone import Backbone
from ..errors import InputError
from ..results.run_folder import RunFolder
from ..results.subsets import check_demands
from ..runtime.processes import Processes
from ..scores.clusters import check_num_clusters
from ..scores.folds import check_num_folds
from ..selection import Objective, Size, check_captions
from .read_stream import ReadStream


@dataclass(frozen=True)
class GivenRows:
    """The N rows considered, and what is said of them.

    `labels` `(N,)`, int64, are the class of each row, or the number of its caption; `class_names` has one per class,
    and may be empty where rows have captions. `source_index` `(N,)`, int64, are row numbers in the source, rising.
    `num_clusters` clusters of images stand in for classes where rows have captions; by default one for about 250 rows.
    """

    labels: np.ndarray
    class_names: list[str]
    has_captions: bool
    source_index: np.ndarray
    source: DatasetSource
    facts: RowFacts
    num_clusters: int | None = None


@dataclass(frozen=True)
class ImageInputs:
    """Images and texts that go through a dual encoder first.

    `prompts` are templates x classes, or one list of the captions. The folder, which is this run's alone, keeps
    features, adapters and results. Without a PEFT config adapters are MLPs; where an adapter was given, none are
    trained. Rows are compared with those of the reference, if there is one. Of a stream, which has been read once, the
    dataset of the images holds the columns that are kept of all rows, and no images.
    """

    images: LabelledImages
    prompts: list[list[str]]
    backbone: Backbone
    accelerator: Accelerator
    folder: RunFolder
    batch_size: int  # images in a pass of the encoder
    peft_config: PeftConfig | None = None
    adapter: AdapterFiles | None = None
    reference: SourceImages | None = None
    read: ReadStream | None = None

    @property
    def model(self) -> nn.Module:
        return self.backbone.model


@dataclass(frozen=True)
class EmbeddingInputs:
    """Embeddings that are at hand, `(N, D)` and `(C, D)`, unit-norm, float32: nothing is encoded.

    There is one text for each class or caption; that of a class without rows is not read. The model stands in for the
    dual encoder; there is no accelerator where adaptation is off.
    """

    image_embeds: np.ndarray
    text_embeds: np.ndarray
    model: IdentityProjections
    accelerator: Accelerator | None = None


Inputs = TypeVar("Inputs", bound=ImageInputs | EmbeddingInputs, covariant=True)


@dataclass(frozen=True)
class Prepared(Generic[Inputs]):
    """All that a selection is made from, checked. The sizes are fractions of rows, or numbers of them."""

    inputs: Inputs
    rows: GivenRows
    arguments: Arguments
    objective: Objective
    sizes: tuple[Size, ...]

    @property
    def processes(self) -> Processes:
        return Processes(self.inputs.accelerator)

    @property
    def seed(self) -> int:
        return self.arguments.run.seed


AnyPrepared = Prepared[ImageInputs | EmbeddingInputs]


def check_row_demands(rows: GivenRows, objective: Objective, sizes: Sequence[Size], *, num_folds: int) -> None:
    """Raise `InputError` for demands that the rows can't meet, and for what has no meaning for captions."""
    if num_folds:
        check_num_folds(num_folds, len(rows.labels))
    if not rows.has_captions:
        check_demands(rows.labels, rows.class_names, rows.facts, objective, sizes)
        return
    check_caption_settings(objective, sizes)
    check_num_clusters(rows.num_clusters, len(rows.labels))
    check_demands(np.zeros_like(rows.labels), ["all"], rows.facts, objective, sizes)  # there are no clusters yet


def check_caption_settings(objective: Objective, sizes: Sequence[Size]) -> None:
    """Raise `InputError` for what has no meaning for captions, whatever rows there are."""
    check_captions(objective, sizes)
    if objective.alignment == "ensemble":
        raise InputError(
            "--alignment ensemble learns what the images of a class have in common, and captions have no classes; "
            "pass margin or cosine."
        )
    if objective.class_quotas and objective.balance_by == "class":
        raise InputError(
            "--class_quotas_file names classes, and captions have none, only clusters that are not known before the "
            "images are encoded; leave it out, or give quotas of groups with --group_column and --balance_by group."
        )

"""What both doors prepare: from here on a run knows no door."""

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from accelerate import Accelerator
from torch import nn

from ..adapters.adapter_files import AdapterFiles
from ..adapters.decision import PeftConfig
from ..adapters.projections import IdentityProjections
from ..config.arguments import Arguments
from ..data import LabelledImages
from ..data.row_facts import RowFacts
from ..data.source import DatasetSource
from ..encoder.backbone import Backbone
from ..results.run_folder import RunFolder
from ..runtime.processes import Processes
from ..selection import Objective, Size


@dataclass(frozen=True)
class GivenRows:
    """The N rows considered, and what is said of them.

    Args:
        labels (`np.ndarray` of shape `(N,)`, int64): Class of each row, or number of its caption.
        class_names (`list[str]`): One name per class; beside captions there need not be any.
        has_captions (`bool`): The labels are captions.
        source_index (`np.ndarray` of shape `(N,)`, int64): Row numbers in the source, rising.
        source ([`DatasetSource`]): Where the rows came from.
        facts ([`RowFacts`]): What the user says of them.
        num_clusters (`int`, *optional*): Clusters of images that stand in for classes beside captions; by default one
            for about 250 rows.
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

    Args:
        images ([`LabelledImages`]): The rows, and the columns that hold them.
        prompts (`list[list[str]]`): Templates x classes; or one list of the captions.
        backbone ([`Backbone`]): The frozen dual encoder.
        accelerator (`Accelerator`): Runs encoding and training.
        folder ([`RunFolder`]): Where features, adapters and results are kept; this run's alone.
        peft_config (`PeftConfig`, *optional*): Method of the adapters; by default the MLP adapters.
        adapter ([`AdapterFiles`], *optional*): Adapters that were given, so that none are trained.
    """

    images: LabelledImages
    prompts: list[list[str]]
    backbone: Backbone
    accelerator: Accelerator
    folder: RunFolder
    peft_config: PeftConfig | None = None
    adapter: AdapterFiles | None = None

    @property
    def model(self) -> nn.Module:
        return self.backbone.model


@dataclass(frozen=True)
class EmbeddingInputs:
    """Embeddings that are at hand: nothing is encoded.

    Args:
        image_embeds (`np.ndarray` of shape `(N, D)`): Unit-norm, float32.
        text_embeds (`np.ndarray` of shape `(C, D)`): One row for each class or caption, unit-norm, float32; that of a
            class without rows is not read.
        model ([`IdentityProjections`]): Stands in for the dual encoder.
        accelerator (`Accelerator`, *optional*): Runs the training; none where adaptation is off.
    """

    image_embeds: np.ndarray
    text_embeds: np.ndarray
    model: IdentityProjections
    accelerator: Accelerator | None = None


Inputs = TypeVar("Inputs", bound=ImageInputs | EmbeddingInputs, covariant=True)


@dataclass(frozen=True)
class Prepared(Generic[Inputs]):
    """All that a selection is made from, checked.

    Args:
        inputs ([`ImageInputs`] or [`EmbeddingInputs`]): What is encoded, or was.
        rows ([`GivenRows`]): The rows.
        arguments ([`Arguments`]): All settings.
        objective ([`Objective`]): Its knobs, resolved.
        sizes (`tuple[float | int, ...]`): Fractions of the rows to keep, or their numbers.
    """

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

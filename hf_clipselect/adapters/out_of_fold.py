"""Scores by adapters that never saw the label that they judge: for each fold, they are trained on the other folds.

Legend: N rows, T templates, C classes, H and H' hidden sizes of the towers.
"""

from itertools import chain

import numpy as np
import torch
from accelerate import Accelerator
from peft import PeftConfig
from torch import nn

from ..config.arguments import AdaptationArguments
from ..encoder.feature_rows import FeatureRows
from ..runtime.processes import Processes
from .mlp import MlpAdapterConfig
from .text_alignment import align_rows
from .training import AdapterTraining


def out_of_fold_alignment(
    model: nn.Module,
    image_features: FeatureRows,
    text_features: torch.Tensor,
    labels: np.ndarray,
    folds: np.ndarray,
    *,
    num_steps: int,
    arguments: AdaptationArguments,
    seed: int,
    accelerator: Accelerator,
    references: np.ndarray | None = None,
    peft_config: PeftConfig | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best text, SAS and margin of every row, as [`align_rows`], by adapters that were trained without its fold.

    Each fold takes a training of `num_steps` steps, as many as the kept adapters had: a number found with all labels.
    The model has no adapters, since those that a run has kept have learnt from every label; it is left as it was.
    `folds` `(N,)` are at least two, as from [`fold_numbers`]. The seed decides batches and initial weights, which are
    the same for all folds. The processes share the folds, and all get all scores. The other arguments and errors are
    those of [`adapt`].
    """
    processes = Processes(accelerator)
    numbers = np.unique(folds)
    training = AdapterTraining(model, len(labels), arguments, seed, accelerator, peft_config or MlpAdapterConfig())
    mine = []
    for place in range(processes.index, len(numbers), processes.count):
        rest, rows = np.flatnonzero(folds != numbers[place]), np.flatnonzero(folds == numbers[place])
        adapted = training.run(
            (image_features.subset(rest), text_features, labels[rest]),
            num_steps=num_steps,
            description=f"Adapting (fold {place + 1} of {len(numbers)})",
        )
        of_fold = align_rows(adapted, image_features.subset(rows), text_features, labels[rows], references=references)
        mine.append((rows, of_fold))
        adapted.unload()
    predicted = np.empty(len(labels), dtype=np.int64)
    sas, margin = np.empty((2, len(labels)), dtype=np.float32)
    for rows, of_fold in chain.from_iterable(processes.gather(mine)):
        predicted[rows], sas[rows], margin[rows] = of_fold
    return predicted, sas, margin

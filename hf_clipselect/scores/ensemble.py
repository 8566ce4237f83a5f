"""Alignment by two judges: CLIP, and a logistic regression that never saw the label it judges.

Shapes: N rows, C classes, D embedding dimension.
"""

import numpy as np

from ..runtime.progress import Told, untold
from .arrays import Array
from .judges import CLIP_LOGIT_SCALE, NUM_FOLDS, Judges


def ensemble_alignment(
    image_embeds: Array,
    text_embeds: Array,
    labels: Array,
    *,
    logit_scale: float = CLIP_LOGIT_SCALE,
    num_folds: int = NUM_FOLDS,
    seed: int = 42,
    told: Told = untold,
) -> np.ndarray:
    """How well each image fits its given class, by CLIP and by what the images of the class have in common.

    The sum of the two log probabilities of the given class that [`Judges`] gives. Not in the paper.

    With 512 dimensions and five folds, 50,000 rows of 10 classes take 5 seconds on two cores of an AMD EPYC
    (scikit-learn's `LogisticRegression` 35, and stops before the optimum), and 100,000 rows of 100 classes 35 seconds.
    Adapters that were trained on the same labels know them: on Food-101 with a fifth of the labels moved to the next
    class, their embeddings lower the AUROC of this score from 99.8 to 97.9. A tensor is scored on its device.

    Takes image embeddings `(N, D)`, one prompt embedding per class `(C, D)` and labels `(N,)`, and raises
    `InputError`, as [`Judges`] does, which calls `told`. Returns scores `(N,)`, float32, finite, at most 0, higher is
    better aligned.
    """
    judges = Judges(
        image_embeds, text_embeds, labels, logit_scale=logit_scale, num_folds=num_folds, seed=seed, told=told
    )
    in_order = np.empty(len(judges.labels))
    for places, by_clip, by_regression in judges.log_probabilities():
        both = by_clip + by_regression
        in_order[places] = both[np.arange(len(both)), judges.labels[places]].cpu().numpy()
    return judges.at_their_rows(in_order)

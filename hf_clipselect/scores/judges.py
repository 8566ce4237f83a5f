"""Two judges of a label: CLIP, and a logistic regression that never saw the label it judges.

Shapes: N rows, C classes, D embedding dimension, F folds, B rows of a block.
"""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch

from ..errors import InputError
from .alignment import Pairs
from .arrays import Array, checked_labels, row_blocks, unit_rows
from .folds import check_num_folds, content_order


# Of 0.3 to 100, 1 and 3 find most wrong labels on CLIP embeddings of unit norm; the weaker the penalty, the more of
# them are learnt by heart. It is scikit-learn's default C, in its sense: the penalty is half the squared weights
# against the sum of losses.
_INVERSE_PENALTY = 1.0
# What the models of OpenAI multiply cosines with.
CLIP_LOGIT_SCALE = 100.0
# On CLIP embeddings of 1,800 images 40 steps come within 0.003 of the log probabilities at the optimum.
_NUM_STEPS = 40
NUM_FOLDS = 5


class Judges:
    """Log probabilities of all classes, by CLIP and by the regression, in blocks of rows.

    CLIP's are the softmax of `logit_scale` times the cosines with the prompts. The regression is multinomial, on the
    unit-norm image embeddings (L2 penalty, C = 1), trained without the row's fold. CLIP sees no label and the
    regression no prompt, so each finds wrong labels that the other misses.

    The embeddings should be those of plain CLIP: adapters that were trained on the same labels know them.

    The regressions of all folds are trained together, by a fixed number of steps, in blocks of 16 MB: no copy of the
    embeddings is made. The cost is 80 * N * D * C * F multiplications. The folds, at most one for each row, are
    stratified and drawn with the seed by what the rows are, not by where they stand: rows in another order get the
    same probabilities, to the last digit.

    Takes image embeddings `(N, D)` and one prompt embedding per class `(C, D)`, normalised here, and labels `(N,)`,
    integers in `[0, C)`. `order` `(N,)` are row numbers in an order that follows from what the rows are, `labels`
    `(N,)` their given classes in that order, and `firsts` the places at which a row differs from the one before.
    Raises `InputError` where shapes don't match, a row is zero or not finite, a label is out of range, `logit_scale`
    is not above 0, `num_folds` is below 2, or there is one row.
    """

    def __init__(
        self,
        image_embeds: Array,
        text_embeds: Array,
        labels: Array,
        *,
        logit_scale: float = CLIP_LOGIT_SCALE,
        num_folds: int = NUM_FOLDS,
        seed: int = 42,
    ) -> None:
        if not 0 < logit_scale < float("inf"):
            raise InputError(f"logit_scale must be a number above 0, got {logit_scale!r}; CLIP's own is 100.")
        self._pairs, self._logit_scale = Pairs(image_embeds, text_embeds), logit_scale
        labels = checked_labels(labels, num_rows=len(self._pairs.images), num_classes=len(self._pairs.texts))
        self._num_folds = min(num_folds, len(labels))
        check_num_folds(self._num_folds, len(labels))
        self.num_classes = len(self._pairs.texts)
        # All sums are taken in an order that the rows' own does not change, and with it not one digit of a score.
        self.order, self.firsts = content_order(self._pairs.images, labels, seed=seed)
        self.labels, self._folds = labels[self.order], np.arange(len(labels)) % self._num_folds

    @torch.inference_mode()
    def log_probabilities(self, step: int = 1) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """Places in the order, and what CLIP and the regression say of these rows, `(B, C)`, float64.

        Only every `step`-th row is judged; the places count these.
        """
        texts, weights, folds = torch.as_tensor(self._pairs.texts), self._weights, self._folds[::step]
        for places, inputs in self._blocks(self.order[::step], width=weights.shape[1]):
            by_clip = self._logit_scale * (inputs[:, :-1] @ texts.T).double()
            by_fold = (inputs @ weights).view(len(inputs), self._num_folds, -1)
            by_regression = by_fold[np.arange(len(inputs)), folds[places]].double()
            yield places, by_clip.log_softmax(dim=1), by_regression.log_softmax(dim=1)

    @cached_property
    @torch.inference_mode()
    def _weights(self) -> torch.Tensor:
        """Weights `(D + 1, F * C)` of the regressions without each fold, the last row those of a constant input of 1.

        Nesterov's accelerated gradient, preconditioned by Boehning's bound on the Hessian, which is the same for all
        classes, folds and steps: CLIP embeddings share a direction that plain gradients are lost in. It needs no
        labels, so nothing leaks by it.
        """
        penalty, num_folds = 1 / _INVERSE_PENALTY, self._num_folds
        num_inputs = self._pairs.images.shape[1] + 1
        squares = torch.as_tensor(self._pairs.texts).new_zeros(num_inputs, num_inputs, dtype=torch.float64)
        for _, inputs in self._blocks(self.order):
            squares += inputs.T.double() @ inputs.double()
        bound = squares / 2 + penalty * torch.eye(len(squares), dtype=squares.dtype, device=squares.device)
        inverse = torch.linalg.inv(bound).float()
        weights = earlier = inverse.new_zeros(len(inverse), num_folds * self.num_classes)
        for step in range(_NUM_STEPS):
            ahead = weights + step / (step + 3) * (weights - earlier)
            gradient = penalty * ahead
            for places, inputs in self._blocks(self.order, width=ahead.shape[1]):
                residuals = (inputs @ ahead).view(len(inputs), num_folds, self.num_classes).softmax(dim=2)
                of_block = np.arange(len(inputs))
                residuals[of_block, :, self.labels[places]] -= 1
                residuals[of_block, self._folds[places]] = 0  # a row teaches all regressions but its own fold's
                gradient.addmm_(inputs.T, residuals.flatten(start_dim=1))
            weights, earlier = ahead - inverse @ gradient, weights
        return weights

    def _blocks(self, rows: np.ndarray, *, width: int = 1) -> Iterator[tuple[slice, torch.Tensor]]:
        """Places among the rows, and unit-norm images with a constant input of 1 behind, `(B, D + 1)`."""
        pairs = self._pairs
        for places in row_blocks(len(rows), width=max(width, pairs.images.shape[1])):
            images = torch.as_tensor(unit_rows(pairs.images, rows[places], pairs.lengths))
            yield places, torch.cat([images, images.new_ones(len(images), 1)], dim=1)

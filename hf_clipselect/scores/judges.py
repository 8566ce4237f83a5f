"""Two judges of a label: CLIP, and a logistic regression that never saw the label it judges.

Shapes: N rows, C classes, D embedding dimension, F folds, B rows of a block.
"""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch

from ..errors import InputError
from ..runtime.progress import Told, untold
from .alignment import Pairs
from .arrays import Array, as_numpy, beside, checked_labels, row_blocks, unit_rows
from .folds import check_num_folds, content_order


# Of 0.3 to 100, 1 and 3 find most wrong labels on CLIP embeddings of unit norm; the weaker the penalty, the more of
# them are learnt by heart. It is scikit-learn's default C, in its sense: the penalty is half the squared weights
# against the sum of losses.
_INVERSE_PENALTY = 1.0
# What the models of OpenAI multiply cosines with.
CLIP_LOGIT_SCALE = 100.0
NUM_FOLDS = 5
# On CLIP embeddings of 1,800 images 40 steps come within 0.003 of the log probabilities at the optimum.
ALL_STEPS = 40


class Judges:
    """Log probabilities of all classes, by CLIP and by the regression, in blocks of rows.

    CLIP's are the softmax of `logit_scale` times the cosines with the prompts. The regression is multinomial, on the
    unit-norm image embeddings (L2 penalty, C = 1), trained without the row's fold. CLIP sees no label and the
    regression no prompt, so each finds wrong labels that the other misses.

    The embeddings should be those of plain CLIP: adapters that were trained on the same labels know them.

    The regressions of all folds are trained by the same number of steps, in blocks of 16 MB: no copy of the embeddings
    is made. A step costs 2 * (F - 1) products of the training rows with a `(D, C)` matrix, the first one none. The
    folds, at most one for each row, are stratified and drawn with the seed by what the rows are, not by where they
    stand: rows in another order get the same probabilities, to the last digit.

    Takes image embeddings `(N, D)` and one prompt embedding per class `(C, D)`, normalised here, and labels `(N,)`,
    integers in `[0, C)`; of the rows of a class at most `max_rows_of_class`, evenly taken, train regressions. Where
    `bound_share` is below 1 steps are longer than the bound on the Hessian allows for any data: a few of these come
    nearer to the optimum. `order` `(N,)` are row numbers in an order that follows from what the rows are, `labels`
    `(N,)` their given classes in that order, and `firsts` the places at which a row differs from the one before.
    `told` is called with the stage and the part of it that is done. Raises `InputError` where shapes don't match, a
    row is zero or not finite, a label is out of range, `logit_scale` is not above 0, `num_folds` is below 2, or there
    is one row.
    """

    def __init__(
        self,
        image_embeds: Array,
        text_embeds: Array,
        labels: Array,
        *,
        logit_scale: float = CLIP_LOGIT_SCALE,
        num_folds: int = NUM_FOLDS,
        num_steps: int = ALL_STEPS,
        bound_share: float = 1.0,
        max_rows_of_class: int | None = None,
        seed: int = 42,
        told: Told = untold,
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
        self._num_steps, self._bound_share, self._told = num_steps, bound_share, told
        # The regressions are trained on these places of the order.
        self._places = _evenly_of_classes(self.labels, max_rows_of_class)

    @torch.inference_mode()
    def log_probabilities(self, step: int = 1) -> Iterator[tuple[np.ndarray, torch.Tensor, torch.Tensor]]:
        """What CLIP and the regression say of every `step`-th row of the order, `(B, C)`, float64, in blocks; before
        both, the places `(B,)` of these rows among them.
        """
        texts, judged = torch.as_tensor(self._pairs.texts), np.arange(0, len(self.order), step)
        for fold in range(self._num_folds):
            weights = self._weights[:, fold]
            for places, inputs in self._blocks(judged[self._folds[judged] == fold], width=self.num_classes):
                by_clip = self._logit_scale * _product(inputs[:, 1:], texts.T).double()
                by_regression = _product(inputs, weights).double()
                yield places // step, by_clip.log_softmax(dim=1), by_regression.log_softmax(dim=1)

    def given(self) -> np.ndarray:
        """The given classes `(N,)`, int64, of the rows as they came."""
        labels = np.empty_like(self.labels)
        labels[self.order] = self.labels
        return labels

    def unit_texts(self) -> np.ndarray:
        """The prompt embeddings `(C, D)`, float32, of unit norm."""
        return as_numpy(self._pairs.texts)

    def mean_weights(self) -> np.ndarray:
        """The mean of the folds' regressions, `(D + 1, C)`, float32: for rows that none of them has seen."""
        return as_numpy(self._weights.mean(dim=1))

    def at_their_rows(self, values: np.ndarray) -> np.ndarray:
        """Values `(N,)` of the rows in the order, as float32 at their rows.

        Equal rows lie in several folds by chance: all of them get their mean.
        """
        counts = np.diff(self.firsts, append=len(self.order))
        at_rows = np.empty(len(self.order), dtype=np.float32)
        at_rows[self.order] = np.repeat(np.add.reduceat(values, self.firsts) / counts, counts)
        return at_rows

    @cached_property
    @torch.inference_mode()
    def _weights(self) -> torch.Tensor:
        """Weights `(D + 1, F, C)` of the regressions without each fold, the first row those of a constant input of 1.

        Nesterov's accelerated gradient, preconditioned by Boehning's bound on the Hessian, which is the same for all
        classes, folds and steps: CLIP embeddings share a direction that plain gradients are lost in. It needs no
        labels, so nothing leaks by it.
        """
        penalty, (squares, gradient) = 1 / _INVERSE_PENALTY, self._at_zero()
        bound = self._bound_share / 2 * squares
        bound += penalty * torch.eye(len(bound), dtype=bound.dtype, device=bound.device)
        inverse = torch.linalg.inv(bound).float()
        weights = earlier = torch.zeros_like(gradient)
        for step in range(self._num_steps):
            ahead = weights + step / (step + 3) * (weights - earlier)
            if step > 0:
                gradient = penalty * ahead + self._gradient(ahead, step)
            weights, earlier = ahead - _product(inverse, gradient.flatten(1)).view(gradient.shape), weights
        return weights

    def _at_zero(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums of squares `(D + 1, D + 1)`, float64, and the gradient `(D + 1, F, C)` where all weights are 0."""
        num_inputs, num_folds = self._pairs.images.shape[1] + 1, self._num_folds
        sums = torch.as_tensor(self._pairs.texts).new_zeros(num_inputs, num_folds, self.num_classes)
        squares = sums.new_zeros(num_inputs, num_inputs, dtype=torch.float64)
        for fold in range(num_folds):
            for places, inputs in self._blocks(self._places[self._folds[self._places] == fold]):
                squares += _product(inputs.T, inputs)
                labels = self.labels[places]
                starts = np.flatnonzero(np.diff(labels, prepend=-1))  # the order is by classes
                for label, rows in zip(labels[starts], inputs.tensor_split(starts[1:].tolist()), strict=True):
                    sums[:, fold, label] += rows.sum(dim=0)
        # Not as all less the own one, which would leave rounding errors of that behind.
        without = torch.stack([sums[:, _others(fold, num_folds)].sum(dim=1) for fold in range(num_folds)], dim=1)
        return squares, without.mean(dim=2, keepdim=True) - without

    def _gradient(self, weights: torch.Tensor, step: int) -> torch.Tensor:
        """Of the losses by the weights `(D + 1, F, C)`: a row counts for all regressions but its own fold's."""
        total, num_folds, done = torch.zeros_like(weights), self._num_folds, 0
        for fold in range(num_folds):
            others = _others(fold, num_folds)
            of_others = weights[:, others].flatten(1)
            for places, inputs in self._blocks(
                self._places[self._folds[self._places] == fold], width=of_others.shape[1]
            ):
                residuals = _product(inputs, of_others).view(len(inputs), num_folds - 1, -1)
                torch.softmax(residuals, dim=2, out=residuals)
                residuals[np.arange(len(inputs)), :, self.labels[places]] -= 1
                total[:, others] += _product(inputs.T, residuals.flatten(1)).view(len(weights), num_folds - 1, -1)
                done += len(inputs)
                self._told("Learning the classes", (step - 1 + done / len(self._places)) / (self._num_steps - 1))
        return total

    def _blocks(self, places: np.ndarray, *, width: int = 1) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Some of the places, and unit-norm images behind a constant input of 1, `(B, D + 1)`; see `row_blocks`."""
        pairs = self._pairs
        rows = beside(pairs.images, self.order[places])
        for block in row_blocks(len(places), width=max(width, pairs.images.shape[1]), of=pairs.images):
            images = torch.as_tensor(unit_rows(pairs.images, rows[block], pairs.lengths))
            inputs = images.new_empty(len(images), images.shape[1] + 1)
            inputs[:, 0], inputs[:, 1:] = 1, images
            yield places[block], inputs


def _others(fold: int, num_folds: int) -> list[int]:
    return [other for other in range(num_folds) if other != fold]


def _evenly_of_classes(labels: np.ndarray, max_rows: int | None) -> np.ndarray:
    """Places of at most so many rows of each class, evenly taken; the labels `(N,)` are rising."""
    if max_rows is None:
        return np.arange(len(labels))
    starts, sizes = np.unique(labels, return_index=True, return_counts=True)[1:]
    taken = np.minimum(sizes, max_rows)
    return np.concatenate(
        [start + np.arange(few) * size // few for start, size, few in zip(starts, sizes, taken, strict=True)]
    )


def _product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """`left @ right`, on the CPU by numpy, which takes half of torch's time there (AMD EPYC)."""
    return torch.from_numpy(left.numpy() @ right.numpy()) if left.device.type == "cpu" else left @ right

"""A noise model that was fitted to some rows and judges the labels of others, each by itself.

Shapes: n rows, C classes, D embedding dimension, U pairs of a class and a given label.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from .arrays import row_blocks
from .label_model import Evidence, LabelModel, Transitions


@dataclass(frozen=True)
class LabelJudge:
    """What [`fit_label_judge`] found in some rows.

    `texts` `(C, D)`, float32, are unit-norm prompt embeddings of plain CLIP, `regression` `(D + 1, C)`, float32, the
    weights of a regression on image embeddings behind a constant input of 1, which says nothing of the classes without
    `has_regression` `(C,)`, bool; `logit_scale` is what CLIP multiplies cosines with.
    """

    texts: np.ndarray
    regression: np.ndarray
    has_regression: np.ndarray
    logit_scale: float
    model: LabelModel

    def error_probability(self, image_embeds: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The probability that each given label is wrong, `(n,)`, float32, in [0, 1].

        Takes unit-norm image embeddings of plain CLIP `(n, D)`, float32, of rows that the model was not fitted to, and
        their labels `(n,)`, integers in `[0, C)`. All classes are candidates: no row's probability depends on others.
        """
        num_classes = len(self.texts)
        wrong = np.empty(len(labels), dtype=np.float32)
        for block in row_blocks(len(labels), width=num_classes):
            images, given = image_embeds[block], labels[block, None]
            by_clip = log_softmax(self.logit_scale * (images @ self.texts.T).astype(float), axis=1)
            by_regression = log_softmax((images @ self.regression[1:] + self.regression[0]).astype(float), axis=1)
            by_regression[~self.has_regression[labels[block]]] = 0
            classes = (given + np.arange(num_classes)) % num_classes
            of_clip, of_regression = (np.take_along_axis(part, classes, axis=1) for part in (by_clip, by_regression))
            posterior = self.model.posterior(Evidence(classes, of_clip, of_regression, np.zeros(classes.shape)))
            wrong[block] = posterior[:, 1:].sum(axis=1).clip(0, 1)
        return wrong

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it, by names that [`LabelJudge.of`] takes."""
        own = {name: getattr(self, name) for name in ("texts", "regression", "has_regression")}
        scale = {"logit_scale": np.array([self.logit_scale])}
        transitions = self.model.transitions
        fitted = {name: getattr(transitions, name) for name in ("share", "even", "codes", "pairs")}
        return {**own, **scale, "parameters": self.model.parameters, **fitted}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> "LabelJudge":
        """What [`LabelJudge.arrays`] gave."""
        transitions = Transitions(arrays["share"], arrays["even"], arrays["codes"], arrays["pairs"])
        return cls(
            texts=arrays["texts"],
            regression=arrays["regression"],
            has_regression=arrays["has_regression"],
            logit_scale=float(arrays["logit_scale"][0]),
            model=LabelModel(arrays["parameters"], transitions),
        )

"""The model of given labels behind the noise model: which class a row truly has, and which label it is then given.

Shapes: N and B rows, C classes, M candidate classes of a row, U pairs of a class and a given label that occur among
the candidates.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize


# Transitions between at most so many classes are looked up in a table, of 8 MB; between more, among those that occur.
_TABLE_CLASSES = 1000
_NUM_ROUNDS = 8
_EM_STEPS = 15
# Half of the squared judges' weights and biases, against the mean of the losses.
_PENALTY = 2e-3
# The largest share of a class that may have other labels: beyond, which label stands for which class is open.
_MOST_WRONG = 0.5
# The share of a class is drawn to the mean of all classes as if so many more of its rows had that mean.
_SHARE_ROWS = 20.0
# Wrong labels of a class are taken to go evenly to the others by this share at least, and as if so many more rows had
# gone to each of these.
_EVEN_SHARE, _EVEN_ROWS = 1 / 3, 1.0
# The start: the second judge sharpened, and two labels in five wrong, where that judge disagrees.
_START_WEIGHTS, _START_WRONG = (0.2, 4.0), 0.4


@dataclass(frozen=True)
class Evidence:
    """What the judges say of the candidates of B rows.

    `classes` `(B, M)`, int64, are the candidates, the given class first; `by_clip` and `by_regression` `(B, M)`,
    float64, their log probabilities, and `log_counts` `(B, M)` the logarithm of how many classes each stands for, -inf
    for none.
    """

    classes: np.ndarray
    by_clip: np.ndarray
    by_regression: np.ndarray
    log_counts: np.ndarray

    def every(self, step: int, first: int) -> "Evidence":
        """The same of every `step`-th row, from row `first` on."""
        return Evidence(*(array[first::step] for array in vars(self).values()))


@dataclass
class Transitions:
    """The probabilities T_ky that class k is given the label y, for some pairs of both.

    Of class k the share `share[k]` has other labels, which go to each other class alike by the part `even[k]`; both
    `(C,)`, float64. `codes` `(U,)`, int64, rising, are k * C + y of the pairs that were fitted, `pairs` `(U,)` their
    probabilities; others, of rows that the model was not fitted to, get the even part of their class.
    """

    share: np.ndarray
    even: np.ndarray
    codes: np.ndarray
    pairs: np.ndarray

    def of_labels(self, classes: np.ndarray) -> np.ndarray:
        """T_ky `(B, M)` of candidates, of which the given label is the first."""
        codes = self._coded(classes)
        if len(self.share) <= _TABLE_CLASSES:
            return self._table()[codes]
        places = np.searchsorted(self.codes, codes).clip(max=len(self.codes) - 1)
        unseen = self.share[classes] * self.even[classes] / (len(self.share) - 1)
        unseen[:, 0] = 1 - self.share[classes[:, 0]]
        return np.where(self.codes[places] == codes, self.pairs[places], unseen)

    def if_even(self, classes: np.ndarray) -> np.ndarray:
        """T_ky `(B, M)` of candidates, if the wrong labels of a class went everywhere alike."""
        pairs = self.share[classes] / max(1, len(self.share) - 1)
        pairs[:, 0] = 1 - self.share[classes[:, 0]]
        return pairs

    def _table(self) -> np.ndarray:
        """T_ky `(C * C,)`, also of pairs that do not occur."""
        num_classes = len(self.share)
        table = np.repeat(self.share * self.even / (num_classes - 1), num_classes)
        table[:: num_classes + 1] = 1 - self.share
        table[self.codes] = self.pairs
        return table

    def _coded(self, classes: np.ndarray) -> np.ndarray:
        return classes * len(self.share) + classes[:, :1]


class _Transitions(Transitions):
    """Those that are fitted to rows with the candidates `classes` `(N, M)`."""

    def __init__(self, classes: np.ndarray, num_classes: int) -> None:
        codes, of_rows = np.unique(classes * num_classes + classes[:, :1], return_inverse=True)
        super().__init__(np.zeros(num_classes), np.zeros(num_classes), codes, np.zeros(len(codes)))
        self._of_rows = of_rows.reshape(classes.shape)
        self._true, given = np.divmod(codes, num_classes)
        self._is_right = self._true == given

    def start(self, likeliest: np.ndarray) -> None:
        """Two labels in five of each class are wrong; where they go, the likeliest candidates, places `(N,)`, tell."""
        chosen = np.zeros(self._of_rows.shape)
        chosen[np.arange(len(chosen)), likeliest] = 1
        others = len(self.share) - 1
        wrong = np.where(self._is_right, 0, self._counts(chosen))
        shape = (wrong + 0.1) / (self._of_class(wrong) + 0.1 * others)[self._true]
        self.share[:], self.even[:] = _START_WRONG, 1
        self.pairs = self._with(shape)

    def update(self, posterior: np.ndarray) -> None:
        """An EM step, from the probabilities of the candidates `(N, M)`."""
        others, counts = len(self.share) - 1, self._counts(posterior)
        wrong = np.where(self._is_right, 0, counts)
        rows, wrong_rows = self._of_class(counts), self._of_class(wrong)
        mean = wrong_rows.sum() / rows.sum()
        self.share = np.minimum(_MOST_WRONG, (wrong_rows + _SHARE_ROWS * mean) / (rows + _SHARE_ROWS))
        self.even = np.maximum(_EVEN_SHARE, _EVEN_ROWS * others / (_EVEN_ROWS * others + wrong_rows))
        own_shape = wrong / np.maximum(wrong_rows, np.finfo(float).tiny)[self._true]
        self.pairs = self._with((1 - self.even[self._true]) * own_shape + self.even[self._true] / others)

    def of_rows(self) -> np.ndarray:
        """T_ky `(N, M)` of the rows' candidates and given labels."""
        return self.pairs[self._of_rows]

    def _with(self, shape: np.ndarray) -> np.ndarray:
        share = self.share[self._true]
        return np.where(self._is_right, 1 - share, share * shape)

    def _counts(self, posterior: np.ndarray) -> np.ndarray:
        return np.bincount(self._of_rows.ravel(), weights=posterior.ravel(), minlength=len(self.codes))

    def _of_class(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self._true, weights=values, minlength=len(self.share))


@dataclass(frozen=True)
class LabelModel:
    """The fitted model: `parameters` `(2 + C,)`, float64, the weights of both judges and the biases of the classes."""

    parameters: np.ndarray
    transitions: Transitions

    def explained(self, evidence: Evidence, sizes: np.ndarray) -> float:
        """The part of the entropy of the given labels that the model explains, at most 1; of one class alone all.

        By the judges alone: biases, and where wrong labels go, fit small classes whose labels nobody can know.
        """
        frequencies = sizes[sizes > 0] / sizes.sum()
        entropy = -(frequencies * np.log(frequencies)).sum()
        by_judges = np.concatenate([self.parameters[:2], np.zeros(len(sizes))])
        joint = _prior(by_judges, evidence) * self.transitions.if_even(evidence.classes)
        return 1 + np.log(joint.sum(axis=1)).mean() / entropy if entropy else 1.0

    def posterior(self, evidence: Evidence) -> np.ndarray:
        """The probability of every candidate `(N, M)` to be the true class, the label being known."""
        return _normalized(_prior(self.parameters, evidence) * self.transitions.of_labels(evidence.classes))


def fit_label_model(evidence: Evidence, num_classes: int) -> LabelModel:
    """The model of rows, fitted to what the judges say of them."""
    judge = np.where(evidence.by_regression.any(axis=1, keepdims=True), evidence.by_regression, evidence.by_clip)
    transitions = _Transitions(evidence.classes, num_classes)
    transitions.start(judge.argmax(axis=1))
    parameters = np.concatenate([_START_WEIGHTS, np.zeros(num_classes)])
    bounds = [(0, None)] * 2 + [(None, None)] * num_classes
    for _ in range(_NUM_ROUNDS):
        parameters = minimize(
            _loss,
            parameters,
            args=(evidence, transitions.of_rows()),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": 50},
        ).x
        prior = _prior(parameters, evidence)
        for _ in range(_EM_STEPS):
            transitions.update(_normalized(prior * transitions.of_rows()))
    return LabelModel(parameters, transitions)


def _normalized(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum(axis=1, keepdims=True)


def _prior(parameters: np.ndarray, evidence: Evidence) -> np.ndarray:
    """q `(N, M)`: the probability of each candidate before the label is known."""
    logits = parameters[2:][evidence.classes] + evidence.log_counts
    logits += parameters[0] * evidence.by_clip
    logits += parameters[1] * evidence.by_regression
    logits -= logits.max(axis=1, keepdims=True)
    return _normalized(np.exp(logits, out=logits))


def _loss(parameters: np.ndarray, evidence: Evidence, of_labels: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean of -log sum_k q_ik T_ky with its penalty, and its gradient."""
    prior = _prior(parameters, evidence)
    joint = prior * of_labels
    likelihood = joint.sum(axis=1, keepdims=True)
    by_logit = (prior - joint / likelihood) / len(prior)
    gradient = _PENALTY * parameters
    gradient[0] += np.vdot(by_logit, evidence.by_clip)
    gradient[1] += np.vdot(by_logit, evidence.by_regression)
    gradient[2:] += np.bincount(evidence.classes.ravel(), weights=by_logit.ravel(), minlength=len(parameters) - 2)
    return float(_PENALTY / 2 * np.vdot(parameters, parameters) - np.log(likelihood).mean()), gradient

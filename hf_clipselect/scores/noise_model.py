"""How wrong the labels are: the probability that each given label is wrong, and the class that fits best.

Shapes: N rows, C classes, D embedding dimension, B rows of a block, M candidate classes of a row.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..runtime.progress import Told, untold
from ..runtime.words import counted
from .arrays import Array, as_numpy, on_its_device
from .judges import CLIP_LOGIT_SCALE, Judges
from .label_judge import LabelJudge
from .label_model import Evidence, fit_label_model


# Classes that a row may truly belong to: the given one, so many by each judge, and so many drawn from the others; all
# of them where there are no more.
_BEST, _DRAWN = 8, 16
# Of the second judge: in some 10 steps it finds as many wrong labels as at its optimum. Where rows times classes are
# more than `_SMALL`, it learns from so many rows of a class, and where 10 steps would cost more than 16 products of
# all rows with a matrix of C columns, it takes 2 long ones instead.
_NUM_STEPS, _SMALL, _ROWS_OF_CLASS = 10, 400_000, 1000
_LONG_STEPS = {"num_steps": 2, "bound_share": 0.3}
# Rows that the model is fitted to, or so many for each class where that is more; it then judges all of them.
_FIT_ROWS, _FIT_ROWS_OF_CLASS = 5_000, 20
_SHARE_FOLDS = 5
# Least part of the entropy of the given labels that the model must explain; without it no label is called wrong, and
# the standard error of that says that nothing is known.
_LEAST_EXPLAINED, _UNKNOWN = 0.03, 0.5
# Above this standard error the share of wrong labels does not tell how many rows to keep.
_LARGEST_SHARE_ERROR = 0.05


@dataclass(frozen=True)
class LabelNoise:
    """What the noise model says of N rows.

    Args:
        error_probability (`np.ndarray` of shape `(N,)`): Probability that the given label is wrong, float32, in
            [0, 1].
        clean_label (`np.ndarray` of shape `(N,)`): Most probable true class, int64; it may be the given one.
        share (`float`): Estimated share of wrong labels, the mean of these probabilities.
        share_error (`float`): Standard error of the share, from models fitted to fifths of the rows.
        notices (`tuple[str, ...]`): What could not be estimated, in sentences.
    """

    error_probability: np.ndarray
    clean_label: np.ndarray
    share: float
    share_error: float
    notices: tuple[str, ...] = ()


def estimate_label_noise(
    image_embeds: Array,
    text_embeds: Array,
    labels: Array,
    *,
    logit_scale: float = CLIP_LOGIT_SCALE,
    seed: int = 42,
    told: Told = untold,
) -> LabelNoise:
    """Estimate which labels are wrong, and how many, from what two judges say of the rows.

    The true class k of row i has the probability q_ik = softmax_k(w1 l1_ik + w2 l2_ik + b_k), where l1 and l2 are the
    log probabilities of CLIP and of an out-of-fold regression ([`Judges`]); the label y is given with the probability
    T_ky. The weights w >= 0, the biases b and the transitions T make the given labels likely: rounds of L-BFGS on w
    and b (mean of -log sum_k q_ik T_ky, with a small L2 penalty) and of EM steps for T. Then P_i(wrong) =
    1 - q_iy T_yy / sum_k q_ik T_ky. This is ours, in the line of the transition matrices of Patrini et al. (CVPR 2017,
    https://huggingface.co/papers/1609.03683) and confident learning (https://huggingface.co/papers/1911.00068).

    **What it assumes.** Labels alone don't tell a wrong label from an ambiguous image; the model does by three
    assumptions. A wrong label depends on the true class, not on the image: where people err on the images that CLIP
    and a regression also err on, it counts too few. More than half of each class is labelled right (`T_kk >= 0.5`), or
    which label stands for which class would be open. And wrong labels of a class go everywhere until many rows say
    otherwise: their shape leans on the uniform one by a third, and by one row for each other class, so that in many
    small classes wrong labels that all go to one class are under-counted; the share of a class leans on the mean of
    all by 20 rows. Without them the confusions of a weak judge look like wrong labels.

    Of more than 33 classes a row's candidates are the given one, the 8 that each judge finds likeliest, and 16 drawn
    from the others, which stand for all of these: sums over the classes are right in the mean over draws. The model is
    fitted to 5,000 rows, or 20 for each class where that is more, evenly taken of all, and then judges all rows in
    blocks: no array of all rows and classes is made. Where rows times classes are more than 400,000 the regression
    learns from 1,000 rows of a class at most, and by two long steps where these are more than a fifth of all.

    Rows of a class that has no other row, and all rows where there are fewer than two for each class, are judged by
    CLIP alone. Where neither judge tells the classes apart no label is taken for wrong, with a standard error of 0.5.
    Nothing depends on the order of the rows.

    Args:
        image_embeds (`np.ndarray` or `torch.Tensor` of shape `(N, D)`): Of plain CLIP, normalised here. Adapters that
            were trained on the same labels know them.
        text_embeds (`np.ndarray` or `torch.Tensor` of shape `(C, D)`): One prompt embedding per class, normalised
            here.
        labels (`np.ndarray` or `torch.Tensor` of shape `(N,)`): Given classes, integers in `[0, C)`.
        logit_scale (`float`, *optional*, defaults to 100): What CLIP multiplies cosines with, above 0.
        seed (`int`, *optional*, defaults to 42): Draws the folds of the regression, and some of the candidates.
        told (`Callable[[str, float], None]`, *optional*): Called with the stage and the part of it that is done.

    Returns:
        [`LabelNoise`]

    Raises:
        InputError: Shapes don't match, a row is zero or not finite, a label is out of range, `logit_scale` is not
            above 0, or there is one row.
    """
    judges = _judges(image_embeds, text_embeds, labels, logit_scale=logit_scale, seed=seed, told=told)
    num_rows, num_classes = len(judges.labels), judges.num_classes
    sizes = np.bincount(judges.labels, minlength=num_classes)
    has_regression = _has_regression(sizes)[judges.labels]
    notices = _notices(sizes, has_regression)
    sample = _sample(judges, has_regression, seed=seed)
    fitted = fit_label_model(sample, num_classes)
    told("Fitting the noise model", 0.5)
    if fitted.explained(sample, sizes) < _LEAST_EXPLAINED:
        return LabelNoise(np.zeros(num_rows, np.float32), judges.given(), 0.0, _UNKNOWN, (*notices, _NO_STRUCTURE))
    share_error = _share_error(sample, num_classes, lambda part: told("Fitting the noise model", (1 + part) / 2))
    wrong, best, done = np.empty(num_rows), np.empty(num_rows, dtype=np.int64), 0
    for places, evidence in _evidence(judges, has_regression, step=1, seed=seed):
        posterior = fitted.posterior(evidence)
        wrong[places] = posterior[:, 1:].sum(axis=1)  # the first candidate is the given class
        best[places] = evidence.classes[np.arange(len(posterior)), posterior.argmax(axis=1)]
        done += len(places)
        told("Judging the labels", done / num_rows)
    error_probability, clean_label = judges.at_their_rows(wrong).clip(0, 1), np.empty(num_rows, dtype=np.int64)
    # Equal rows get the class of the first of them.
    clean_label[judges.order] = np.repeat(best[judges.firsts], np.diff(judges.firsts, append=num_rows))
    share = float(error_probability[judges.order].mean(dtype=np.float64))
    return LabelNoise(error_probability, clean_label, share, share_error, notices)


def fit_label_judge(
    image_embeds: Array,
    text_embeds: Array,
    labels: Array,
    *,
    logit_scale: float = CLIP_LOGIT_SCALE,
    seed: int = 42,
    told: Told = untold,
) -> LabelJudge | None:
    """Fit the model of [`estimate_label_noise`], and take it and the mean of its regressions to judge other rows.

    Takes and raises what [`estimate_label_noise`] does; `None` where neither judge tells the classes apart,
    or there is one class.
    """
    judges = _judges(image_embeds, text_embeds, labels, logit_scale=logit_scale, seed=seed, told=told)
    if judges.num_classes == 1:
        return None
    sizes = np.bincount(judges.labels, minlength=judges.num_classes)
    has_regression = _has_regression(sizes)
    sample = _sample(judges, has_regression[judges.labels], seed=seed)
    model = fit_label_model(sample, judges.num_classes)
    if model.explained(sample, sizes) < _LEAST_EXPLAINED:
        return None
    return LabelJudge(judges.unit_texts(), judges.mean_weights(), has_regression, logit_scale, model)


def check_auto(noise: LabelNoise) -> None:
    """Raise `InputError` where the share's standard error, above 5 %, is too large to tell how many rows to keep."""
    if noise.share_error <= _LARGEST_SHARE_ERROR:
        return
    ratio = max(0.1, round(1 - noise.share - noise.share_error, 1))
    raise InputError(
        f"--selection_ratio auto keeps the rows whose labels are right, but how many these are is too uncertain here: "
        f"about {noise.share:.0%} of the labels look wrong, give or take {noise.share_error:.0%} (at most "
        f"{_LARGEST_SHARE_ERROR:.0%} is trusted). Give a number instead, such as --selection_ratio {ratio:g}."
    )


def _judges(image_embeds: Array, text_embeds: Array, labels: Array, **options: Any) -> Judges:
    if len(labels) * len(text_embeds) <= _SMALL:
        return Judges(image_embeds, text_embeds, labels, num_steps=_NUM_STEPS, **options)
    counts = np.unique(as_numpy(on_its_device(labels, "labels")), return_counts=True)[1]
    num_trained = int(np.minimum(counts, _ROWS_OF_CLASS).sum())
    steps = {"num_steps": _NUM_STEPS} if _NUM_STEPS * num_trained <= 2 * len(labels) else _LONG_STEPS
    return Judges(image_embeds, text_embeds, labels, max_rows_of_class=_ROWS_OF_CLASS, **steps, **options)


def _has_regression(sizes: np.ndarray) -> np.ndarray:
    """Whether rows of each class `(C,)` are judged by the regression too, from how many rows each class has."""
    return sizes > 1 if sizes.sum() >= 2 * np.count_nonzero(sizes) else np.zeros(len(sizes), bool)


def _sample(judges: Judges, has_regression: np.ndarray, *, seed: int) -> Evidence:
    """Evidence of the rows that the model is fitted to."""
    step = max(1, len(judges.labels) // max(_FIT_ROWS, _FIT_ROWS_OF_CLASS * judges.num_classes))
    return _joined([evidence for _, evidence in _evidence(judges, has_regression, step=step, seed=seed)])


_NO_STRUCTURE = (
    "Neither CLIP nor a regression on the embeddings tells the classes apart: which labels are wrong can't be "
    "estimated, and none is taken for wrong. Check the class names, the prompts and the model."
)


def _notices(sizes: np.ndarray, has_regression: np.ndarray) -> tuple[str, ...]:
    if has_regression.all():
        return ()
    if not has_regression.any():
        rows, classes = counted(int(sizes.sum()), "row"), counted(int(np.count_nonzero(sizes)), "class", "classes")
        return (f"{rows} of {classes} are too few to learn from: which labels are wrong is judged by CLIP alone.",)
    num_alone = counted(int(np.count_nonzero(sizes == 1)), "class has", "classes have")
    return (f"{num_alone} one row only: whether its label is wrong is judged by CLIP alone.",)


def _joined(parts: Sequence[Evidence]) -> Evidence:
    return Evidence(*map(np.concatenate, zip(*(vars(part).values() for part in parts), strict=True)))


def _evidence(
    judges: Judges, has_regression: np.ndarray, *, step: int, seed: int
) -> Iterator[tuple[np.ndarray, Evidence]]:
    """Evidence of every `step`-th row of the judges' order, in blocks, each with the places of its rows among these.

    Of rows without `has_regression` `(N,)` the regression says nothing: its log probabilities are 0.
    """
    num_classes = judges.num_classes
    labels, has_regression = judges.labels[::step], has_regression[::step]
    rng = np.random.default_rng([seed, 3])  # another stream than those of batches, held-out rows and folds
    shuffled = rng.permutation(num_classes)
    for places, *judged in judges.log_probabilities(step):
        given = labels[places][:, None]
        if num_classes <= 1 + 2 * _BEST + _DRAWN:
            classes = (given + np.arange(num_classes)) % num_classes
            log_counts = np.zeros(classes.shape)
        else:
            best = [scores.topk(_BEST).indices.cpu().numpy() for scores in judged]
            drawn = rng.integers(num_classes, size=(len(given), 1)) + np.arange(_DRAWN) * (num_classes // _DRAWN)
            classes = np.hstack([given, *best, shuffled[drawn % num_classes]])
            log_counts = _log_counts(classes, num_classes)
        by_clip, by_regression = (np.take_along_axis(scores.cpu().numpy(), classes, axis=1) for scores in judged)
        by_regression[~has_regression[places]] = 0
        yield places, Evidence(classes, by_clip, by_regression, log_counts)


def _log_counts(classes: np.ndarray, num_classes: int) -> np.ndarray:
    """How many classes each candidate `(B, M)` stands for: one, none if it comes again, or its share of the others."""
    order = np.argsort(classes, axis=1, kind="stable")
    in_order = np.take_along_axis(classes, order, axis=1)
    counts = np.ones(classes.shape)
    np.put_along_axis(counts, order[:, 1:], (in_order[:, 1:] != in_order[:, :-1]).astype(float), axis=1)
    others = num_classes - counts[:, :-_DRAWN].sum(axis=1, keepdims=True)
    counts[:, -_DRAWN:] *= others / counts[:, -_DRAWN:].sum(axis=1, keepdims=True).clip(min=1)
    with np.errstate(divide="ignore"):
        return np.log(counts)


def _share_error(evidence: Evidence, num_classes: int, told: Callable[[float], None]) -> float:
    """Standard error of the share of wrong labels, from how much models of a fifth of these rows each differ in it."""
    num_folds = min(_SHARE_FOLDS, len(evidence.classes))
    shares = []
    for fold in range(num_folds):
        part = evidence.every(num_folds, fold)
        shares.append(1 - fit_label_model(part, num_classes).posterior(part)[:, 0].mean())
        told((fold + 1) / num_folds)
    return float(np.std(shares, ddof=1) / num_folds**0.5)

"""The gradient loop of the paper (Algorithm 1, eq. 3 to 6 of https://huggingface.co/papers/2410.11215).

With selection logits d, p = sigmoid(d), scores s (SAS + alpha * SDS), count c = sum[p > 0.5] and target k the loss is

    L = -(1/N) sum_i p_i s_i + beta * |c/N - k/N|

The straight-through estimator takes dp_i/dd_i = p_i (1 - p_i) for the derivative of the indicator as well, hence

    dL/dd_i = p_i (1 - p_i) (beta * sign(c - k) - s_i) / N

so that no autograd is needed, and the gradient of sqrt(gap^2), which is NaN at a gap of 0, never arises. While too
many rows are kept every logit with s_i < beta falls, the lowest scores fastest: rows leave in the order of their
scores, and rows of equal score leave together. From that follow the three conditions that `check_convergence` checks
before the loop runs.
"""

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from math import sinh

import numpy as np

from ..errors import InputError
from .exact import finite_scores


MOMENTUM = 0.9
INITIAL_LOGIT = 1.0
# Step on d, per row: the loss is a mean, so a step that does not grow with N never arrives when N is large.
STEP_PER_ROW = 2e-4
# Below this a step can jump over the window for ever although the three conditions hold.
MIN_ROWS = 20
# With the momentum at rest d falls by STEP_PER_ROW / (1 - MOMENTUM) * p (1 - p) * (beta - s) an iteration; the
# integral of 1 / (p (1 - p)) from 0 to d is 2 d + 2 sinh d. The momentum builds up in 1 / (1 - MOMENTUM) of them.
_CROSSING = (2 * INITIAL_LOGIT + 2 * sinh(INITIAL_LOGIT)) * (1 - MOMENTUM) / STEP_PER_ROW
_LAG = 1 / (1 - MOMENTUM)
# Room in the values that a message proposes: small sets take longer, because the count swings before it settles.
_SLACK = 1.1


@dataclass(frozen=True)
class SgdResult:
    """Kept row numbers `(count,)`, int64, rising, and the updates of the logits that it took."""

    rows: np.ndarray
    iterations: int


def sgd_select(
    scores: np.ndarray, k: int, *, ratio_weight: float = 2.0, theta: float = 5e-4, max_iterations: int = 100_000
) -> SgdResult:
    """Select rows with the paper's loop: momentum SGD on d from 1, until the count is within theta * N of k.

    The result is the rows of highest score, up to theta * N and to ties, at many times the cost of `top_k`. The count
    is looked at before each update, so that no update follows the arrival. Computed in float64.

    Takes finite scores SAS + alpha * SDS `(num_rows,)`, k in `[1, num_rows]`, beta of eq. 6 as `ratio_weight`, and
    theta of section 3.3. Raises `InputError` where a condition of [`check_convergence`] fails, or the loop is not
    there after `max_iterations` updates.
    """
    check_convergence(scores, k, ratio_weight=ratio_weight, theta=theta, max_iterations=max_iterations)
    scores = finite_scores(scores).astype(np.float64)
    tolerance = _tolerance(theta, len(scores))
    logits = np.full(len(scores), INITIAL_LOGIT)
    velocity = np.zeros(len(scores))
    pull = {True: scores - ratio_weight, False: scores + ratio_weight}  # -(dL/dd) * N / (p (1 - p)), by count > k
    slope, square = np.empty(len(scores)), np.empty(len(scores))
    for iteration in range(max_iterations + 1):
        count = int(np.count_nonzero(logits > 0))
        if count > 0 and abs(count - k) <= tolerance:
            return SgdResult(rows=np.flatnonzero(logits > 0), iterations=iteration)
        # p (1 - p) from exp(-|d|), which cannot overflow; in place, because the loop is memory-bound.
        np.exp(np.negative(np.abs(logits, out=slope), out=slope), out=slope)
        np.square(np.add(slope, 1, out=square), out=square)
        slope /= square
        slope *= pull[count > k]
        slope *= STEP_PER_ROW
        velocity *= MOMENTUM
        velocity += slope
        logits += velocity
    raise InputError(
        f"The loop of solver sgd is at {count} rows instead of {k} after {max_iterations} iterations: its steps jump "
        "over the target. Pass --solver exact."
    )


def check_convergence(
    scores: np.ndarray, k: int, *, ratio_weight: float = 2.0, theta: float = 5e-4, max_iterations: int = 100_000
) -> None:
    """Raise `InputError` where order statistics of the scores tell that the loop cannot arrive.

    - C1, reach: some count that splits no ties lies within theta * N of k.
    - C2, force: beta is above the score of the last row that must leave, the (k + floor(theta * N) + 1)-th highest.
      Rows with a score of beta or more never leave.
    - C3, time: that row leaves within `max_iterations`, which takes `iterations_to_leave`.

    These conditions are necessary. A loop that meets them may still jump over a narrow window for long; `sgd_select`
    then raises. Takes what that takes. The `InputError` names the condition with the value that would do; it is raised
    too for fewer than 20 rows, a score that is not finite, and a k that is out of range.
    """
    scores = finite_scores(scores).astype(np.float64)
    num_rows = len(scores)
    if not 1 <= k <= num_rows:
        raise InputError(f"The number of rows to keep must lie in [1, {num_rows}], got {k}.")
    if num_rows < MIN_ROWS:
        raise _cannot_arrive("size", f"it needs at least {MIN_ROWS} rows, got {num_rows}")
    tolerance = _tolerance(theta, num_rows)
    nearest = _nearest_reachable_count(scores, k)
    if abs(nearest - k) > tolerance:
        raise _cannot_arrive(
            "C1 reach",
            f"it cannot stop within {tolerance} of {k} rows, because rows of equal score leave together; the nearest "
            f"count that it can reach is {nearest} (--selection_ratio {nearest / num_rows:.6g})",
        )
    last_to_go = k + tolerance  # its rank from 0
    if last_to_go >= num_rows:
        return
    score = float(np.partition(scores, num_rows - 1 - last_to_go)[num_rows - 1 - last_to_go])
    enough_weight = score + _SLACK * _CROSSING / max(max_iterations - _LAG, 1)  # for C2 and C3
    if ratio_weight <= score:
        raise _cannot_arrive(
            "C2 force",
            f"it never drops rows that score ratio_weight ({ratio_weight:g}) or more, and must drop one that scores "
            f"{score:.6g}; a ratio_weight of {enough_weight:.6g} would do",
        )
    needed = iterations_to_leave(score, ratio_weight=ratio_weight)
    if needed > max_iterations:
        raise _cannot_arrive(
            "C3 time",
            f"it needs about {needed:.0f} iterations and may make {max_iterations}; a ratio_weight of "
            f"{enough_weight:.6g} would do",
        )


def iterations_to_leave(score: float, *, ratio_weight: float) -> float:
    """Iterations until a row of this score, below `ratio_weight`, is dropped while more than k rows are kept."""
    return _CROSSING / (ratio_weight - score) + _LAG


def _cannot_arrive(condition: str, problem: str) -> InputError:
    return InputError(f"The loop of solver sgd cannot arrive ({condition}): {problem}. Or pass --solver exact.")


def _tolerance(theta: float, num_rows: int) -> int:
    """Whole rows in theta * N, in decimals so that 5e-4 of 6000 is 3."""
    return int((Decimal(str(theta)) * num_rows).to_integral_value(ROUND_FLOOR))


def _nearest_reachable_count(scores: np.ndarray, k: int) -> int:
    """Count of the rows at or above some score, whichever is nearest to k; the loop can stop at no other."""
    threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
    above = int(np.count_nonzero(scores > threshold))
    at_least = int(np.count_nonzero(scores >= threshold))
    return above if 0 < above and k - above <= at_least - k else at_least

import math
import re

import numpy as np
import pytest
import torch

from hf_clipselect.errors import InputError
from hf_clipselect.selection import sgd_select, top_k
from hf_clipselect.selection.sgd import check_convergence, iterations_to_leave


def plain_loop(scores, k, *, ratio_weight, max_iterations, theta=5e-4):
    """Algorithm 1 as written, without looking ahead. Returns the kept rows, or None where it does not arrive."""
    num_rows = len(scores)
    logits, velocity = np.ones(num_rows), np.zeros(num_rows)
    for iteration in range(max_iterations + 1):
        count = np.count_nonzero(logits > 0)
        if count and abs(count - k) <= theta * num_rows + 1e-9:
            return np.flatnonzero(logits > 0), iteration
        p = 1 / (1 + np.exp(-logits))
        gradient = p * (1 - p) * (ratio_weight * np.sign(count - k) - scores) / num_rows
        velocity = 0.9 * velocity + gradient
        logits = logits - 2e-4 * num_rows * velocity
    return None


def refusal(scores, k, **knobs):
    """What the check says before the loop runs; empty where it lets it run."""
    try:
        check_convergence(scores, k, **knobs)
    except InputError as error:
        return str(error)
    return ""


FAMILIES = {
    "uniform": lambda rng, size: rng.random(size),
    "beta": lambda rng, size: 0.2 + 0.15 * rng.beta(4, 2, size),
    "normal": lambda rng, size: rng.normal(1, 0.4, size),
    "clustered": lambda rng, size: rng.choice([0.3, 0.6, 0.9, 1.4], size) + 0.02 * rng.normal(size=size),
    "ties": lambda rng, size: np.round(rng.random(size), 1 if size < 200 else 2),
    "heavy tail": lambda rng, size: rng.lognormal(0, 0.8, size),
    "around zero": lambda rng, size: rng.normal(-0.1, 0.3, size),
}


@pytest.mark.slow
def test_the_check_agrees_with_the_loop_on_150_cases():
    rng = np.random.default_rng(0)
    outcomes = []
    for case in range(150):
        size = round(math.exp(rng.uniform(math.log(20), math.log(500))))
        scores = FAMILIES[list(FAMILIES)[case % len(FAMILIES)]](rng, size)
        k = max(1, math.floor(size * rng.choice([0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9]) + 0.5))
        knobs = {
            "ratio_weight": float(rng.choice([0.8, 1.2, 2.0, 3.0])),
            "max_iterations": int(rng.choice([1500, 3000, 5000])),
        }
        refused = refusal(scores, k, **knobs)
        expected = plain_loop(scores, k, **knobs)
        assert (not refused) == (expected is not None), (case, refused)
        outcomes += re.findall(r"C\d \w+", refused)[:1] or [""]
        if expected is None:
            with pytest.raises(InputError):
                sgd_select(scores, k, **knobs)
        elif case % 3 == 0:
            result = sgd_select(scores, k, **knobs)
            np.testing.assert_array_equal(result.rows, expected[0])
            assert result.iterations == expected[1]
    counts = {condition: outcomes.count(condition) for condition in ("", "C1 reach", "C2 force", "C3 time")}
    assert min(counts.values()) >= 10, counts


@pytest.mark.parametrize("k", [10, 30])
def test_equals_autograd_on_the_loss_with_a_straight_through_estimator(k):
    scores = np.random.default_rng(1).random(40)
    logits = torch.ones(40, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=2e-4 * 40, momentum=0.9)
    iterations = 0
    while (logits > 0).sum() != k:
        p = torch.sigmoid(logits)
        selected = (p > 0.5).double() + p - p.detach()
        gap = (selected.mean() - k / 40).square().sqrt()
        loss = -(p * torch.from_numpy(scores)).mean() + 2.0 * gap
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        iterations += 1
    result = sgd_select(scores, k)
    assert result.iterations == iterations
    np.testing.assert_array_equal(result.rows, np.flatnonzero(logits.detach().numpy() > 0))


@pytest.mark.parametrize("family", ["beta", "normal", "uniform"])
@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
def test_agrees_with_the_exact_solver(family, ratio):
    scores = FAMILIES[family](np.random.default_rng(2), 4000).astype(np.float32)
    k = round(ratio * 4000)
    rows = sgd_select(scores, k).rows
    assert rows.dtype == np.int64
    assert abs(len(rows) - k) <= 2  # theta * N
    exact = top_k(scores, k)
    shared = len(np.intersect1d(rows, exact))
    assert shared / (len(rows) + len(exact) - shared) >= 0.99
    np.testing.assert_array_equal(rows, top_k(scores, len(rows)))


@pytest.mark.parametrize("family", ["beta", "normal", "uniform"])
def test_iterations_do_not_grow_with_the_rows(family):
    iterations = {}
    for size in (2000, 20_000):
        scores = FAMILIES[family](np.random.default_rng(5), size)
        k = round(0.3 * size)
        threshold = np.sort(scores)[-k]
        iterations[size] = sgd_select(scores, k).iterations
        assert iterations[size] == pytest.approx(iterations_to_leave(threshold, ratio_weight=2.0), rel=0.1)
    assert iterations[20_000] == pytest.approx(iterations[2000], rel=0.05)


def test_everything_is_kept_at_once():
    result = sgd_select(np.random.default_rng(3).random(30), 30)
    assert result.rows.tolist() == list(range(30))
    assert result.iterations == 0


def test_scores_far_apart_do_not_overflow():
    scores = np.concatenate([np.full(10, 1e8), np.linspace(0, 1, 20)])
    with np.errstate(over="raise", invalid="raise"):
        assert sgd_select(scores, 10).rows.tolist() == list(range(10))


def test_reach_names_the_nearest_count():
    scores = np.repeat([3.0, 2.0, 1.0], [30, 30, 40]) / 4
    refused = refusal(scores, 50)
    assert "cannot arrive (C1 reach)" in refused
    assert "nearest count that it can reach is 60 (--selection_ratio 0.6)" in refused and "--solver exact" in refused
    assert len(sgd_select(scores, 60).rows) == 60
    assert "is 30" in refusal(scores, 40)
    assert "is 30" in refusal(scores, 1)


def test_force_names_the_weight_that_would_do():
    scores = np.linspace(0, 3, 101)  # the 31st highest is 2.1
    with pytest.raises(InputError, match="C2 force") as raised:
        sgd_select(scores, 30)
    # 2.1 + 1.1 * 2175 / 99990
    assert "one that scores 2.1; a ratio_weight of 2.12393 would do" in str(raised.value)
    assert len(sgd_select(scores, 30, ratio_weight=2.12393).rows) == 30


def test_time_names_the_iterations_that_would_do():
    scores = np.linspace(0, 1, 101)  # the 31st highest is 0.7: 2175 / 1.3 + 10 iterations
    refused = refusal(scores, 30, max_iterations=1000)
    assert "cannot arrive (C3 time)" in refused and "about 1683 iterations" in refused
    assert "a ratio_weight of 3.11689 would do" in refused
    assert len(sgd_select(scores, 30, max_iterations=1852).rows) == 30
    assert len(sgd_select(scores, 30, max_iterations=1000, ratio_weight=3.11689).rows) == 30


def test_few_rows_are_left_to_the_exact_solver():
    scores = np.linspace(0, 1, 20)
    assert len(sgd_select(scores, 5).rows) == 5
    with pytest.raises(InputError, match=r"\(size\): it needs at least 20 rows, got 19.*--solver exact"):
        check_convergence(scores[:19], 5)


def test_a_loop_that_jumps_over_the_target_raises():
    # The conditions hold, but both middle scores are so close that they leave in the same step.
    scores = np.concatenate([np.linspace(0.8, 0.9, 10), [0.5 + 1e-12, 0.5], np.linspace(0, 0.1, 10)])
    assert not refusal(scores, 11, max_iterations=3000)
    with pytest.raises(InputError, match="after 3000 iterations.*--solver exact"):
        sgd_select(scores, 11, max_iterations=3000)


@pytest.mark.parametrize("k", [0, 31])
def test_rejects_a_count_out_of_range(k):
    with pytest.raises(InputError, match=rf"\[1, 30\], got {k}"):
        sgd_select(np.linspace(0, 1, 30), k)


def test_rejects_scores_that_are_not_finite():
    with pytest.raises(InputError, match="nan in row 4"):
        sgd_select(np.where(np.arange(30) == 4, np.nan, 1.0), 3)

from typing import Any

import numpy as np
import pytest
from process_clients import SUBSETS, counts_to_keep, run_processes, score_families, slicings, subsets_of

from hf_clipselect.errors import InputError
from hf_clipselect.runtime.launch import make_accelerator
from hf_clipselect.runtime.processes import Processes
from hf_clipselect.selection import distributed_top_k, top_k


def by_sorting(scores: np.ndarray, k: int) -> np.ndarray:
    return np.sort(np.argsort(-scores, kind="stable")[:k])


@pytest.mark.parametrize("family", score_families())
def test_one_process_equals_a_stable_sort(family: str) -> None:
    processes = Processes(make_accelerator(use_cpu=True))
    scores = score_families()[family]
    for k in counts_to_keep(len(scores)):
        rows = distributed_top_k(scores, k, processes)
        assert rows.dtype == np.int64
        np.testing.assert_array_equal(rows, by_sorting(scores, k))


def test_one_process_equals_top_k_on_many_rows() -> None:
    processes = Processes(make_accelerator(use_cpu=True))
    scores = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    for k in (1, 33_333, 99_999):
        np.testing.assert_array_equal(distributed_top_k(scores, k, processes), top_k(scores, k))


def test_scores_need_not_lie_side_by_side() -> None:
    scores = np.array([[1.0, 9.0], [3.0, 9.0], [2.0, 9.0]], dtype=np.float32)[:, 0]
    assert distributed_top_k(scores, 2, Processes(make_accelerator(use_cpu=True))).tolist() == [1, 2]
    assert scores.tolist() == [1.0, 3.0, 2.0]


def test_float64_would_tie_what_it_tells_apart() -> None:
    with pytest.raises(InputError, match="must be float32, got float64"):
        distributed_top_k(np.array([1.0, 1.0 + 1e-12]), 1, Processes(make_accelerator(use_cpu=True)))


@pytest.fixture(scope="module", params=[2, 3])
def returned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two, then of three processes returned."""
    return run_processes(request.param, "select", tmp_path_factory.mktemp("select"))


@pytest.mark.slow
def test_slices_together_equal_a_stable_sort(returned: list[dict[str, Any]]) -> None:
    count, cases = len(returned), 0
    for family, scores in score_families().items():
        for slicing, starts in slicings(len(scores), count).items():
            for k in counts_to_keep(len(scores)):
                case = f"{family}, {slicing}, {k}"
                parts, dtypes, calls, sizes = zip(*(process["top_k"][case] for process in returned), strict=True)
                rows = [start + row for start, part in zip([0, *starts], parts, strict=True) for row in part]
                assert rows == by_sorting(scores, k).tolist(), case
                assert set(dtypes) == {"int64"}
                # Whatever the scores: the histograms of 11, 11 and 10 bits, and three numbers for each process.
                assert set(calls) == {4}
                assert set(sizes) == {8 * (2048 + 2048 + 1024) + 3 * 8 * count}
                cases += 1
    assert cases == sum(4 * len(counts_to_keep(len(scores))) for scores in score_families().values())


@pytest.mark.slow
def test_bad_input_on_one_process_is_told_on_all(returned: list[dict[str, Any]]) -> None:
    last = len(returned) - 1
    for index, process in enumerate(returned):
        refusals = dict(process["refusals"])
        assert refusals.pop("good") == ([3] if index else [2, 3])
        assert {calls for _, calls in refusals.values()} == {1}
        told = {name: message for name, (message, _) in refusals.items()}
        elsewhere = "Scores must be one finite float32 number per row, and those of process {} are not."
        assert told == {
            "nan on the last": "Scores must be finite, got nan in row 1." if index == last else elsewhere.format(last),
            "infinity everywhere": "Scores must be finite, got -inf in row 1.",
            "float64 on the first": elsewhere.format(0)
            if index
            else "Scores that are spread over processes must be float32, got float64.",
            "a matrix on the last": "Scores must be one number per row, got an array of shape (2, 2)."
            if index == last
            else elsewhere.format(last),
            "no row and nan": "Scores must be finite, got nan in row 0." if index == last else elsewhere.format(last),
            "too many": f"The number of rows to keep must lie in [0, {4 * (last + 1)}], got {4 * (last + 1) + 1}.",
            "below none": f"The number of rows to keep must lie in [0, {4 * (last + 1)}], got -1.",
            "of nothing": "The number of rows to keep must lie in [0, 0], got 1.",
            "another count on the last": f"Every process must ask for the same number of rows, got {[3] * last + [2]}.",
        }


@pytest.mark.slow
def test_subsets_are_those_of_one_process(returned: list[dict[str, Any]]) -> None:
    for process in returned:
        found = process["subsets"]
        for num_rows, objective in SUBSETS:
            subsets, calls = found[f"{objective}, {num_rows}"]
            assert subsets == subsets_of(num_rows, objective, None)
            # Four for a subset without quotas, and one that gathers its rows.
            assert calls == (0 if objective == "clean" else 5 * len(subsets))
        assert found["sgd"] == list(range(301, 401))
        assert found["nan"] == "Scores must be finite, got nan in row 300."

import logging
import re
import tracemalloc

import numpy as np
import pytest
import torch

from hf_clipselect import sample_diversity_score
from hf_clipselect.errors import InputError
from hf_clipselect.pipeline.run_log import collected_warnings
from hf_clipselect.scores import arrays, diversity
from hf_clipselect.scores.diversity import (
    class_diversity,
    estimate_notice,
    neighbor_count,
    reference_diversity,
    references_to_take,
)


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def slow_diversity(embeds, labels, neighbors_of_class):
    """Eq. 2 row by row in float64."""
    embeds = unit(embeds)
    result = np.zeros(len(embeds))
    for row, label in enumerate(labels):
        others = [other for other in np.flatnonzero(labels == label) if other != row]
        if others:
            k = min(max(neighbors_of_class(len(others) + 1), 1), len(others))
            result[row] = np.sort(np.linalg.norm(embeds[others] - embeds[row], axis=1))[:k].mean()
    return result


def test_diversity_of_four_rows_by_hand():
    # On the circle at 0, 60, 180 degrees and, in the other class, 90: the chord of an angle a is 2 sin(a / 2).
    angles = np.deg2rad([0, 60, 180, 90])
    embeds, labels = np.stack([np.cos(angles), np.sin(angles)], axis=1), np.array([5, 5, 5, 2])
    root3 = np.sqrt(3)
    one = sample_diversity_score(embeds, labels, num_neighbors=1)
    np.testing.assert_allclose(one, [1, 1, root3, 0], atol=1e-6)
    two = sample_diversity_score(embeds, labels, num_neighbors=2)
    np.testing.assert_allclose(two, [1.5, (1 + root3) / 2, (2 + root3) / 2, 0], atol=1e-6)


@pytest.mark.parametrize("fraction", [0.1, 0.25, 1.0])
def test_diversity_equals_brute_force(fraction, monkeypatch):
    monkeypatch.setattr(diversity, "_BLOCK_ELEMENTS", 1000)
    monkeypatch.setattr(diversity, "_BLOCK_MIN_ROWS", 1)
    rng = np.random.default_rng(2)
    labels = rng.permutation(np.repeat([0, 1, 2, 4, 7], [1, 2, 3, 45, 260]))
    embeds = rng.normal(size=(len(labels), 12)) + 2
    embeds[labels == 7] = embeds[labels == 7][rng.integers(200, size=260)]  # duplicates
    result = sample_diversity_score(embeds, labels, neighbor_fraction=fraction)
    assert result.dtype == np.float32
    expected = slow_diversity(embeds, labels, lambda size: int(np.floor(fraction * size + 0.5)))
    np.testing.assert_allclose(result, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("k", [1, 3, 49, 50, 500])
def test_fixed_number_of_neighbors(k):
    rng = np.random.default_rng(3)
    embeds, labels = rng.normal(size=(120, 32)), np.repeat([0, 1], [70, 50])
    result = sample_diversity_score(embeds, labels, num_neighbors=k, neighbor_fraction=0.5)
    np.testing.assert_allclose(result, slow_diversity(embeds, labels, lambda size: k), rtol=1e-6)


@pytest.mark.parametrize(("size", "k"), [(4, 1), (14, 1), (15, 2), (25, 3), (35, 4)])
def test_neighbor_count_rounds_half_up(size, k):
    rng = np.random.default_rng(size)
    embeds, labels = rng.normal(size=(size, 4)), np.zeros(size, dtype=int)
    np.testing.assert_array_equal(
        sample_diversity_score(embeds, labels), sample_diversity_score(embeds, labels, num_neighbors=k)
    )


@pytest.mark.parametrize("k", [1, 49, 50, 300])
def test_a_class_of_duplicates_has_diversity_zero(k):
    rng = np.random.default_rng(4)
    embeds = np.repeat(rng.normal(size=(1, 512)), 400, axis=0)
    assert not sample_diversity_score(embeds, np.zeros(400, dtype=int), num_neighbors=k).any()


def test_near_duplicates_keep_their_digits():
    # 2 - 2 cos in float32 is off by some 1e-7, a tenth of a squared distance of 1e-6.
    rng = np.random.default_rng(5)
    embeds = unit(np.repeat(rng.normal(size=(30, 256)), 2, axis=0))
    embeds = unit(embeds + 5e-5 * rng.normal(size=embeds.shape)).astype(np.float32)
    labels = np.zeros(60, dtype=int)
    result = sample_diversity_score(embeds, labels, num_neighbors=1)
    assert result.max() < 2e-3
    np.testing.assert_allclose(result, slow_diversity(embeds, labels, lambda size: 1), rtol=1e-3)


def test_single_rows_are_warned_about_once(caplog):
    embeds = np.eye(5)
    with caplog.at_level(logging.WARNING):
        result = sample_diversity_score(embeds, np.array([3, 1, 1, 8, 1]))
    assert result[0] == result[3] == 0
    np.testing.assert_allclose(result[[1, 2, 4]], np.sqrt(2), rtol=1e-6)
    [record] = caplog.records
    assert record.getMessage() == "Classes of one row have a diversity score of 0, 2 in all: 3, 8."


# --- large classes


def clusters(num_rows, dim=32, seed=0):
    """Rows around a few centres, some close to theirs and some far, so that the scores have a spread."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(30, dim))
    return centres[rng.integers(30, size=num_rows)] + rng.uniform(0.2, 1.5, (num_rows, 1)) * rng.normal(
        size=(num_rows, dim)
    )


def exact_scores(embeds, k):
    """All distances at once in float64."""
    embeds = unit(embeds)
    squared = np.maximum(2 - 2 * embeds @ embeds.T, 0)
    np.fill_diagonal(squared, np.inf)
    return np.sqrt(np.partition(squared, k - 1, axis=1)[:, :k]).mean(axis=1)


@pytest.mark.parametrize("k", [50, 150, 1000, 1499])
@pytest.mark.parametrize("block", [2**23, 2**17])
def test_a_large_class_equals_float64(k, block, monkeypatch):
    monkeypatch.setattr(diversity, "_BLOCK_ELEMENTS", block)
    embeds = clusters(1500)
    result = sample_diversity_score(embeds, np.zeros(1500, dtype=int), num_neighbors=k)
    np.testing.assert_allclose(result, exact_scores(embeds, k), rtol=1e-5)


def test_many_duplicates_in_a_large_class():
    embeds = clusters(1400)
    embeds[400:] = embeds[400:600].repeat(5, axis=0)  # 200 rows five times
    embeds[:300] = embeds[0]
    result = sample_diversity_score(embeds, np.zeros(1400, dtype=int))
    expected = exact_scores(embeds, 140)
    assert not result[:300].any()
    np.testing.assert_allclose(result[300:], expected[300:], rtol=1e-5)


def test_some_rows_of_a_class():
    embeds = unit(clusters(1200)).astype(np.float32)
    whole = diversity._mean_distances(embeds, slice(None), 120)
    np.testing.assert_allclose(diversity._mean_distances(embeds, slice(100, 200), 120), whole[100:200], rtol=1e-6)
    rows = np.array([5, 700, 1199])
    np.testing.assert_allclose(diversity._mean_distances(torch.from_numpy(embeds), rows, 120), whole[rows], rtol=1e-6)


@pytest.mark.parametrize("k", [3, 49, 60])
def test_references_leave_out_the_row_itself(k):
    embeds = unit(clusters(300)).astype(np.float32)
    references = np.arange(0, 300, 3)
    result = diversity._mean_distances(embeds, slice(None), k, references)
    distances = np.linalg.norm(embeds[:, None].astype(np.float64) - embeds[references], axis=2)
    distances[references, np.arange(100)] = np.inf
    np.testing.assert_allclose(result, np.sort(distances, axis=1)[:, :k].mean(axis=1), rtol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("k", [1, 3, 60])
def test_rows_are_compared_with_references(device, k, monkeypatch):
    """A row that is a reference, or whose embedding another batch made, is not compared with itself."""
    monkeypatch.setattr(diversity, "_BLOCK_MIN_ROWS", 16)
    monkeypatch.setattr(diversity, "_BLOCK_ELEMENTS", 16 * 90)
    embeds = unit(clusters(150)).astype(np.float32)
    references = embeds[:90]
    rows = np.concatenate([embeds[50:], unit(embeds[:1] + 1e-6).astype(np.float32)])
    expected = []
    for row in rows:
        distances = np.sort(np.linalg.norm(references.astype(np.float64) - row, axis=1))
        expected.append(distances[int(distances[0] < 1e-4) :][:k].mean())
    found = reference_diversity(rows, references, k)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert reference_diversity(references[:2], references[:1], 1)[0] == 0  # there is no other
    monkeypatch.setattr(diversity, "on_its_device", lambda embeds, name="": embeds)
    of_tensors = reference_diversity(*(torch.from_numpy(array).to(device) for array in (rows, references)), k)
    np.testing.assert_allclose(of_tensors, expected, atol=1e-5)


def test_references_take_the_same_part_of_a_class():
    assert [references_to_take(k, 1000, 100) for k in (1, 50, 100, 999)] == [1, 5, 10, 99]
    # All rows of the class are references: as many neighbours, without the row itself.
    assert [references_to_take(k, 30, 30) for k in (1, 3, 29)] == [1, 3, 29]
    assert references_to_take(0, 1, 1) == 1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("k", [5, 49, 50, 400, 1199])
def test_tensors_are_scored_where_they_are(device, k, monkeypatch):
    embeds = torch.from_numpy(clusters(1200)).float()
    labels = torch.zeros(1200, dtype=torch.int64)
    expected = sample_diversity_score(embeds, labels, num_neighbors=k)
    # A tensor on the CPU goes to numpy; left as it is, it goes the way of a GPU's, by topk.
    for module in (arrays, diversity):
        monkeypatch.setattr(module, "on_its_device", lambda embeds, name="": embeds)
    found = sample_diversity_score(embeds.to(device), labels, num_neighbors=k)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, expected, rtol=5e-6)
    embeds = unit(clusters(300)).astype(np.float32)
    references = np.arange(0, 300, 3)
    np.testing.assert_allclose(
        diversity._mean_distances(torch.from_numpy(embeds).to(device), slice(None), 60, references),
        diversity._mean_distances(embeds, slice(None), 60, references),
        rtol=5e-6,
    )


def test_memory_is_a_class_and_a_block():
    embeds, labels = np.random.default_rng(0).normal(size=(6000, 16)).astype(np.float32), np.zeros(6000, dtype=int)
    tracemalloc.start()
    sample_diversity_score(embeds, labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6  # a matrix of all distances takes 144 MB, lists of the neighbours 14


def test_class_diversity_is_what_the_public_function_gives():
    embeds = clusters(500)
    whole = class_diversity(torch.from_numpy(unit(embeds).astype(np.float32)), neighbor_count(500, 0.1, None))
    assert (whole.num_references, whole.relative_error) == (None, None)
    np.testing.assert_allclose(whole.scores, sample_diversity_score(embeds, np.zeros(500, dtype=int)), rtol=1e-6)
    single = class_diversity(torch.ones(1, 4) / 2, neighbor_count(1, 0.1, None))
    assert single.scores.tolist() == [0]


# --- nearest rows


def slow_nearest(embeds, m):
    cosines = unit(embeds) @ unit(embeds).T
    np.fill_diagonal(cosines, -np.inf)
    return -np.sort(-cosines, axis=1)[:, :m]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("num_rows", "k", "m"), [(2, 1, 32), (33, 3, 32), (700, 70, 32), (700, 20, 5), (1300, 130, 32)]
)
def test_nearest_rows_equal_brute_force(device, num_rows, k, m, monkeypatch):
    monkeypatch.setattr(diversity, "_BLOCK_ELEMENTS", 200_000)
    embeds = unit(clusters(num_rows)).astype(np.float32)
    embeds[num_rows // 2 :: 3] = embeds[0]  # copies: a row is never its own neighbour
    alone = class_diversity(embeds, k)
    assert alone.nearest is None and alone.cosines is None
    if device != "cpu":
        embeds = torch.from_numpy(embeds).to(device)
    found = class_diversity(embeds, k, num_nearest=m)
    np.testing.assert_allclose(found.scores, alone.scores, rtol=0 if device == "cpu" else 5e-6)
    m = min(m, num_rows - 1)
    assert found.nearest.shape == found.cosines.shape == (num_rows, m)
    assert (found.nearest.dtype, found.cosines.dtype) == (np.int32, np.float32)
    embeds = np.asarray(torch.as_tensor(embeds).cpu())
    np.testing.assert_allclose(found.cosines, slow_nearest(embeds, m), atol=1e-6)
    rows = np.arange(num_rows)
    assert (found.nearest != rows[:, None]).all()
    assert all(len(set(row)) == m for row in found.nearest.tolist())
    np.testing.assert_allclose(found.cosines, np.einsum("nd,nmd->nm", embeds, embeds[found.nearest]), atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_nearest_rows_of_a_tensor(device, monkeypatch):
    embeds = unit(clusters(700)).astype(np.float32)
    expected = class_diversity(embeds, 70, num_nearest=32)
    # Left as it is, a tensor on the CPU goes the way of a GPU's.
    for module in (arrays, diversity):
        monkeypatch.setattr(module, "on_its_device", lambda embeds, name="": embeds)
    found = class_diversity(torch.from_numpy(embeds).to(device), 70, num_nearest=32)
    assert (found.nearest.dtype, found.cosines.dtype) == (np.int32, np.float32)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=5e-6)
    np.testing.assert_allclose(found.cosines, expected.cosines, atol=1e-6)
    assert (found.nearest == expected.nearest).mean() > 0.999  # rounding may swap neighbours


def test_nearest_rows_of_four_by_hand():
    # On the circle at 0, 10, 40 and 85 degrees.
    angles = np.deg2rad([0, 10, 40, 85])
    embeds = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = class_diversity(embeds, 1, num_nearest=2)
    assert found.nearest.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    np.testing.assert_allclose(found.cosines, np.cos(np.deg2rad([[10, 40], [10, 30], [30, 40], [45, 75]])), atol=1e-6)


def test_a_single_row_has_no_nearest_ones():
    found = class_diversity(np.ones((1, 4), dtype=np.float32) / 2, 0, num_nearest=32)
    assert found.scores.tolist() == [0] and found.nearest.shape == found.cosines.shape == (1, 0)


# --- number of neighbours


@pytest.mark.parametrize(
    ("num_rows", "fraction", "num_neighbors", "k"),
    [(1, 0.1, None, 0), (2, 0.1, None, 1), (25, 0.1, None, 3), (25, 1.0, None, 24), (25, 0.1, 7, 7), (5, 0.1, 7, 4)],
)
def test_neighbor_count(num_rows, fraction, num_neighbors, k):
    assert neighbor_count(num_rows, fraction, num_neighbors) == k


# --- estimates


@pytest.fixture
def small_limit(monkeypatch):
    """Half of the estimator's sizes, which takes a quarter of the time."""
    monkeypatch.setattr(diversity, "EXACT_UP_TO", 5000)
    monkeypatch.setattr(diversity, "_MIN_REFERENCES", 2048)


@pytest.mark.parametrize("seed", [0, 1])
def test_an_estimate_is_as_good_as_is_told(seed, small_limit):
    embeds = unit(clusters(6000, seed=seed)).astype(np.float32)
    estimated = class_diversity(embeds, 600)
    assert estimated.num_references == 2048
    exact = diversity._mean_distances(embeds, slice(None), 600)
    ranks = [scores.argsort().argsort() for scores in (estimated.scores, exact)]
    assert np.corrcoef(ranks)[0, 1] >= 0.96
    error = np.sqrt(np.mean((estimated.scores.astype(np.float64) - exact) ** 2)) / exact.std()
    assert error == pytest.approx(estimated.relative_error, rel=0.2)


def test_nearest_rows_are_not_estimated(small_limit):
    embeds = unit(clusters(6000)).astype(np.float32)
    found, alone = class_diversity(embeds, 600, num_nearest=8), class_diversity(embeds, 600)
    assert found.num_references == alone.num_references == 2048
    np.testing.assert_array_equal(found.scores, alone.scores)
    some = np.arange(0, 6000, 200)
    cosines = embeds[some] @ embeds.T
    cosines[np.arange(len(some)), some] = -np.inf
    np.testing.assert_allclose(found.cosines[some], -np.sort(-cosines, axis=1)[:, :8], atol=1e-6)


def test_small_groups_that_a_sample_misses_are_not_estimated(small_limit):
    # A row whose group is not among the references seems far from its like; the variance in groups does not tell.
    rng = np.random.default_rng(0)
    centres = unit(rng.normal(size=(500, 32)))
    radii = np.exp(rng.uniform(np.log(0.01), 0, 500))
    groups = np.repeat(np.arange(500), 12)
    embeds = centres[groups] + radii[groups, None] * rng.normal(size=(6000, 32)) / 32**0.5
    assert class_diversity(unit(embeds).astype(np.float32), 10).num_references is None


def test_an_estimate_is_repeated_and_told(small_limit, caplog):
    embeds = clusters(5200, dim=8)
    labels = np.repeat([3, 5], [5100, 100])
    first = sample_diversity_score(embeds, labels)
    [record] = caplog.records
    assert "Class 3 has 5,100 rows: its diversity scores were estimated from 2,048 random ones" in record.getMessage()
    np.testing.assert_array_equal(sample_diversity_score(embeds, labels), first)
    alone = sample_diversity_score(embeds[5100:], np.zeros(100, dtype=int))
    np.testing.assert_allclose(first[5100:], alone, rtol=1e-6)


def test_how_long_the_exact_scores_of_a_large_class_take_is_told_once(small_limit, caplog):
    rows = np.random.default_rng(0).normal(size=(5200, 16))
    embeds = unit(rows).astype(np.float32)
    with collected_warnings() as warnings:
        scores = class_diversity(embeds, 520).scores
        listed = class_diversity(embeds[:5000], 500)
    [told] = caplog.messages
    assert re.fullmatch(r"The 5,200 rows of a class are compared exactly, .* this takes about \d+ seconds\.", told)
    assert warnings == []  # another machine would take another time for the same scores
    np.testing.assert_array_equal(scores, diversity._mean_distances(embeds, slice(None), 520))
    assert listed.num_references is None


@pytest.mark.parametrize("k", [520, 20])
def test_no_estimate_where_it_would_be_far_off(k, small_limit, caplog):
    # Rows of one cloud are all about as far from their like; and of 20 neighbours 2,048 references hold 8.
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(5200, 16 if k == 520 else 8))
    embeds = torch.from_numpy(unit(rows)).float()
    result = class_diversity(embeds, k)
    assert result.num_references is None
    np.testing.assert_array_equal(result.scores, diversity._mean_distances(embeds, slice(None), k))


def test_a_class_too_large_to_be_exact_is_estimated_with_the_error_told(monkeypatch, caplog):
    # 1,500 rows of one cloud: no 512 of them tell how far a row is from its like, and more may not be compared.
    monkeypatch.setattr(diversity, "EXACT_UP_TO", 700)
    monkeypatch.setattr(diversity, "_MIN_REFERENCES", 256)
    embeds = unit(np.random.default_rng(0).normal(size=(1500, 16))).astype(np.float32)
    estimated = class_diversity(embeds, 20)
    assert estimated.num_references == 2 * 700**2 // 1500 == 653
    exact = diversity._mean_distances(embeds, slice(None), 20)
    error = np.sqrt(np.mean((estimated.scores.astype(np.float64) - exact) ** 2)) / exact.std()
    assert error == pytest.approx(estimated.relative_error, rel=0.1) and error > 0.25
    [told] = caplog.messages
    assert re.fullmatch(
        r"The 1,500 rows of a class are compared with 653 random ones .* takes about \d+ seconds\.", told
    )
    np.testing.assert_array_equal(class_diversity(embeds, 20).scores, estimated.scores)
    copies = class_diversity(np.ones((1500, 4), dtype=np.float32) / 2, 150)
    assert (copies.num_references, copies.relative_error) == (653, 0) and not copies.scores.any()


def test_the_part_that_is_done_is_told(monkeypatch):
    monkeypatch.setattr(diversity, "_BLOCK_ELEMENTS", 40_000)
    parts = []
    class_diversity(unit(clusters(400)).astype(np.float32), 40, told=parts.append)
    np.testing.assert_allclose(parts, [128 / 400, 256 / 400, 384 / 400, 1])


def test_a_class_of_duplicates_is_not_estimated(small_limit):
    embeds = torch.ones(5001, 4) / 2
    result = class_diversity(embeds, 500)
    assert result.num_references is None
    assert not result.scores.any()


def test_the_notice_gives_numbers():
    estimated = diversity.ClassDiversity(np.zeros(120_000, dtype=np.float32), 16_384, 0.1849)
    assert estimate_notice(3, 120_000, estimated) == (
        "Class 3 has 120,000 rows: its diversity scores were estimated from 16,384 random ones; their error is 0.18 "
        "of their spread, measured on 1,024 rows."
    )


# --- validation


@pytest.mark.parametrize(
    ("labels", "arguments", "message"),
    [
        ([0, 0, -1], {}, "labels must be 0 or more, got -1 in row 2"),
        ([0, 0], {}, "labels must be 3 integers"),
        ([0, 0, 0], {"neighbor_fraction": 0.0}, "neighbor_fraction"),
        ([0, 0, 0], {"neighbor_fraction": 1.5}, "neighbor_fraction"),
        ([0, 0, 0], {"num_neighbors": 0}, "num_neighbors"),
        ([0, 0, 0], {"num_neighbors": 1.5}, "num_neighbors"),
    ],
)
def test_diversity_says_what_is_wrong(labels, arguments, message):
    with pytest.raises(InputError, match=message):
        sample_diversity_score(np.eye(3), np.array(labels), **arguments)

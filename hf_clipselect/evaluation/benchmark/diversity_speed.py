"""Sample diversity against its matrix products alone, scikit-learn and float64."""

import signal
import time
from contextlib import suppress
from importlib import import_module

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from ...scores.diversity import _mean_distances, class_diversity, sample_diversity_score
from ..comparison.peers import is_installed
from .bench import Bench, Timing
from .machine import one_thread
from .made_data import clustered_embeddings
from .memory import PeakMemory, in_fresh_process


def diversity(bench: Bench) -> None:
    """SDS on one thread, against its matrix products alone, scikit-learn and float64."""
    small, large, queries = bench.rows(5000), bench.rows(50_000), bench.rows(1024)
    embeds, labels = clustered_embeddings(small), np.zeros(small, dtype=np.int64)
    with one_thread():
        seconds = bench.timed(
            {
                "ours": lambda: sample_diversity_score(embeds, labels),
                "products": lambda: matrix_products(embeds),
                "sklearn": lambda: sklearn_distances(embeds, small, small // 10),
            },
            repeats=15,
        )
        bench.report("sds_products", seconds["ours"].cpu, seconds["products"].cpu)
        bench.report("sds_sklearn", seconds["ours"].cpu, seconds["sklearn"].cpu)
        against_faiss(bench, "sds_faiss", embeds, small, seconds["ours"])
        many = clustered_embeddings(large)
        seconds = bench.timed(
            {
                "ours": lambda: some_distances(many, queries, large // 10),
                "sklearn": lambda: sklearn_distances(many, queries, large // 10),
            },
            repeats=2,
        )
        scale = large / queries
        bench.report("sds_sklearn_large", scale * seconds["ours"].cpu, scale * seconds["sklearn"].cpu)
        against_faiss(bench, "sds_faiss_large", many, queries, seconds["ours"])
        errors = relative_errors(max(200, small))
        bench.report("sds_error", float(np.max(list(errors.values()))), by_num_neighbors=errors)
    extra = in_fresh_process(diversity_memory, large)
    bench.report("sds_memory", extra["peak"] / 1e6, 150.0, bytes_and_seconds=extra)
    if bench.on_gpu:
        unit = torch.from_numpy(many).to(bench.device)
        sides = {"ours": lambda: class_diversity(unit, large // 10), "products": lambda: matrix_products(unit)}
        seconds = bench.timed(sides, repeats=3)
        bench.report("sds_gpu", seconds["ours"].wall, seconds["products"].wall)
    else:
        bench.leave_out("sds_gpu")


def against_faiss(bench: Bench, name: str, embeds: np.ndarray, queries: int, ours: Timing) -> None:
    """The row of faiss for so many rows of a class, from both of which all of them are extrapolated."""
    if not is_installed("faiss-cpu"):
        bench.leave_out(name, because="faiss-cpu is not installed")
        return
    sides = {"faiss": lambda: faiss_distances(embeds, queries, len(embeds) // 10)}
    scale = len(embeds) / queries
    bench.report(name, scale * ours.cpu, scale * bench.timed(sides, repeats=2)["faiss"].cpu)


def some_distances(embeds: np.ndarray, queries: int, k: int) -> np.ndarray:
    """SDS of the first rows of a class: a whole class of 50,000 takes a minute."""
    return _mean_distances(torch.from_numpy(embeds), slice(0, queries), k)


def sklearn_distances(embeds: np.ndarray, queries: int, k: int) -> np.ndarray:
    """The same as the authors get it: the k nearest rows and the row itself as lists, and the mean distance."""
    distances, _ = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(embeds).kneighbors(embeds[:queries])
    return distances[:, 1:].mean(axis=1)


def faiss_distances(embeds: np.ndarray, queries: int, k: int) -> np.ndarray:
    """The same with the exact index of faiss."""
    faiss = import_module("faiss")  # no part of this package
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(embeds.shape[1])
    index.add(embeds)
    cosines, _ = index.search(embeds[:queries], k + 1)
    return np.sqrt(np.maximum(2 - 2 * cosines[:, 1:], 0)).mean(axis=1)


def matrix_products(embeds: np.ndarray | torch.Tensor, block: int = 1024) -> None:
    """All cosines of a class, a block of rows at a time, and nothing else."""
    products = np.empty((block, len(embeds)), np.float32) if isinstance(embeds, np.ndarray) else None
    for start in range(0, len(embeds), block):
        rows = embeds[start : start + block]
        if products is None:
            rows @ embeds.T
        else:
            np.matmul(rows, embeds.T, out=products[: len(rows)])


def relative_errors(rows: int) -> dict[str, float]:
    """The largest relative error of SDS in one class, by the number of neighbours; from 50 of them up."""
    embeds, labels = clustered_embeddings(rows), np.zeros(rows, dtype=np.int64)
    exact = embeds.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    cosines = exact @ exact.T
    np.fill_diagonal(cosines, -np.inf)
    errors = {}
    for k in sorted({max(50, rows // 100), max(50, rows // 10)}):
        scores = sample_diversity_score(embeds, labels, num_neighbors=k)
        nearest = np.partition(cosines, rows - k, axis=1)[:, rows - k :]
        expected = np.sqrt(np.maximum(2 - 2 * nearest, 0)).mean(axis=1)
        errors[str(k)] = float(np.max(np.abs(scores - expected) / expected))  # Python's max would lose a NaN
    return errors


def diversity_memory(rows: int, seconds: int = 10) -> dict[str, float]:
    """Memory of `sample_diversity_score` over its inputs; it is stopped when it only repeats what it did."""
    embeds, labels = clustered_embeddings(rows), np.zeros(rows, dtype=np.int64)
    sample_diversity_score(embeds[:100], labels[:100])  # what is loaded at the first use
    signal.signal(signal.SIGALRM, stop)
    with PeakMemory() as memory, suppress(TimeoutError):
        start = time.perf_counter()
        signal.alarm(seconds)
        sample_diversity_score(embeds, labels)
        signal.alarm(0)
    end = time.perf_counter()
    return {
        "peak": memory.peak - memory.before,
        "peak_of_first_half": memory.peak_between(start, (start + end) / 2) - memory.before,
        "seconds": end - start,
    }


def stop(*_: object) -> None:
    raise TimeoutError

"""What the objective `robust` adds: herding against sample diversity, the noise model against one matrix product."""

from collections.abc import Callable

import numpy as np

from ...scores.diversity import sample_diversity_score
from ...scores.noise_model import estimate_label_noise
from ...selection.herding_order import herding_order
from .bench import Bench
from .machine import num_cores, one_thread
from .made_data import mislabelled_embeddings


SIZES = ((50_000, 10), (100_000, 100), (100_000, 1000))
# Rows that are multiplied at a time: the product of all of them need not fit into memory.
_BLOCK_ROWS = 8192


def noise(bench: Bench) -> None:
    """Herding of all rows against their SDS, and the noise model against a product: on one thread, then on all."""
    for full_rows, full_classes in SIZES:
        rows = bench.rows(full_rows)
        classes = min(full_classes, max(2, rows // 20))
        sides = sides_of(*mislabelled_embeddings(rows, classes))
        with one_thread():
            seconds = {name: timing.cpu for name, timing in bench.timed(sides, repeats=3).items()}
        on_all_cores = {name: timing.wall for name, timing in bench.timed(sides).items()}
        figures = {"rows": rows, "classes": classes, "cores": num_cores(), "seconds_on_all_cores": on_all_cores}
        size = f"{full_rows}_{full_classes}"
        bench.report(f"herding_{size}", seconds["herding"], seconds["sds"], **figures)
        bench.report(f"noise_model_{size}", seconds["noise model"], seconds["product"], **figures)


def sides_of(embeds: np.ndarray, texts: np.ndarray, labels: np.ndarray) -> dict[str, Callable[[], object]]:
    class_rows = [np.flatnonzero(labels == label) for label in range(len(texts))]
    return {
        "herding": lambda: [herding_order(embeds[rows], seed=0) for rows in class_rows],
        "sds": lambda: sample_diversity_score(embeds, labels),
        "noise model": lambda: estimate_label_noise(embeds, texts, labels),
        "product": lambda: product(embeds, texts),
    }


def product(embeds: np.ndarray, texts: np.ndarray) -> None:
    """The products of all rows with all classes, and nothing else."""
    products = np.empty((_BLOCK_ROWS, len(texts)), dtype=np.float32)
    for start in range(0, len(embeds), _BLOCK_ROWS):
        rows = embeds[start : start + _BLOCK_ROWS]
        np.matmul(rows, texts.T, out=products[: len(rows)])

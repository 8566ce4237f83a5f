"""A selection from ready embeddings against its own matrix products, and what more of it costs."""

from collections.abc import Callable
from functools import partial

import numpy as np

from ...pipeline.embeddings import select_embeddings
from .bench import Bench
from .machine import one_thread
from .made_data import mislabelled_embeddings
from .noise_speed import product


def embeddings(bench: Bench) -> None:
    """`select_embeddings` without adapters, on one thread, in a thousand classes and in ten thousand."""
    rows = bench.rows(100_000)
    images, texts, labels = mislabelled_embeddings(rows, max(2, rows // 100))
    select = partial(select_embeddings, images, texts, labels, adaptation="off")
    sides: dict[str, Callable[[], object]] = {
        "diverse": lambda: select(objective="diverse", selection_ratio=0.3),
        "products": lambda: both_products(images, texts, labels),
        "robust": lambda: select(objective="robust", selection_ratio=0.3),
        "auto": lambda: select(objective="robust", selection_ratio="auto"),
    }
    with one_thread():
        seconds = {name: timing.cpu for name, timing in bench.timed(sides, repeats=2).items()}
        bench.report("embeddings_1000", seconds["diverse"], seconds["products"])
        bench.report("embeddings_robust", seconds["robust"], seconds["diverse"])
        bench.report("embeddings_auto", seconds["auto"], seconds["robust"])
        images, texts, labels = mislabelled_embeddings(rows, max(2, rows // 10))
        many_classes: dict[str, Callable[[], object]] = {
            "diverse": lambda: select_embeddings(
                images, texts, labels, adaptation="off", objective="diverse", selection_ratio=0.3
            ),
            "products": lambda: both_products(images, texts, labels),
        }
        timings = bench.timed(many_classes)
    bench.report("embeddings_10000", timings["diverse"].cpu, timings["products"].cpu)


def both_products(images: np.ndarray, texts: np.ndarray, labels: np.ndarray) -> None:
    """Those of all rows with all classes, and of the rows of a class with each other."""
    product(images, texts)
    for rows in np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1]):
        product(images[rows], images[rows])

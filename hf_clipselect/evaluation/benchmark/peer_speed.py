"""Packages that people use for the same work on the same embeddings, where they are installed (the extra `peers`)."""

import multiprocessing
import time
from collections.abc import Callable
from importlib import import_module

import numpy as np

from ...pipeline.embeddings import select_embeddings
from ..comparison.peers import (
    cleanlab_issue_scores,
    facility_location_rows,
    is_installed,
    out_of_fold_probabilities,
)
from ..cost import Cost, measured
from .bench import Bench
from .machine import one_thread
from .made_data import mislabelled_embeddings
from .memory import in_fresh_process


def peers(bench: Bench) -> None:
    """cleanlab and apricot, on one thread; in processes of their own, so that their memory can be told apart."""
    rows = bench.rows(50_000)
    if is_installed("cleanlab"):
        ours = in_fresh_process(cost_of_ours, rows)
        probabilities, issues, datalab = in_fresh_process(costs_of_cleanlab, rows)
        costs = {"ours": vars(ours), "probabilities": vars(probabilities), "issues": vars(issues)}
        costs["datalab"] = vars(datalab)
        bench.report("cleanlab_issues", ours.cpu_s, (probabilities + issues).cpu_s, costs=costs)
        bench.report("cleanlab_datalab", ours.cpu_s, (probabilities + datalab).cpu_s, costs=costs)
        bench.report("cleanlab_memory", ours.peak_mb, (probabilities + datalab).peak_mb, costs=costs)
    else:
        names = ("cleanlab_issues", "cleanlab_datalab", "cleanlab_memory")
        bench.leave_out(*names, because="cleanlab is not installed")
    if is_installed("apricot-select"):
        seconds = in_fresh_process(seconds_with_apricot, max(50, bench.rows(5000)))
        bench.report("apricot", seconds["ours"], seconds["apricot"])
    else:
        bench.leave_out("apricot", because="apricot-select is not installed")


def cost_of_ours(rows: int) -> Cost:
    def select(images: np.ndarray, texts: np.ndarray, labels: np.ndarray) -> None:
        select_embeddings(images, texts, labels, objective="robust", adaptation="off", selection_ratio=0.3)

    select(*mislabelled_embeddings(200, 10))  # what is loaded at the first use
    data = mislabelled_embeddings(rows, 10)
    with one_thread(), measured() as cost:
        select(*data)
    return cost


def costs_of_cleanlab(rows: int) -> tuple[Cost, Cost, Cost]:
    """Out-of-fold probabilities, the label issues by them, and all checks of a Datalab by them and the embeddings."""
    multiprocessing.set_start_method("fork", force=True)  # else the processes that it starts import all of this again
    num_classes = 10
    datalab_class = import_module("cleanlab").Datalab  # no part of this package

    def find_all(embeds: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> None:
        lab = datalab_class({"label": labels}, label_name="label", task="classification", verbosity=0)
        lab.find_issues(features=embeds, pred_probs=probabilities)

    images, _, labels = mislabelled_embeddings(200, num_classes)
    probabilities = out_of_fold_probabilities(images, labels, num_classes=num_classes, seed=0)
    cleanlab_issue_scores(probabilities, labels, seed=0)
    find_all(images, probabilities, labels)
    images, _, labels = mislabelled_embeddings(rows, num_classes)
    with one_thread(), measured() as training:
        probabilities = out_of_fold_probabilities(images, labels, num_classes=num_classes, seed=0)
    with one_thread(), measured() as issues:
        cleanlab_issue_scores(probabilities, labels, seed=0)
    with one_thread(), measured() as datalab:
        find_all(images, probabilities, labels)
    return training, issues, datalab


def seconds_with_apricot(rows: int) -> dict[str, float]:
    """CPU seconds of both to keep three tenths of the rows."""
    images, texts, labels = mislabelled_embeddings(rows, 10)
    sides: dict[str, Callable[[int], object]] = {
        "ours": lambda count: select_embeddings(
            images[:count], texts, labels[:count], objective="diverse", adaptation="off", selection_ratio=0.3
        ),
        "apricot": lambda count: facility_location_rows(images[:count], int(0.3 * count), max_gigabytes=8),
    }
    seconds = {}
    for name, run in sides.items():
        with one_thread():
            run(50)  # numba compiles at the first use
            start = time.process_time()
            run(rows)
            seconds[name] = time.process_time() - start
    return seconds

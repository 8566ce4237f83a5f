"""Measure a selection against the plain ways of doing the same work, both sides in one run.

    python recipes/benchmark.py                                   # every ratio, on 50,000 generated images of
    CIFAR-10's size python recipes/benchmark.py --dataset_name uoft-cs/cifar10    # the same on real images
    python recipes/benchmark.py --only diversity selection        # some of them
    python recipes/benchmark.py --scaling                         # how the cost of each stage grows, to 1,000,000 rows
    python recipes/benchmark.py --memory                          # a whole selection from 1,280,000 rows, and its
    memory

Prints a table of ratios with their targets; exits with 1 if a target is missed, with 2 for wrong input. The two sides
of a ratio take turns and the least of their times counts: CPU seconds, which other programs disturb less, or seconds
where a GPU does the work. `--output_dir` keeps the tables (tables.md) and every figure (results.json). Reads /proc, so
it needs Linux.
"""

import os
import sys


# Python puts this folder first on its path, where select.py would hide the standard library's `select`.
_HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder or os.getcwd()) != _HERE]
os.environ["PYTHONSAFEPATH"] = "1"  # the same for the processes that are started here

import argparse
import io
import json
import math
import multiprocessing
import resource
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib.metadata import version
from itertools import cycle
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pyarrow as pa
import torch
from datasets import ClassLabel, Dataset, Features, Image
from PIL.ImageFile import ImageFile
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessorPil, CLIPModel

from hf_clipselect import SelectionResult, sample_diversity_score, select_embeddings
from hf_clipselect.adapters import Projections
from hf_clipselect.adapters.losses import info_nce_loss
from hf_clipselect.adapters.mlp import MlpAdapterConfig
from hf_clipselect.adapters.placing import new_adapters
from hf_clipselect.adapters.training import Schedule, train_adapters
from hf_clipselect.config.arguments import DEFAULT_PROMPT_TEMPLATE, EMBEDDED_MODEL, AdaptationArguments, Arguments
from hf_clipselect.data import LabelledImages, prepare_dataset, with_image_column_undecoded
from hf_clipselect.data.prompts import class_prompts
from hf_clipselect.data.source import load_source
from hf_clipselect.embedded import tiny_clip_path
from hf_clipselect.encoder import Backbone, encode_dataset, encode_prompts, load_backbone, open_image
from hf_clipselect.encoder.cache import FeatureCache
from hf_clipselect.encoder.feature_rows import FeatureRows
from hf_clipselect.encoder.features import features_key
from hf_clipselect.errors import InputError
from hf_clipselect.pipeline.provenance import identity, recipe_origin
from hf_clipselect.pipeline.run import run_selection
from hf_clipselect.results.report.thumbnails import NUM_SHOWN
from hf_clipselect.results.run_folder import RunFolder
from hf_clipselect.runtime.files import write_text_atomically
from hf_clipselect.runtime.launch import make_accelerator
from hf_clipselect.runtime.terminal import error_line
from hf_clipselect.scores.alignment import semantic_alignment_score
from hf_clipselect.scores.diversity import _mean_distances, class_diversity
from hf_clipselect.selection import (
    NUM_NEAREST,
    NeighborGraph,
    class_graph,
    duplicate_groups,
    joined_graph,
    redundancy_scores,
    sgd_select,
    top_k,
)


EPOCHS = 30
SCORING_PASSES = 2
BATCH = 64
TRAIN_BATCH = 256
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
GB = 1e9
PACKAGES = ("torch", "numpy", "transformers", "datasets", "scikit-learn")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        what (`str`): What is compared.
        unit (`str`): Of both sides; `CLOCK` for times by the clock that counts on the machine.
        ratio (`str`): "ours / other" or "other / ours".
        target (`str`): Bound of the ratio, such as "<= 1.1"; empty where there is none.
    """

    what: str
    unit: str
    ratio: str = "ours / other"
    target: str = ""


HEAD = ("what", "ours", "other side", "ratio", "target", "met")
FASTER, SHARE = "other / ours", "ours / other"
CLOCK = "CPU s, or s with a GPU"
TABLE = {
    "encode": Row(
        "encoding / (decoding and preprocessing alone + the model alone), all on all cores", "CPU s", SHARE, "<= 1.1"
    ),
    "rate_decoding": Row("images/s: encoding / decoding alone", "images/s", SHARE),
    "rate_model": Row("images/s: encoding / model alone", "images/s", SHARE),
    "encode_gpu": Row("encoding / the slower of decoding alone and model alone", "images/s", SHARE, ">= 0.9"),
    "matmul_rate": Row("encoding's model FLOP/s / rate of a large bf16 matrix product", "TFLOP/s", SHARE),
    "sds_products": Row(
        "SDS of a class of 5,000 x 512 / its matrix products alone, one thread", "CPU s", SHARE, "<= 1.5"
    ),
    "sds_sklearn": Row(
        "scikit-learn's NearestNeighbors, which the authors use / SDS, 5,000 x 512", "CPU s", FASTER, ">= 3"
    ),
    "sds_sklearn_large": Row("the same at 50,000 x 512, both from 1,024 rows", "CPU s", FASTER, ">= 4"),
    "sds_error": Row("largest relative error of SDS against float64, 50 neighbours and more", "", SHARE, "<= 1e-5"),
    "sds_memory": Row("extra memory of SDS over its inputs, 50,000 x 512 / 150 MB", "MB", SHARE, "<= 1"),
    "sds_gpu": Row("SDS, one class of 50,000 / its matrix products alone, on the GPU", "s", SHARE),
    "top_k": Row("the authors' loop, written out in numpy / `exact`, 50,000 scores", "CPU s", FASTER, ">= 1000"),
    "top_k_partition": Row("`exact` / one np.partition, 10 million scores", "CPU s", SHARE, "<= 5"),
    "top_k_equal": Row(
        "random, tied, constant, signed-zero and tiny scores: `exact` equal to a stable sort / all", "", SHARE, ">= 1"
    ),
    "sgd_iterations": Row(
        "iterations of `sgd` at 10,000, 100,000 and 1,000,000 rows: most / least", "", SHARE, "<= 1.05"
    ),
    "redundancy": Row(
        "greedy of `--redundancy_weight` and groups of copies / SDS with its neighbours, 10 classes of 5,000",
        "CPU s",
        SHARE,
        "<= 0.15",
    ),
    "training": Row(
        "encoding in each of 30 epochs, extrapolated / training on cached features", CLOCK, FASTER, ">= 20"
    ),
    "selection": Row(
        "30 such epochs and two scoring passes, extrapolated / the whole selection, its encoding pass included",
        CLOCK,
        FASTER,
        ">= 12",
    ),
    "selection_large": Row(
        "32 encoding passes / the whole selection, CLIP of ViT-B/32's size, both extrapolated (aim: 25)",
        CLOCK,
        FASTER,
        ">= 12",
    ),
    "results_decoded": Row("images decoded to join scores, select and write a subset", "", SHARE, "<= 0"),
    "results_memory": Row("memory that this takes / all images, as stored and decoded", "MB", SHARE, "<= 0.5"),
    "report_decoded": Row(
        "images decoded by a run that trains on cached features / its report's thumbnails", "", SHARE, "<= 1"
    ),
    "run_memory": Row("largest anonymous memory after encoding / (1.5 GB + 2 x largest class)", "GB", SHARE, "<= 1"),
    **{
        f"scaling_{stage}": Row(f"exponent of the cost of {stage}", "", SHARE, "<= 1.1")
        for stage in ("encoding", "training", "scoring", "selecting", "writing")
    },
    "scaling_sgd": Row("exponent of the cost of sgd", ""),
}


@dataclass(frozen=True)
class Timing:
    """Least CPU seconds, of this process and of children that have ended, and least seconds of a side's repeats."""

    cpu: float
    wall: float


@dataclass
class Bench:
    """What the measurements share: the arguments, a scratch folder, the images, and where the figures go."""

    arguments: argparse.Namespace
    folder: Path
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    stages: dict[str, dict[str, float]] = field(default_factory=dict)

    @cached_property
    def device(self) -> torch.device:
        return make_accelerator().device

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def clock(self) -> str:
        """What counts as the time of a side: a GPU works while the CPU waits."""
        return "wall" if self.on_gpu else "cpu"

    @property
    def clock_unit(self) -> str:
        return "s" if self.on_gpu else "CPU s"

    def rows(self, count: int) -> int:
        """`count` where a full run has 50,000 rows, and its share of --rows."""
        return max(20, count * self.arguments.rows // 50_000)

    @cached_property
    def dataset_name(self) -> str:
        if self.arguments.dataset_name is not None:
            return self.arguments.dataset_name
        rows = self.rows(50_000)
        image_dataset(np.arange(rows) % 10, CLASS_NAMES, pictures(rows, 32)).save_to_disk(self.folder / "images")
        return str(self.folder / "images")

    @cached_property
    def images(self) -> LabelledImages:
        return load_images(self.dataset_name, self.rows(50_000))

    @cached_property
    def selection_arguments(self) -> Arguments:
        """A whole selection with the tiny CLIP, adapters included."""
        values = {"dataset_name": self.dataset_name, "max_train_samples": self.rows(50_000)}
        values |= {"model_name_or_path": EMBEDDED_MODEL, "bf16": self.on_gpu}
        values |= {"output_dir": str(self.folder / "run"), "adaptation": "always"}
        return Arguments.from_dict(values)

    def some_images(self, count: int) -> LabelledImages:
        """The first rows: a run of them, which `datasets` reads as fast as the whole."""
        images = self.images
        count = min(count, len(images.labels))
        return replace(
            images,
            dataset=images.dataset.select(range(count)),
            labels=images.labels[:count],
            source_index=images.source_index[:count],
        )

    def report(self, name: str, ours: float, other: float | None = None, **figures: Any) -> None:
        """Note one row of the table, and print it; a row without another side is a figure with a bound of its own."""
        row = TABLE[name]
        ratio = ours if other is None else ours / other if row.ratio == SHARE else other / ours
        bound = float(row.target.split()[1]) if row.target else 0.0
        met = None if not row.target else bool(ratio <= bound if row.target.startswith("<=") else ratio >= bound)
        unit = self.clock_unit if row.unit == CLOCK else row.unit
        result = {"what": row.what, "ours": ours, "other": other, "unit": unit, "ratio": ratio}
        self.results[name] = {**result, "target": row.target, "met": met, **figures}
        self._print(name)

    def leave_out(self, *names: str) -> None:
        """Rows that need a GPU, where there is none; they are neither met nor missed."""
        for name in names:
            row = TABLE[name]
            self.results[name] = {"what": row.what, "target": row.target, "met": None, "left_out": "no GPU here"}
            self._print(name)

    def _print(self, name: str) -> None:
        print(f"| {' | '.join(cells(self.results[name]))} |", flush=True)

    def timed(self, sides: Mapping[str, Callable[[], object]], *, repeats: int = 1) -> dict[str, Timing]:
        """Run the sides in turns, so that whatever else the machine does slows all of them, and keep the best of
        each.
        """
        timings: dict[str, list[Timing]] = {name: [] for name in sides}
        for _ in range(repeats):
            for name, run in sides.items():
                cpu, wall = cpu_seconds(), time.perf_counter()
                run()
                if self.on_gpu:
                    torch.cuda.synchronize()
                timings[name].append(Timing(cpu_seconds() - cpu, time.perf_counter() - wall))
        return {
            name: Timing(min(t.cpu for t in values), min(t.wall for t in values)) for name, values in timings.items()
        }

    def seconds(self, sides: Mapping[str, Callable[[], object]], *, repeats: int = 1) -> dict[str, float]:
        """The times of `timed` by the clock that counts here."""
        return {name: getattr(timing, self.clock) for name, timing in self.timed(sides, repeats=repeats).items()}


# Encoding


def encoding(bench: Bench) -> None:
    """`encode_dataset` with its defaults, the decoding alone, the model alone."""
    images = bench.some_images(bench.rows(50_000 if bench.on_gpu else 8192))
    model_name = str(large_clip(bench)) if bench.on_gpu else EMBEDDED_MODEL
    backbone = load_backbone(model_name, device=bench.device, bf16=bench.on_gpu)
    values = encoded_images(images)
    sizes = [min(BATCH, len(values) - start) for start in range(0, len(values), BATCH)]
    ready = pixel_batches(backbone, values[: 32 * BATCH], BATCH)
    batches = [batch.to(bench.device, backbone.model.dtype) for batch in ready]
    decode = partial(exhaust, pixel_batches(backbone, values, BATCH))
    forward = partial(forward_all, backbone, batches, sizes)
    sides = {"ours": lambda: encode_afresh(bench, images, backbone), "decoding": decode, "model": forward}
    if not bench.on_gpu:
        # Cores that share a processor take more CPU time for the same work when all of them are busy, as ours keeps
        # them; and threads that wait for each other burn it. So each side has the machine to itself, in pieces that
        # wait for nobody.
        sides["decoding_all_cores"] = lambda: decode_on_all_cores(backbone, values)
        sides["model_all_cores"] = lambda: forward_on_all_cores(backbone, batches, sizes)
    forward_all(backbone, batches[:2], sizes[:2])
    timings = bench.timed(sides, repeats=1 if bench.on_gpu else 6)
    cpu = {name: timing.cpu for name, timing in timings.items()}
    rates = {name: len(values) / timing.wall for name, timing in timings.items()}
    decoding_rate, model_rate = (max(rates[name], rates.get(f"{name}_all_cores", 0)) for name in ("decoding", "model"))
    if bench.on_gpu:
        bench.report("encode_gpu", rates["ours"], min(decoding_rate, model_rate), num_images=len(values))
    else:
        other = cpu["decoding_all_cores"] + min(cpu["model"], cpu["model_all_cores"])
        bench.report("encode", cpu["ours"], other, num_images=len(values), cpu_seconds=cpu, images_per_second=rates)
    bench.report("rate_decoding", rates["ours"], decoding_rate)
    bench.report("rate_model", rates["ours"], model_rate)
    if bench.on_gpu:
        with FlopCounterMode(display=False) as counter:
            forward_all(backbone, batches[:1], sizes[:1])
        flops = counter.get_total_flops() / sizes[0] / 1e12
        figures = {"tflop_per_image": flops, "model_alone_tflops": flops * model_rate}
        bench.report("matmul_rate", flops * rates["ours"], matmul_rate(bench) / 1e12, **figures)
    else:
        bench.leave_out("encode_gpu", "matmul_rate")


def encode_afresh(bench: Bench, images: LabelledImages, backbone: Backbone, *, num_workers: int | None = None) -> None:
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        encode_dataset(
            images, backbone, Path(folder), accelerator=make_accelerator(), batch_size=BATCH, num_workers=num_workers
        )


def encoded_images(images: LabelledImages) -> list[dict[str, Any]]:
    return with_image_column_undecoded(images)[:][images.image_column]


def preprocess(backbone: Backbone, values: list[dict[str, Any]]) -> torch.Tensor:
    images = [open_image(value) for value in values]
    return backbone.image_processor(images=images, return_tensors="pt")["pixel_values"]


def pixel_batches(backbone: Backbone, values: list[dict[str, Any]], batch_size: int) -> Iterable[torch.Tensor]:
    """Decoded and preprocessed batches in a plain loop; in other processes only where a GPU leaves the cores free."""
    on_gpu = backbone.model.device.type == "cuda"
    return torch.utils.data.DataLoader(
        values,
        batch_size=batch_size,
        collate_fn=partial(preprocess, backbone),
        pin_memory=on_gpu,
        num_workers=min(8, num_cores()) if on_gpu else 0,
    )


def decode_on_all_cores(backbone: Backbone, values: list[dict[str, Any]]) -> None:
    """Each core decodes its part in a process of its own, which hands nothing over."""

    def decode(part: list[dict[str, Any]]) -> None:
        torch.set_num_threads(1)  # the threads of the parent are not there after a fork
        exhaust(pixel_batches(backbone, part, BATCH))

    cores = num_cores()
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=decode, args=(values[core::cores],)) for core in range(cores)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError("A process that decodes alone failed.")


def forward_on_all_cores(backbone: Backbone, batches: list[torch.Tensor], sizes: list[int]) -> None:
    """The bare loop once for each core, on one thread, over its part of the batches."""
    cores = num_cores()
    with one_thread(), ThreadPoolExecutor(cores) as pool:
        loops = [pool.submit(forward_all, backbone, batches, sizes[core::cores]) for core in range(cores)]
        for loop in loops:
            loop.result()


def exhaust(items: Iterable[object]) -> None:
    for _ in items:
        pass


@torch.inference_mode()
def forward_all(backbone: Backbone, batches: list[torch.Tensor], sizes: list[int]) -> None:
    for size, batch in zip(sizes, cycle(batches), strict=False):
        backbone.model.get_image_features(pixel_values=batch[:size])


def matmul_rate(bench: Bench, size: int = 8192) -> float:
    """FLOP/s of a large bf16 matrix product: what the GPU can do, not what its data sheet says."""
    a, b = (torch.randn(size, size, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    seconds = bench.seconds({"product": lambda: [a @ b for _ in range(20)]}, repeats=3)["product"]
    return 20 * 2 * size**3 / seconds


# Sample diversity


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


def some_distances(embeds: np.ndarray, queries: int, k: int) -> np.ndarray:
    """SDS of the first rows of a class: a whole class of 50,000 takes a minute."""
    return _mean_distances(torch.from_numpy(embeds), slice(0, queries), k)


def sklearn_distances(embeds: np.ndarray, queries: int, k: int) -> np.ndarray:
    """The same as the authors get it: lists of the k nearest rows and the row itself, and the mean of their
    distances.
    """
    distances, _ = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(embeds).kneighbors(embeds[:queries])
    return distances[:, 1:].mean(axis=1)


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
    """Memory of `sample_diversity_score` over its inputs: after some seconds it only repeats what it did, and is
    stopped.
    """
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


# Selection


def selection(bench: Bench) -> None:
    """The exact solver against the authors' loop and a partition; iterations of solver sgd; redundancy against its
    graph.
    """
    scores = authors_scores(bench.rows(50_000))
    k = int(0.3 * len(scores))
    again = 100
    seconds = bench.timed(
        {"ours": lambda: [top_k(scores, k) for _ in range(again)], "loop": lambda: authors_loop(scores, k)}, repeats=3
    )
    bench.report("top_k", seconds["ours"].cpu / again, seconds["loop"].cpu, iterations=authors_loop(scores, k))
    many = np.random.default_rng(0).random(bench.rows(10_000_000), dtype=np.float32)
    k = int(0.3 * len(many))
    seconds = bench.timed(
        {"ours": lambda: top_k(many, k), "partition": lambda: np.partition(many, len(many) - k)}, repeats=5
    )
    bench.report("top_k_partition", seconds["ours"].cpu, seconds["partition"].cpu)
    equal = [
        np.array_equal(top_k(scores, k), np.sort(np.argsort(-scores, kind="stable")[:k]))
        for scores in awkward_scores((1, 2, 7, 1000, bench.rows(50_000)))
        for k in sorted({0, 1, len(scores) // 3, len(scores) - 1, len(scores)})
    ]
    bench.report("top_k_equal", sum(equal), len(equal))
    iterations = {}
    for rows in (bench.rows(10_000), bench.rows(100_000), bench.rows(1_000_000)):
        iterations[rows] = sgd_select(authors_scores(rows), int(0.3 * rows)).iterations
    bench.report("sgd_iterations", max(iterations.values()), min(iterations.values()), iterations=iterations)
    redundancy(bench)


def redundancy(bench: Bench) -> None:
    """What the greedy costs beside the graph that it needs, on one thread; the classes are alike, so one stands for
    ten.
    """
    size = max(200, bench.rows(5000))
    embeds = clustered_embeddings(size)
    class_rows = np.split(np.random.default_rng(0).permutation(10 * size), 10)

    def class_parts() -> tuple[np.ndarray, NeighborGraph]:
        diversity = class_diversity(embeds, size // 10, num_nearest=NUM_NEAREST)
        return diversity.scores, class_graph(diversity.nearest, diversity.cosines)

    with one_thread():
        scores, part = class_parts()
        graph = joined_graph([(rows, part) for rows in class_rows], 10 * size)
        many = np.empty(10 * size, np.float32)
        many[np.concatenate(class_rows)] = np.tile(scores, 10)
        sides = {
            "ours": lambda: (redundancy_scores(many, graph, 0.5), duplicate_groups(graph)),
            "graph": class_parts,
        }
        seconds = bench.timed(sides, repeats=5)
    bench.report(
        "redundancy", seconds["ours"].cpu, 10 * seconds["graph"].cpu, edges_per_row=len(graph.columns) / len(many)
    )


def authors_scores(rows: int) -> np.ndarray:
    """SAS + 0.1 SDS as the authors' code normalises them: the mean is 1.1."""
    return (2.2 * np.random.default_rng(0).beta(8, 8, rows)).astype(np.float32)


def authors_loop(scores: np.ndarray, k: int) -> int:
    """Algorithm 1 with the authors' settings: step 10 on d, momentum 0.9, beta 2, gap 5e-4 N. Gives its iterations.

    Its gradient is written out and everything is in place, which is several times faster than their autograd.
    """
    rows = len(scores)
    pull = {True: 10 * (2 - scores) / rows, False: 10 * (-2 - scores) / rows}  # by whether too many are kept
    logits, velocity, slope = np.ones_like(scores), np.zeros_like(scores), np.empty_like(scores)
    for iteration in range(100_000):
        count = int(np.count_nonzero(logits > 0))
        if abs(count - k) <= 5e-4 * rows:
            return iteration
        np.exp(np.negative(np.abs(logits, out=slope), out=slope), out=slope)
        slope /= np.square(1 + slope)  # p (1 - p)
        velocity *= 0.9
        velocity += np.multiply(slope, pull[count > k], out=slope)
        logits -= velocity
    raise RuntimeError(f"The loop is at {count} rows instead of {k}.")


def awkward_scores(sizes: Iterable[int]) -> Iterator[np.ndarray]:
    """Random, tied, constant, signed-zero and tiny inputs; the solver takes large ones another way than small ones."""
    rng = np.random.default_rng(0)
    for rows in sizes:
        yield rng.normal(size=rows).astype(np.float32)
        yield rng.integers(0, 5, rows).astype(np.float32)
        yield np.full(rows, 0.25, np.float32)
        yield rng.choice(np.array([-0.0, 0.0], np.float32), rows)
        yield rng.choice(np.array([-1.0, -0.0, 0.0, 1.0], np.float32), rows)
        yield (rng.normal(size=rows) * 1e-42).astype(np.float32)


# Adapters and the whole selection


def adapters(bench: Bench) -> None:
    """Training and a whole selection, against encoding every image in every epoch."""
    images, part = bench.images, bench.some_images(bench.rows(8192))
    backbone, naive, arguments = tiny_backbone(bench), tiny_backbone(bench), bench.selection_arguments
    folder = Path(arguments.run.output_dir) / "features"
    text = encode_prompts(backbone, class_prompts(images.class_names, [DEFAULT_PROMPT_TEMPLATE]), bench.folder)
    naive_pass(naive, bench.some_images(BATCH))  # the first passes prepare more than they compute
    # As in `encoding`, the other side gets whichever number of threads costs less.
    epoch, scoring_pass = partial(naive_epoch, naive, part, text), partial(naive_pass, naive, part)
    seconds = bench.seconds(
        {
            "epoch": epoch,
            "scoring pass": scoring_pass,
            "selection": lambda: select_afresh(arguments),
            "epoch, one thread": one_thread()(epoch),
            "scoring pass, one thread": one_thread()(scoring_pass),
        },
        repeats=2,
    )
    cached = encode_dataset(images, backbone, folder, accelerator=make_accelerator(), batch_size=BATCH)
    seconds |= bench.seconds({"training": lambda: train(backbone, cached.features, text, images.labels)})
    scale = len(images.labels) / len(part.labels)
    epochs, passes = (
        count * scale * min(seconds[side], seconds[f"{side}, one thread"])
        for side, count in (("epoch", EPOCHS), ("scoring pass", SCORING_PASSES))
    )
    how = f"epochs of {len(part.labels)} images, extrapolated to {EPOCHS} of {len(images.labels)}"
    bench.report("training", seconds["training"], epochs, other_side=how, seconds=seconds)
    report = json.loads((folder.parent / "report.json").read_text())
    figures = {"stages_s": report["seconds"], "adaptation": report["adaptation"]}
    bench.report("selection", seconds["selection"], epochs + passes, other_side=how, **figures)
    large_selection(bench)


def select_afresh(arguments: Arguments) -> None:
    shutil.rmtree(arguments.run.output_dir, ignore_errors=True)
    run_selection(arguments)


def large_selection(bench: Bench) -> None:
    """The same ratio for a CLIP of ViT-B/32's size with random weights, from a few images and synthetic features."""
    images, rows, steps = bench.some_images(bench.rows(8192 if bench.on_gpu else 256)), bench.rows(50_000), 300
    backbone = load_backbone(str(large_clip(bench)), device=bench.device, bf16=bench.on_gpu)
    rng = np.random.default_rng(0)
    features = FeatureRows([rng.standard_normal((rows, backbone.hidden_size), dtype=np.float32)])
    text = torch.from_numpy(rng.standard_normal((1, 10, backbone.model.text_projection.in_features), dtype=np.float32))
    embeds, labels = clustered_embeddings(rows, backbone.embed_dim), np.arange(rows) % 10
    workers = None if bench.on_gpu else 1  # as all rows would get them: so few images are not timed first
    sides = {
        "encoding": lambda: encode_afresh(bench, images, backbone, num_workers=workers),
        "naive encoding": lambda: naive_pass(backbone, images),
        "training": lambda: train(backbone, features, text, labels, num_steps=steps),
        "scoring and selecting": lambda: select_embeddings(embeds, embeds[:10], labels),
    }
    one = {} if bench.on_gpu else {f"{name}, one thread": one_thread()(run) for name, run in sides.items()}
    every = bench.seconds(sides | one)
    seconds = {name: min(every[name], every.get(f"{name}, one thread", math.inf)) for name in sides}
    scale = rows / len(images.labels)
    all_steps = Schedule.for_rows(rows, AdaptationArguments()).num_steps
    # Two trainings of full length: the trial on all rows but the held-out ones, and the final one.
    ours = scale * seconds["encoding"] + 2 * all_steps / steps * seconds["training"] + seconds["scoring and selecting"]
    other = (EPOCHS + SCORING_PASSES) * scale * seconds["naive encoding"]
    how = f"from {len(images.labels)} images and {steps} of 2 x {all_steps} steps, extrapolated; without the files"
    bench.report("selection_large", ours, other, seconds=every, both_sides=how, num_workers=workers)


def train(
    backbone: Backbone, features: FeatureRows, text: torch.Tensor, labels: np.ndarray, num_steps: int | None = None
) -> None:
    """One training on cached features, of the length that a run of these rows has at most."""
    arguments = AdaptationArguments(num_train_epochs=EPOCHS, train_batch_size=TRAIN_BATCH)
    schedule = Schedule.for_rows(len(labels), arguments)
    adapted = new_adapters(backbone.model, MlpAdapterConfig())
    train_adapters(
        adapted,
        features,
        text,
        labels,
        arguments=arguments,
        schedule=schedule,
        seed=0,
        accelerator=make_accelerator(),
        num_steps=num_steps or schedule.num_steps,
    )
    adapted.unload()


def naive_batches(backbone: Backbone, images: LabelledImages) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Every image decoded and encoded: what each pass costs that has no cache."""
    model, batches = backbone.model, pixel_batches(backbone, encoded_images(images), TRAIN_BATCH)
    for pixel_values, labels in zip(batches, torch.from_numpy(images.labels).split(TRAIN_BATCH), strict=True):
        with torch.no_grad():
            hidden = model.vision_model(pixel_values.to(model.device, model.dtype, non_blocking=True)).pooler_output
        yield hidden.float(), labels.to(model.device)


def naive_pass(backbone: Backbone, images: LabelledImages) -> None:
    exhaust(naive_batches(backbone, images))


def naive_epoch(backbone: Backbone, images: LabelledImages, text: torch.Tensor) -> None:
    """One epoch of the naive loop, with the adapters and the loss that ours has."""
    adapted = new_adapters(backbone.model, MlpAdapterConfig())
    projections = Projections(adapted).train()
    optimizer = torch.optim.Adam([p for p in projections.parameters() if p.requires_grad], lr=3e-4)
    for hidden, labels in naive_batches(backbone, images):
        image_embeds, text_embeds = projections(hidden, text.to(hidden.device))
        loss = info_nce_loss(image_embeds, text_embeds, labels, temperature=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    adapted.unload()


# Results and memory


def results(bench: Bench) -> None:
    """Joining, selecting and writing from the scores of a finished run: what is decoded, and what is held."""
    run_selection(bench.selection_arguments)  # finds everything done if `adapters` ran before
    figures = in_fresh_process(results_figures, bench.selection_arguments, bench.folder / "saved")
    values = encoded_images(bench.images)
    decoded = 3 * math.prod(open_image(values[0]).size) * len(values)
    # Small images decoded are hardly more than the groups of rows that are written: a copy of them as stored counts
    # too.
    stored = sum(os.path.getsize(value["path"]) if value["bytes"] is None else len(value["bytes"]) for value in values)
    bench.report("results_decoded", figures["decoded"])
    bench.report(
        "results_memory", figures["bytes"] / 1e6, (stored + decoded) / 1e6, stored_bytes=stored, decoded_bytes=decoded
    )
    bench.report("report_decoded", figures["decoded_by_run"], figures["thumbnails"], trained=figures["trained"])


def results_figures(arguments: Arguments, folder: Path) -> dict[str, Any]:
    dataset, _ = load_source(arguments.data.dataset_name)
    with decoded_images() as decoded, PeakMemory() as memory:
        result = SelectionResult.from_folder(arguments.run.output_dir).at(0.5)
        result.apply(dataset)
        result.save(folder, dataset)
    adapter = Path(arguments.run.output_dir) / "adapter"
    shutil.rmtree(adapter)  # so that the run trains again
    with decoded_images() as decoded_by_run:
        run_selection(arguments)
    return {
        "decoded": decoded[0],
        "bytes": memory.peak - memory.before,
        "decoded_by_run": decoded_by_run[0],
        "thumbnails": 4 * NUM_SHOWN,
        "trained": adapter.exists(),
    }


def whole_run_memory(bench: Bench) -> None:
    """--memory: a selection from 1.28 million rows whose features are there already, through the front door."""
    rows = bench.arguments.rows
    labels = uneven_labels(rows, min(1000, rows // 20))
    names = [f"class {label}" for label in range(int(labels.max()) + 1)]
    image_dataset(labels, names, pictures(1000, 8)).save_to_disk(bench.folder / "images")
    model = random_clip(bench.folder / "clip", hidden_size=512, projection_dim=512, image_size=8, patch_size=8)
    arguments = Arguments.from_dict(
        {
            "dataset_name": str(bench.folder / "images"),
            "model_name_or_path": str(model),
            "adaptation": "always",
            "output_dir": str(bench.folder / "run"),
            "train_batch_size": max(2, rows // 200),
            "num_train_epochs": 1,
            "min_train_steps": 200,
        }
    )
    in_fresh_process(write_random_features, arguments)
    figures = in_fresh_process(memory_of_stages, arguments)
    largest_class = int(np.bincount(labels).max()) * 512 * 4
    after = max(peak for stage, peak in figures["peaks"].items() if stage not in ("load", "encode"))
    bench.report("run_memory", after / GB, (1.5 * GB + 2 * largest_class) / GB, rows=rows, **figures)
    bench.stages = {
        stage: {"GB": peak / GB, "s": figures["seconds"][stage]} for stage, peak in figures["peaks"].items()
    }


def write_random_features(arguments: Arguments) -> None:
    """Fill the features folder of a run, under the key that the run will look for."""
    images = load_images(arguments.data.dataset_name)
    backbone = load_backbone(arguments.model.model_name_or_path)
    folder = RunFolder(Path(arguments.run.output_dir))
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.open(identity(images, backbone), overwrite=False)
    folder.write_config({"identity": identity(images, backbone)})
    key = features_key(images, backbone, batch_size=arguments.model.per_device_eval_batch_size)
    cache = FeatureCache(folder.features, key=key, num_rows=len(images.labels))
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((len(images.class_names), backbone.hidden_size), dtype=np.float32)
    for shard in cache.shards():
        noise = rng.standard_normal((shard.stop - shard.start, backbone.hidden_size), dtype=np.float32)
        cache.write(shard, noise + centres[images.labels[shard.start : shard.stop]], {})
    cache.write_manifest(complete=True)


def memory_of_stages(arguments: Arguments) -> dict[str, Any]:
    with PeakMemory() as memory:
        start = time.perf_counter()
        report = run_selection(arguments).report
        end = time.perf_counter()
    # The stages follow one another, and writing comes last.
    seconds = {stage: report["seconds"][stage] for stage in ("load", "encode", "adapt", "score", "select")}
    seconds["write"] = end - start - sum(seconds.values())
    peaks, begin = {}, start
    for stage, length in seconds.items():
        peaks[stage] = memory.peak_between(begin, begin + length)
        begin += length
    steps = report["adaptation"]["num_steps"]
    return {"peaks": peaks, "seconds": seconds, "before": memory.before, "training_steps": steps}


# Scaling


def scaling(bench: Bench) -> None:
    """--scaling: the time of each stage at 1 %, 10 % and all of the rows, and the exponent between them."""
    largest = bench.arguments.rows
    for stage, prepare in STAGES.items():
        seconds = {}
        for rows in (largest // 100, largest // 10, largest):
            run = prepare(bench, rows)
            seconds[rows] = bench.seconds({stage: run}, repeats=3 if rows < largest else 1)[stage]
        exponent = float(np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)[0])
        bench.report(f"scaling_{stage}", exponent)
        by_rows = {f"{rows:,} rows, {bench.clock_unit}": value for rows, value in seconds.items()}
        bench.stages[stage] = {**by_rows, "exponent": exponent}


def class_size(bench: Bench) -> int:
    """The same at every number of rows."""
    return min(1000, bench.arguments.rows // 200)


def scaled_encoding(bench: Bench, rows: int) -> Callable[[], object]:
    folder = bench.folder / f"encoding-{rows}"
    image_dataset(np.arange(rows) % 10, CLASS_NAMES, pictures(1000, 16)).save_to_disk(folder)
    images = load_images(str(folder))
    clip = random_clip(bench.folder / "small-clip", hidden_size=64, projection_dim=32, image_size=16, patch_size=8)
    return partial(encode_afresh, bench, images, load_backbone(str(clip)))


def scaled_training(bench: Bench, rows: int) -> Callable[[], object]:
    """One epoch."""
    embeds, labels = clustered_embeddings(rows, 96), np.arange(rows) % 10
    text = torch.from_numpy(clustered_embeddings(10, 96))[None]
    backbone, steps = tiny_backbone(bench), max(1, rows // TRAIN_BATCH)
    return lambda: train(backbone, FeatureRows([embeds]), text, labels, num_steps=steps)


def scaled_scoring(bench: Bench, rows: int) -> Callable[[], object]:
    """Both scores with classes of 1,000 rows and 1,000 prompts, whatever the number of rows."""
    embeds, labels = clustered_embeddings(rows, 128), np.arange(rows) // class_size(bench)
    texts = clustered_embeddings(1000, 128)
    return lambda: (
        semantic_alignment_score(embeds, texts, labels, kind="margin"),
        sample_diversity_score(embeds, labels),
    )


def scaled_selecting(bench: Bench, rows: int) -> Callable[[], object]:
    return partial(top_k, authors_scores(rows), int(0.3 * rows))


def scaled_sgd(bench: Bench, rows: int) -> Callable[[], object]:
    return partial(sgd_select, authors_scores(rows), int(0.3 * rows))


def scaled_writing(bench: Bench, rows: int) -> Callable[[], object]:
    """Joining the scores with the images, and the Parquet files of scores and subset."""
    labels = np.arange(rows) // class_size(bench)
    embeds = clustered_embeddings(rows, 8)
    names = [f"class {label}" for label in range(int(labels.max()) + 1)]
    result = select_embeddings(embeds, clustered_embeddings(len(names), 8), labels, class_names=names)
    image_dataset(labels, names, pictures(1000, 8)).save_to_disk(bench.folder / f"writing-{rows}")
    dataset, _ = load_source(str(bench.folder / f"writing-{rows}"))
    return partial(result.save, bench.folder / f"written-{rows}", dataset)


# Data and models


def load_images(dataset_name: str, max_samples: int | None = None) -> LabelledImages:
    return prepare_dataset(*load_source(dataset_name), max_samples=max_samples)


def image_dataset(labels: np.ndarray, class_names: Sequence[str], png_files: list[bytes]) -> Dataset:
    """Labelled images; the files are taken in turns."""
    features = Features({"image": Image(), "label": ClassLabel(names=list(class_names))})
    files = pa.array([{"bytes": png, "path": None} for png in png_files], type=features["image"].pa_type)
    table = pa.table({"image": files.take(pa.array(np.arange(len(labels)) % len(files))), "label": pa.array(labels)})
    return Dataset(table, info=datasets.DatasetInfo(features=features), split=datasets.NamedSplit("train"))


def pictures(count: int, size: int) -> list[bytes]:
    """PNG files of ten kinds in turns: coarse colours of the kind and of the picture, with grain."""
    rng = np.random.default_rng(0)
    kinds = rng.uniform(40, 215, (10, 4, 4, 3))
    files = []
    for number in range(count):
        coarse = kinds[number % 10] + rng.normal(0, 40, (4, 4, 3))
        pixels = coarse.repeat(size // 4, axis=0).repeat(size // 4, axis=1) + rng.normal(0, 12, (size, size, 3))
        buffer = io.BytesIO()
        PIL.Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, format="PNG")
        files.append(buffer.getvalue())
    return files


def uneven_labels(rows: int, classes: int) -> np.ndarray:
    """Every class has rows, the largest about three times as many as the smallest, in random order."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 1.5, classes)
    labels = rng.choice(classes, rows, p=weights / weights.sum())
    labels[:classes] = np.arange(classes)
    return rng.permutation(labels)


def clustered_embeddings(rows: int, width: int = 512) -> np.ndarray:
    """Unit-norm float32 rows around a few centres, as the images of a class lie."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((20, width), dtype=np.float32)
    embeds = rng.standard_normal((rows, width), dtype=np.float32)
    embeds += centres[rng.integers(0, 20, rows)]
    embeds /= np.linalg.norm(embeds, axis=1, keepdims=True)
    return embeds


def tiny_backbone(bench: Bench) -> Backbone:
    return load_backbone(EMBEDDED_MODEL, device=bench.device, bf16=bench.on_gpu)


def large_clip(bench: Bench) -> Path:
    """A CLIP of ViT-B/32's size: speed does not depend on the weights."""
    folder = bench.folder / "large-clip"
    return folder if folder.exists() else save_clip(folder, CLIPConfig(), image_size=224)


def random_clip(folder: Path, *, hidden_size: int, projection_dim: int, image_size: int, patch_size: int) -> Path:
    """A CLIP with towers of one layer."""
    if folder.exists():
        return folder
    tower = {
        "hidden_size": hidden_size,
        "intermediate_size": hidden_size,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
    }
    tower["projection_dim"] = projection_dim
    config = CLIPConfig(
        text_config=tower,
        vision_config={**tower, "image_size": image_size, "patch_size": patch_size},
        projection_dim=projection_dim,
    )
    return save_clip(folder, config, image_size=image_size)


def save_clip(folder: Path, config: CLIPConfig, *, image_size: int) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(tiny_clip_path())
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config.text_config, name, getattr(tokenizer, name))
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": image_size}, crop_size={"height": image_size, "width": image_size}
    ).save_pretrained(folder)
    return folder


# Tables


def markdown(figures: Mapping[str, Any]) -> str:
    """The tables of a run from what results.json holds; what could not be measured on the machine is left out."""
    measured = [cells(row) for row in figures["rows"].values() if "left_out" not in row]
    parts = ["## Measured\n", "Both sides and their ratio:\n", table(HEAD, *measured)]
    if stages := figures["stages"]:
        lines = ([stage, *map(number, values.values())] for stage, values in stages.items())
        parts += ["Stage by stage:\n", table(["stage", *next(iter(stages.values()))], *lines)]
    return "\n".join(parts)


def cells(result: Mapping[str, Any]) -> list[str]:
    """A line of the table from its figures."""
    if "left_out" in result:
        return [result["what"], result["left_out"], "", "", result["target"], ""]
    sides = [(result["ours"], result["unit"]), (result["other"], result["unit"]), (result["ratio"], "")]
    figures = ["" if value is None else f"{number(value)} {unit}".strip() for value, unit in sides]
    return [result["what"], *figures, result["target"], {True: "yes", False: "NO", None: ""}[result["met"]]]


def number(value: float) -> str:
    """Three digits that count."""
    return f"{float(f'{value:.3g}'):,g}"


def table(head: Sequence[str], *lines: Sequence[str]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *lines))


# Measuring


def cpu_seconds() -> float:
    """CPU time of this process with all its threads, and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def decoded_images() -> Iterator[list[int]]:
    """Count the images whose pixels this process decodes; one that is opened for its header alone is none."""
    count, original = [0], ImageFile.load

    def load(image: ImageFile) -> Any:
        count[0] += bool(image.tile)  # what is still to be decoded
        return original(image)

    ImageFile.load = load
    try:
        yield count
    finally:
        ImageFile.load = original


class PeakMemory:
    """Anonymous memory of this process (RssAnon) while a block runs, in bytes; pages of mapped files do not count."""

    def __enter__(self) -> "PeakMemory":
        self.before = self._anonymous()
        self._samples = [(time.perf_counter(), self.before)]
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def peak(self) -> int:
        return max(value for _, value in self._samples)

    def peak_between(self, start: float, end: float) -> int:
        return max((value for moment, value in self._samples if start <= moment <= end), default=0)

    def _sample(self) -> None:
        while not self._done.wait(0.005):
            self._samples.append((time.perf_counter(), self._anonymous()))

    @staticmethod
    def _anonymous() -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("RssAnon:")[1].split()[0])


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Memory that was freed here would hide what a function takes."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=be_quiet) as pool:
        return pool.submit(function, *arguments).result()


def num_cores() -> int:
    return len(os.sched_getaffinity(0))


def be_quiet() -> None:
    """Progress bars and warnings of each run would tear the table apart; errors come back as exceptions."""
    sys.stderr = open(os.devnull, "w")


def describe_machine() -> dict[str, Any]:
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "",
    )
    return {
        "cpu": cpu,
        "cores": num_cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GB, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch_threads": torch.get_num_threads(),
        **{package: version(package) for package in PACKAGES},
    }


MEASUREMENTS = {
    "encoding": encoding,
    "diversity": diversity,
    "selection": selection,
    "adapters": adapters,
    "results": results,
}
STAGES = {
    "encoding": scaled_encoding,
    "training": scaled_training,
    "scoring": scaled_scoring,
    "selecting": scaled_selecting,
    "sgd": scaled_sgd,
    "writing": scaled_writing,
}


def main() -> int:
    arguments = parse_arguments()
    start, machine = time.perf_counter(), describe_machine()
    print(", ".join(f"{name}: {value}" for name, value in machine.items()), end="\n\n")
    print(table(HEAD), end="")
    with tempfile.TemporaryDirectory(prefix="clipselect-benchmark-") as folder, open(os.devnull, "w") as nowhere:
        bench = Bench(arguments, Path(folder))
        try:
            with redirect_stderr(nowhere):  # as `be_quiet`
                for measure in measurements(arguments):
                    measure(bench)
        except InputError as error:
            sys.stderr.write(error_line(error))
            return 2
    seconds = time.perf_counter() - start
    missed = [name for name, result in bench.results.items() if result["met"] is False]
    figures = {"machine": machine, "arguments": vars(arguments), "seconds": seconds}
    figures |= {"rows": bench.results, "stages": bench.stages}
    tables = markdown(figures)
    if bench.stages:
        print(tables[tables.index("\nStage by stage:") :], end="")
    print(f"\n{seconds:.0f} s; missed targets: {', '.join(missed) or 'none'}")
    if arguments.output_dir:
        folder = Path(arguments.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        write_text_atomically(folder / "results.json", json.dumps(figures, indent=2) + "\n")
        head = f"{recipe_origin(__file__, *PACKAGES)}\n\n{machine['cores']} cores of {machine['cpu']}, {seconds:.0f} s.\n\n"
        write_text_atomically(folder / "tables.md", head + tables)
    return 1 if missed else 0


def measurements(arguments: argparse.Namespace) -> list[Callable[[Bench], None]]:
    if arguments.memory or arguments.scaling:
        return [whole_run_memory if arguments.memory else scaling]
    return [MEASUREMENTS[name] for name in arguments.only]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--dataset_name", help="Hub id or local folder of real images; default: 50,000 generated ones."
    )
    parser.add_argument(
        "--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS), help="Parts of the table."
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--scaling", action="store_true", help="How the cost of each stage grows with the rows.")
    kind.add_argument("--memory", action="store_true", help="Memory of a whole selection from 1,280,000 rows.")
    parser.add_argument(
        "--rows", type=int, help="Scale all sizes to so many rows; default 50,000 (1,000,000; 1,280,000)."
    )
    parser.add_argument("--output_dir", help="Folder for the tables, every figure and the machine.")
    arguments = parser.parse_args()
    if arguments.rows is None:
        arguments.rows = 1_000_000 if arguments.scaling else 1_280_000 if arguments.memory else 50_000
    return arguments


if __name__ == "__main__":
    sys.exit(main())

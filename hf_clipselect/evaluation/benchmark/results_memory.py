"""What joining the scores and writing the results decodes and holds, and the memory of a whole run."""

import math
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from ...config.arguments import Arguments
from ...data.source import load_source
from ...encoder.backbone import load_backbone
from ...encoder.cache import FeatureCache
from ...encoder.features import features_key
from ...encoder.images import open_image
from ...pipeline.provenance import identity
from ...pipeline.run import run_selection
from ...results.report.preview import MAX_IN_PREVIEW
from ...results.report.tiles import MAX_PICTURES
from ...results.run_folder import RunFolder
from ...results.selection_result import SelectionResult
from .bench import Bench
from .encoding_speed import encoded_images
from .made_data import image_dataset, load_images, pictures, random_clip, uneven_labels
from .memory import PeakMemory, decoded_images, in_fresh_process


GB = 1e9


def results(bench: Bench) -> None:
    """Joining, selecting and writing from the scores of a finished run: what is decoded, and what is held."""
    run_selection(bench.selection_arguments)  # finds everything done if `adapters` ran before
    figures = in_fresh_process(results_figures, bench.selection_arguments, bench.run_folder, bench.folder / "saved")
    values = encoded_images(bench.images)
    decoded = 3 * math.prod(open_image(values[0]).size) * len(values)
    # Small images decoded are hardly more than the groups of rows that are written: a copy of them as stored counts
    # too.
    stored = sum(os.path.getsize(value["path"]) if value["bytes"] is None else len(value["bytes"]) for value in values)
    bench.report("results_decoded", figures["decoded"], MAX_IN_PREVIEW)
    bench.report(
        "results_memory", figures["bytes"] / 1e6, (stored + decoded) / 1e6, stored_bytes=stored, decoded_bytes=decoded
    )
    bench.report("report_decoded", figures["decoded_by_run"], figures["pictures"], trained=figures["trained"])


def results_figures(arguments: Arguments, run_folder: Path, folder: Path) -> dict[str, Any]:
    dataset, _ = load_source(arguments.data.dataset_name)
    with decoded_images() as decoded, PeakMemory() as memory:
        result = SelectionResult.from_folder(run_folder).at(0.5)
        result.apply(dataset)
        result.save(folder, dataset)
    adapter = run_folder / "adapter"
    shutil.rmtree(adapter)  # so that the run trains again
    with decoded_images() as decoded_by_run:
        run_selection(arguments)
    return {
        "decoded": decoded[0],
        "bytes": memory.peak - memory.before,
        "decoded_by_run": decoded_by_run[0],
        "pictures": MAX_PICTURES + MAX_IN_PREVIEW,
        "trained": adapter.exists(),
    }


def whole_run_memory(bench: Bench) -> None:
    """--memory: whole selections from 1.28 million rows whose features are there, with adapters and without."""
    rows = bench.num_rows
    labels = uneven_labels(rows, min(1000, rows // 20))
    names = [f"class {label}" for label in range(int(labels.max()) + 1)]
    image_dataset(labels, names, pictures(1000, 8)).save_to_disk(bench.folder / "images")
    model = random_clip(bench.folder / "clip", hidden_size=512, projection_dim=512, image_size=8, patch_size=8)
    values = {
        "dataset_name": str(bench.folder / "images"),
        "model_name_or_path": str(model),
        "output_dir": str(bench.run_folder),
        "train_batch_size": max(2, rows // 200),
        "num_train_epochs": 1,
        "min_train_steps": 200,
    }
    largest_class = int(np.bincount(labels).max()) * 512 * 4
    for name, adaptation in (("run_memory", "always"), ("run_memory_plain", "off")):
        arguments = Arguments.from_dict({**values, "objective": "robust", "adaptation": adaptation})
        in_fresh_process(write_random_features, arguments, model, bench.run_folder)
        figures = in_fresh_process(memory_of_stages, arguments)
        shutil.rmtree(bench.run_folder)
        after = max(peak for stage, peak in figures["peaks"].items() if stage not in ("load", "encode"))
        bench.report(name, after / GB, (1.5 * GB + 2 * largest_class) / GB, rows=rows, **figures)
        for stage, peak in figures["peaks"].items():
            bench.stages[f"{stage}, adaptation {adaptation}"] = {"GB": peak / GB, "s": figures["seconds"][stage]}


def write_random_features(arguments: Arguments, model: Path, run_folder: Path) -> None:
    """Fill the features folder of a run, under the key that the run will look for."""
    images = load_images(arguments.data.dataset_name)
    backbone = load_backbone(str(model))
    folder = RunFolder(run_folder)
    run_folder.mkdir(parents=True, exist_ok=True)
    folder.open(identity(images, backbone), overwrite=False)
    folder.write_config({"identity": identity(images, backbone)})
    key = features_key(images, backbone, batch_size=64)
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

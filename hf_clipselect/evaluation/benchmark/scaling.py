"""How the cost of each stage grows with the number of rows."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from ...config.arguments import AdaptationArguments
from ...data.source import load_source
from ...encoder.backbone import load_backbone
from ...encoder.feature_rows import FeatureRows
from ...pipeline.embeddings import select_embeddings
from ...scores.alignment import semantic_alignment_score
from ...scores.diversity import sample_diversity_score
from ...selection import sgd_select, top_k
from .bench import Bench
from .encoding_speed import encode_afresh, tiny_backbone
from .made_data import CLASS_NAMES, clustered_embeddings, image_dataset, load_images, pictures, random_clip
from .selection_speed import authors_scores
from .training_speed import train


def class_size(bench: Bench) -> int:
    """The same at every number of rows."""
    return min(1000, bench.num_rows // 200)


def scaled_encoding(bench: Bench, rows: int) -> Callable[[], object]:
    folder = bench.folder / f"encoding-{rows}"
    image_dataset(np.arange(rows) % 10, CLASS_NAMES, pictures(1000, 16)).save_to_disk(folder)
    images = load_images(str(folder))
    clip = random_clip(bench.folder / "small-clip", hidden_size=64, projection_dim=32, image_size=16, patch_size=8)
    return partial(encode_afresh, bench, images, load_backbone(str(clip)))


def scaled_training(bench: Bench, rows: int) -> Callable[[], object]:
    """Adapters of one epoch, trial and final."""
    embeds, labels = clustered_embeddings(rows, 96), np.arange(rows) % 10
    text = torch.from_numpy(clustered_embeddings(10, 96))[None]
    backbone, arguments = tiny_backbone(bench), AdaptationArguments("always", num_train_epochs=1, min_train_steps=1)
    return lambda: train(backbone, FeatureRows([embeds]), text, labels, arguments)


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
    texts = clustered_embeddings(len(names), 8)
    result = select_embeddings(embeds, texts, labels, adaptation="off", class_names=names)
    image_dataset(labels, names, pictures(1000, 8)).save_to_disk(bench.folder / f"writing-{rows}")
    dataset, _ = load_source(str(bench.folder / f"writing-{rows}"))
    return partial(result.save, bench.folder / f"written-{rows}", dataset)


STAGES = {
    "encoding": scaled_encoding,
    "training": scaled_training,
    "scoring": scaled_scoring,
    "selecting": scaled_selecting,
    "sgd": scaled_sgd,
    "writing": scaled_writing,
}


def scaling(bench: Bench) -> None:
    """--scaling: the time of each stage at 1 %, 10 % and all of the rows, and the exponent between them."""
    largest = bench.num_rows
    for stage, prepare in STAGES.items():
        seconds = {}
        for rows in (largest // 100, largest // 10, largest):
            run = prepare(bench, rows)
            seconds[rows] = bench.seconds({stage: run}, repeats=3 if rows < largest else 1)[stage]
        exponent = float(np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)[0])
        bench.report(f"scaling_{stage}", exponent)
        by_rows = {f"{rows:,} rows, {bench.clock_unit}": value for rows, value in seconds.items()}
        bench.stages[stage] = {**by_rows, "exponent": exponent}

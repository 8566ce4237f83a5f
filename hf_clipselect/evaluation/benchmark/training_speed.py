"""Training on cached features and a whole selection, against encoding every image in every epoch."""

import json
import math
import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from ...adapters.losses import info_nce_loss
from ...adapters.mlp import MlpAdapterConfig
from ...adapters.placing import new_adapters
from ...adapters.projections import Projections
from ...adapters.training import Schedule, train_adapters
from ...config.arguments import DEFAULT_PROMPT_TEMPLATE, EMBEDDED_MODEL, AdaptationArguments
from ...data import LabelledImages
from ...data.prompts import class_prompts
from ...encoder.backbone import Backbone, load_backbone
from ...encoder.feature_rows import FeatureRows
from ...encoder.features import encode_dataset
from ...encoder.texts import encode_prompts
from ...pipeline.embeddings import select_embeddings
from ...pipeline.run import run_selection
from ...runtime.launch import make_accelerator
from .bench import Bench
from .encoding_speed import BATCH, encode_afresh, encoded_images, exhaust, pixel_batches
from .machine import one_thread
from .made_data import clustered_embeddings, large_clip


EPOCHS = 30
SCORING_PASSES = 2
TRAIN_BATCH = 256


def adapters(bench: Bench) -> None:
    """Training and a whole selection, against encoding every image in every epoch."""
    images, part = bench.images, bench.some_images(bench.rows(8192))
    backbone, naive = tiny_backbone(bench), tiny_backbone(bench)
    folder = bench.run_folder / "features"
    text = encode_prompts(backbone, class_prompts(images.class_names, [DEFAULT_PROMPT_TEMPLATE]), bench.folder)
    naive_pass(naive, bench.some_images(BATCH))  # the first passes prepare more than they compute
    # As in `encoding`, the other side gets whichever number of threads costs less.
    epoch, scoring_pass = partial(naive_epoch, naive, part, text), partial(naive_pass, naive, part)
    seconds = bench.seconds(
        {
            "epoch": epoch,
            "scoring pass": scoring_pass,
            "selection": lambda: select_afresh(bench),
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


def select_afresh(bench: Bench) -> None:
    shutil.rmtree(bench.run_folder, ignore_errors=True)
    run_selection(bench.selection_arguments)


def large_selection(bench: Bench) -> None:
    """The same ratio for a CLIP of ViT-B/32's size with random weights, from a few images and synthetic features."""
    images = bench.some_images(bench.rows(8192 if bench.on_gpu else 256))
    rows, steps = bench.rows(50_000), bench.rows(300)
    backbone = load_backbone(
        str(large_clip(bench.folder / "large-clip")),
        device=bench.device,
        precision="bfloat16" if bench.on_gpu else "float32",
    )
    rng = np.random.default_rng(0)
    features = FeatureRows([rng.standard_normal((rows, backbone.hidden_size), dtype=np.float32)])
    text_width: int = backbone.model.config.text_config.hidden_size
    text = torch.from_numpy(rng.standard_normal((1, 10, text_width), dtype=np.float32))
    embeds, labels = clustered_embeddings(rows, backbone.embed_dim), np.arange(rows) % 10
    workers = None if bench.on_gpu else 1  # as all rows would get them: so few images are not timed first
    sides = {
        "encoding": lambda: encode_afresh(bench, images, backbone, num_workers=workers),
        "naive encoding": lambda: naive_pass(backbone, images),
        "training": lambda: train(backbone, features, text, labels, num_steps=steps),
        "scoring and selecting": lambda: select_embeddings(embeds, embeds[:10], labels, adaptation="off"),
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
    batches = pixel_batches(backbone, encoded_images(images), TRAIN_BATCH)
    model: Any = backbone.model
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


def tiny_backbone(bench: Bench) -> Backbone:
    return load_backbone(EMBEDDED_MODEL, device=bench.device, precision="bfloat16" if bench.on_gpu else "float32")

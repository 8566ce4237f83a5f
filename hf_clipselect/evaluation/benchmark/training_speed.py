"""Training on cached features and a whole selection, against encoding every image in every epoch."""

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from ...adapters.decision import adapt
from ...adapters.losses import info_nce_loss
from ...adapters.mlp import MlpAdapterConfig
from ...adapters.placing import new_adapters
from ...adapters.projections import Projections
from ...config.arguments import AdaptationArguments
from ...data import LabelledImages
from ...encoder.backbone import Backbone
from ...encoder.feature_rows import FeatureRows
from ...pipeline.run import run_selection
from ...runtime.launch import make_accelerator
from .bench import Bench
from .encoding_speed import (
    BATCH,
    cached_features,
    encoded_images,
    exhaust,
    pixel_batches,
    prompt_features,
    tiny_backbone,
)
from .machine import one_thread


EPOCHS = 30
SCORING_PASSES = 2
TRAIN_BATCH = 256


def training(bench: Bench) -> None:
    """Adapters and a whole selection, against encoding every image in every epoch."""
    images, part = bench.images, bench.some_images(bench.rows(4096))
    backbone, naive = tiny_backbone(bench), tiny_backbone(bench)
    features, text = cached_features(bench, backbone), prompt_features(bench, backbone)
    naive_pass(naive, bench.some_images(BATCH))  # the first passes prepare more than they compute
    # As in `encoding`, the other side gets whichever number of threads costs less.
    epoch, scoring_pass = partial(naive_epoch, naive, part, text), partial(naive_pass, naive, part)
    sides: dict[str, Callable[[], object]] = {
        "epoch": epoch,
        "scoring pass": scoring_pass,
        "training": lambda: train(backbone, features, text, images.labels),
        "epoch, one thread": one_thread()(epoch),
        "scoring pass, one thread": one_thread()(scoring_pass),
    }
    seconds = bench.seconds(sides, repeats=2) | bench.seconds({"selection": lambda: select_afresh(bench)})
    scale = len(images.labels) / len(part.labels)
    epochs, passes = (
        count * scale * min(seconds[side], seconds[f"{side}, one thread"])
        for side, count in (("epoch", EPOCHS), ("scoring pass", SCORING_PASSES))
    )
    how = f"epochs of {len(part.labels)} images, extrapolated to {EPOCHS} of {len(images.labels)}"
    bench.report("training", seconds["training"], epochs, other_side=how, seconds=seconds)
    report = json.loads((bench.run_folder / "report.json").read_text())
    figures = {"stages_s": report["seconds"], "adaptation": report["adaptation"]}
    bench.report("selection", seconds["selection"], epochs + passes, other_side=how, **figures)


def select_afresh(bench: Bench) -> None:
    shutil.rmtree(bench.run_folder, ignore_errors=True)
    run_selection(bench.selection_arguments)


def train(
    backbone: Backbone,
    features: FeatureRows,
    text: torch.Tensor,
    labels: np.ndarray,
    arguments: AdaptationArguments | None = None,
) -> None:
    """Adapters as a run trains them: the trial, and the final ones on all rows."""
    adapted, _ = adapt(
        backbone.model,
        features,
        text,
        labels,
        arguments=arguments or AdaptationArguments(adaptation="always"),
        seed=42,
        accelerator=make_accelerator(),
    )
    adapted.unload()  # type: ignore[operator]  # a PeftModel, since they are always kept


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

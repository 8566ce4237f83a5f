"""A whole selection with a CLIP of ViT-B/32's size: what of it is not encoding, and what encoding each epoch costs."""

import math
import time
from collections.abc import Callable

import numpy as np
import torch

from ...config.arguments import Arguments
from ...encoder.backbone import Backbone, load_backbone
from ...encoder.feature_rows import FeatureRows
from ...pipeline.run import run_selection
from ..cost import cpu_seconds
from .bench import Bench
from .encoding_speed import encode_afresh
from .machine import one_thread
from .made_data import large_clip
from .memory import in_fresh_process
from .results_memory import write_random_features
from .training_speed import EPOCHS, SCORING_PASSES, naive_pass, train


def large_selection(bench: Bench) -> None:
    """Encoding from a few images; all else from a run that finds random features of all rows in its folder."""
    images = bench.some_images(bench.rows(8192 if bench.on_gpu else 128, least=4))
    rows = len(bench.images.labels)
    model = large_clip(bench.folder / "large-clip")
    backbone = load_backbone(str(model), device=bench.device, precision=bench.precision)
    workers = None if bench.on_gpu else 1  # as all rows would get them: so few images are not timed first
    sides: dict[str, Callable[[], object]] = {
        "encoding": lambda: encode_afresh(bench, images, backbone, num_workers=workers),
        "naive encoding": lambda: naive_pass(backbone, images),
    }
    one = {} if bench.on_gpu else {f"{name}, one thread": one_thread()(run) for name, run in sides.items()}
    every = bench.seconds(sides | one)
    seconds = {name: min(every[name], every.get(f"{name}, one thread", math.inf)) for name in sides}
    features, text = random_features(backbone, bench.images.labels, len(bench.images.class_names))
    every |= bench.seconds({"adapters": lambda: train(backbone, features, text, bench.images.labels)})
    folder = bench.folder / "large-run"
    changed = {"model_name_or_path": str(model), "output_dir": str(folder)}
    arguments = Arguments.from_dict({**bench.selection_arguments.to_dict(), **changed})
    in_fresh_process(write_random_features, arguments, model, folder)
    rest = in_fresh_process(cost_of_run, arguments)[bench.clock]
    encoding, naive = (rows / len(images.labels) * seconds[side] for side in sides)
    figures = {"seconds": every, "all_but_encoding": rest, "num_images": len(images.labels), "num_workers": workers}
    bench.report("selection_large", encoding + rest, (EPOCHS + SCORING_PASSES) * naive, **figures)
    bench.report("overhead", rest, encoding + rest)
    bench.report("adapters_part", every["adapters"], encoding + rest)


def random_features(backbone: Backbone, labels: np.ndarray, classes: int) -> tuple[FeatureRows, torch.Tensor]:
    """Image features around a centre for each class, and text features, as they are cached."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((len(labels), backbone.hidden_size), dtype=np.float32)
    features += rng.standard_normal((classes, backbone.hidden_size), dtype=np.float32)[labels]
    text_width: int = backbone.model.config.text_config.hidden_size
    return FeatureRows([features]), torch.from_numpy(rng.standard_normal((1, classes, text_width), dtype=np.float32))


def cost_of_run(arguments: Arguments) -> dict[str, float]:
    """Seconds of a run, of the CPU and by the clock on the wall, without the start of its process."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    run_selection(arguments)
    return {"cpu": cpu_seconds() - cpu, "wall": time.perf_counter() - wall}

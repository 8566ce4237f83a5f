"""The towers of a CLIP of ViT-B/32's size against a plain torch loop, and captions of which one is long."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from ...encoder.backbone import Backbone, head_features, load_backbone
from ...encoder.dual_encoder import of_model
from ...encoder.precision import available_precisions, encoder_arithmetic
from ...encoder.texts import encode_prompts
from ...encoder.tower import ImageTower
from .bench import Bench
from .encoding_speed import BATCH, forward_all
from .machine import one_thread
from .made_data import large_clip


def tower(bench: Bench) -> None:
    """The image tower as a run uses it, in every precision that is to be had here, on one thread."""
    count = bench.rows(4096 if bench.on_gpu else BATCH, least=4)
    pixels = torch.rand((min(BATCH, count), 3, 224, 224), generator=torch.Generator().manual_seed(0))
    batches, sizes = [pixels.to(bench.device)], [len(pixels)] * -(-count // len(pixels))
    name, precisions = str(large_clip(bench.folder / "large-clip")), available_precisions(bench.device)
    backbones = {precision: load_backbone(name, device=bench.device, precision=precision) for precision in precisions}
    sides: dict[str, Callable[[], object]] = {
        "plain": partial(forward_all, backbones["float32"], batches, sizes),
        **{precision: partial(encode_pixels, backbone, batches, sizes) for precision, backbone in backbones.items()},
    }
    with one_thread():
        for side in sides.values():  # the first passes prepare more than they compute
            side()
        seconds = bench.seconds(sides, repeats=3)
    ms = {side: 1000 * value / sum(sizes) for side, value in seconds.items()}
    if "bfloat16" in precisions:
        bench.report("tower", ms[bench.precision], ms["plain"], precision=bench.precision)
        bench.report("tower_bfloat16", ms["bfloat16"], ms["plain"])
    else:
        bench.leave_out("tower", "tower_bfloat16", because="no bfloat16 kernels here")
    bench.report("tower_float32", ms["float32"], ms["plain"])


def encode_pixels(backbone: Backbone, batches: list[torch.Tensor], sizes: list[int]) -> None:
    head = of_model(backbone.model).image_head
    with encoder_arithmetic(backbone.products, backbone.model.device), head_features(backbone.model, head) as run:
        encode = ImageTower(backbone, run)
        for size in sizes:
            encode({"pixel_values": batches[0][:size]})


def captions(bench: Bench) -> None:
    """Captions of about ten tokens, with and without one that is as long as the model reads."""
    name = str(large_clip(bench.folder / "large-clip"))
    backbone = load_backbone(name, device=bench.device, precision=bench.precision)
    short = [f"a photo of a red kite number {number}" for number in range(bench.rows(512))]
    long = [*short[1:], " ".join(["a photo of a red kite"] * 20)]
    sides = {
        "short": lambda: encode_texts(bench, backbone, short),
        "long": lambda: encode_texts(bench, backbone, long),
    }
    with one_thread():
        encode_texts(bench, backbone, short[:8])
        seconds = bench.seconds(sides, repeats=2)
    bench.report("captions", *(1000 * seconds[side] / len(short) for side in ("long", "short")))


def encode_texts(bench: Bench, backbone: Backbone, texts: list[str]) -> None:
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        encode_prompts(backbone, [texts], Path(folder))

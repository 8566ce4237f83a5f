"""Encoding against the decoding alone and the model alone."""

import multiprocessing
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ...config.arguments import DEFAULT_PROMPT_TEMPLATE, EMBEDDED_MODEL
from ...data import LabelledImages, with_image_column_undecoded
from ...data.prompts import class_prompts
from ...encoder.backbone import Backbone, load_backbone
from ...encoder.feature_rows import FeatureRows
from ...encoder.features import encode_dataset
from ...encoder.images import open_image
from ...encoder.precision import encoder_arithmetic
from ...encoder.texts import encode_prompts
from ...runtime.launch import make_accelerator
from .bench import Bench
from .machine import num_cores, one_thread
from .made_data import large_clip


BATCH = 64


def encoding(bench: Bench) -> None:
    """`encode_dataset` with its defaults, the decoding alone, the model alone."""
    images = bench.some_images(bench.rows(50_000 if bench.on_gpu else 8192))
    model_name = str(large_clip(bench.folder / "large-clip")) if bench.on_gpu else EMBEDDED_MODEL
    backbone = load_backbone(model_name, device=bench.device, precision=bench.precision)
    values = encoded_images(images)
    sizes = [min(BATCH, len(values) - start) for start in range(0, len(values), BATCH)]
    ready = pixel_batches(backbone, values[: 32 * BATCH], BATCH)
    batches = [batch.to(bench.device, backbone.model.dtype) for batch in ready]
    decode = partial(exhaust, pixel_batches(backbone, values, BATCH))
    forward = partial(forward_all, backbone, batches, sizes)
    sides: dict[str, Callable[[], object]] = {}
    sides |= {"ours": lambda: encode_afresh(bench, images, backbone), "decoding": decode, "model": forward}
    if not bench.on_gpu:
        # Cores that share a processor take more CPU time for the same work when all of them are busy, as ours keeps
        # them; and threads that wait for each other burn it. So each side has the machine to itself, in pieces that
        # wait for nobody.
        sides["decoding_all_cores"] = lambda: decode_on_all_cores(backbone, values)
        sides["model_all_cores"] = lambda: forward_on_all_cores(backbone, batches, sizes)
    forward_all(backbone, batches[:2], sizes[:2])
    with encoder_arithmetic(backbone.products, bench.device):  # for the model alone too
        timings = bench.timed(sides, repeats=1 if bench.on_gpu else 6)
    cpu = {name: timing.cpu for name, timing in timings.items()}
    rates = {name: len(values) / timing.wall for name, timing in timings.items()}
    decoding_rate, model_rate = (max(rates[name], rates.get(f"{name}_all_cores", 0)) for name in ("decoding", "model"))
    if bench.on_gpu:
        bench.report("encode_gpu", rates["ours"], min(decoding_rate, model_rate), num_images=len(values))
    else:
        other = cpu["decoding_all_cores"] + min(cpu["model"], cpu["model_all_cores"])
        bench.report("encode", cpu["ours"], other, num_images=len(values), cpu_seconds=cpu, images_per_second=rates)
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


def tiny_backbone(bench: Bench) -> Backbone:
    return load_backbone(EMBEDDED_MODEL, device=bench.device, precision=bench.precision)


def cached_features(bench: Bench, backbone: Backbone) -> FeatureRows:
    """Of all images; the second call finds them."""
    folder = bench.folder / "features"
    encoded = encode_dataset(bench.images, backbone, folder, accelerator=make_accelerator(), batch_size=BATCH)
    return encoded.features


def prompt_features(bench: Bench, backbone: Backbone) -> torch.Tensor:
    prompts = class_prompts(bench.images.class_names, [DEFAULT_PROMPT_TEMPLATE])
    return encode_prompts(backbone, prompts, bench.folder / "features")


def encoded_images(images: LabelledImages) -> list[dict[str, Any]]:
    return with_image_column_undecoded(images)[:][images.image_column]


def preprocess(backbone: Backbone, values: list[dict[str, Any]]) -> torch.Tensor:
    images = [open_image(value) for value in values]
    return backbone.image_processor(images=images, return_tensors="pt")["pixel_values"]


def pixel_batches(backbone: Backbone, values: list[dict[str, Any]], batch_size: int) -> Iterable[torch.Tensor]:
    """Decoded and preprocessed batches in a plain loop; in other processes only where a GPU leaves the cores free."""
    on_gpu = backbone.model.device.type == "cuda"
    return torch.utils.data.DataLoader(
        values,  # type: ignore[arg-type]  # any sequence will do
        batch_size=batch_size,
        collate_fn=partial(preprocess, backbone),
        pin_memory=on_gpu,
        num_workers=min(8, num_cores()) if on_gpu else 0,
    )


def decode_on_all_cores(backbone: Backbone, values: list[dict[str, Any]]) -> None:
    """Decode in one process for each core; the processes return nothing, so no time goes into copies."""

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
    """The plain loop of torch."""
    model: Any = backbone.model
    for size, batch in zip(sizes, cycle(batches), strict=False):
        model.get_image_features(pixel_values=batch[:size])


def matmul_rate(bench: Bench, size: int = 8192) -> float:
    """FLOP/s of a large bf16 matrix product: what the GPU can do, not what its data sheet says."""
    a, b = (torch.randn(size, size, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    seconds = bench.seconds({"product": lambda: [a @ b for _ in range(20)]}, repeats=3)["product"]
    return 20 * 2 * size**3 / seconds

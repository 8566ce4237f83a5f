"""In which arithmetic the frozen towers run: what a device has, what a run takes, and torch's setting around a pass.

float32 is what `auto` stands for. With bfloat16 the embeddings have a cosine of 0.9999 with those of float32 and are
several times cheaper, but a selection keeps other rows, since herding and strata hang on small differences.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from ..errors import InputError


def available_precisions(device: torch.device | str) -> tuple[str, ...]:
    """What the towers can run in without emulation: `float32`, and mostly `bfloat16`."""
    device = torch.device(device)
    has_bfloat16 = True
    if device.type == "cpu":
        has_bfloat16 = _cpu_has("avx512_bf16") or _cpu_has("amx_bf16")
    elif device.type == "cuda":
        with torch.cuda.device(device):
            has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return ("float32", "bfloat16") if has_bfloat16 else ("float32",)


def resolve_precision(wanted: str, device: torch.device | str, recorded: Mapping[str, Any] | None = None) -> str:
    """`float32` or `bfloat16`. `recorded` is the key of features that are there: `auto` goes on as they were made.

    Raises `InputError` where the device lacks the one that is wanted by name.
    """
    if wanted == "auto":
        return "bfloat16" if (recorded or {}).get("dtype") == "torch.bfloat16" else "float32"
    if wanted not in (available := available_precisions(device)):
        raise InputError(
            f"--precision {wanted} is not what this machine's {torch.device(device).type} computes in; it has "
            f"{' and '.join(available)}. Pass one that it has, or leave it out."
        )
    return wanted


def fastest_products(precision: str, device: torch.device | str) -> str:
    """How float32 products are computed, in the words of `torch.set_float32_matmul_precision`.

    On a GPU `"high"`, which is TF32. On a CPU `"medium"` where that means kernels of oneDNN that stay in float32, half
    as fast again on AMD's Zen 5 as those of MKL; with AMX they would multiply in bfloat16, and without AVX-512
    there are none. Else, and before torch 2.9, `"highest"`, torch's own default.
    """
    device = torch.device(device)
    if not _can_be_set():
        return "highest"
    if precision == "float32" and device.type == "cuda":
        return "high"
    if precision == "float32" and device.type == "cpu" and _has_onednn_float32():
        return "medium"
    return "highest"


@contextmanager
def encoder_arithmetic(products: str, device: torch.device) -> Iterator[None]:
    """Let torch compute float32 products in a block as [`fastest_products`] says; what was set before comes back.

    torch has one setting for all threads: a thread that wants another waits until the blocks of the others end.
    """
    backends: Any = torch.backends
    if not _can_be_set() or device.type not in _held:
        yield
        return
    wanted = {("cpu", "medium"): "bf16", ("cuda", "high"): "tf32"}.get((device.type, products), "ieee")
    if device.type == "cpu" and not _has_onednn_float32():
        wanted = "ieee"  # features that are there were begun on a machine of another kind
    with _held[device.type].as_wanted(
        backends.cuda.matmul if device.type == "cuda" else backends.mkldnn.matmul, wanted
    ):
        yield


class _Setting:
    """A setting of torch that threads share: those that want the same value have it at a time."""

    def __init__(self) -> None:
        self._changed, self._holders, self._value, self._before = threading.Condition(), 0, "", ""

    @contextmanager
    def as_wanted(self, backend: Any, value: str) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._holders == 0 or self._value == value)
            if self._holders == 0:
                self._before, self._value = backend.fp32_precision, value
                if (self._before, value) != ("none", "ieee"):  # which mean the same
                    backend.fp32_precision = value
            self._holders += 1
        try:
            yield
        finally:
            with self._changed:
                self._holders -= 1
                if self._holders == 0:
                    backend.fp32_precision = self._before
                    self._changed.notify_all()


_held = {"cpu": _Setting(), "cuda": _Setting()}


def _can_be_set() -> bool:
    return hasattr(torch.backends.mkldnn, "matmul")  # not before torch 2.9


@cache
def _has_onednn_float32() -> bool:
    return _cpu_has("avx512_bf16") and not _cpu_has("amx_bf16")


def _cpu_has(instructions: str) -> bool:
    if not hasattr(torch.cpu, "get_capabilities"):  # an older torch, which can't be asked
        return False
    return bool(torch.cpu.get_capabilities().get(instructions, False))

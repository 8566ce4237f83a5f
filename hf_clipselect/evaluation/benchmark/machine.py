"""The machine that is measured on: its processors and its threads."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_info, threadpool_limits

from ...encoder.threads import one_thread_each


PACKAGES = ("torch", "numpy", "transformers", "datasets", "scikit-learn")


@contextmanager
def one_thread() -> Iterator[None]:
    """Both torch and the libraries under numpy work on one thread."""
    with one_thread_each(torch.device("cpu")), threadpool_limits(1):
        yield


def num_cores() -> int:
    return len(os.sched_getaffinity(0))


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
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "blas": blas_kernels(),
        "torch_kernels": torch.backends.cpu.get_cpu_capability(),
        "torch_threads": torch.get_num_threads(),
        **{package: version(package) for package in PACKAGES},
    }


def blas_kernels() -> str:
    """The libraries under numpy and scipy, and for which processors the kernels are that they chose."""
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    names = (
        " ".join(str(library[part]) for part in ("internal_api", "version", "architecture") if library.get(part))
        for library in found
    )
    return "; ".join(sorted(set(names))) or "unknown"

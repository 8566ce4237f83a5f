"""A selection by two processes against one, on the cores of this machine."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from ...config.arguments import EMBEDDED_MODEL
from .bench import Bench


_FEW_ROWS = 500


def processes(bench: Bench) -> None:
    """Runs of all rows less runs of a few without adapters, which stand for the start-up; on the CPU."""
    dataset_name = bench.dataset_name  # generated here, not within the first launch
    few, many = min(_FEW_ROWS, bench.rows(_FEW_ROWS)), bench.rows(50_000)
    sides = {
        f"{count} at {rows}": partial(launch, bench.folder / f"launched-{count}-{rows}", dataset_name, count, flags)
        for rows, adaptation in ((few, "off"), (many, "always"))
        for flags in [["--max_train_samples", str(rows), "--adaptation", adaptation]]
        for count in (1, 2)
    }
    timings = bench.timed(sides)
    figures = {"seconds": {side: vars(timing) for side, timing in timings.items()}}
    for clock in ("cpu", "wall"):
        one, two = (
            getattr(timings[f"{count} at {many}"], clock) - getattr(timings[f"{count} at {few}"], clock)
            for count in (1, 2)
        )
        bench.report(f"processes_{clock}", two, one, **figures)


def launch(output_dir: Path, dataset_name: str, count: int, flags: list[str]) -> None:
    command = [sys.executable, "-m"]
    if count > 1:
        command += ["accelerate.commands.launch", "--multi_gpu", "--num_processes", str(count), "--module"]
    command += ["hf_clipselect", "select", "--use_cpu", "--dataset_name", dataset_name]
    command += ["--model_name_or_path", EMBEDDED_MODEL, "--output_dir", str(output_dir), *flags]
    done = subprocess.run(command, env={**os.environ, "ACCELERATE_USE_CPU": "true"}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{count} processes failed: {done.stderr[-2000:]}")

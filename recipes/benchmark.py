"""Measure a selection against the plain ways of doing the same work, both sides in one run.

    python recipes/benchmark.py                                 # every ratio, on 50,000 generated 32x32 images
    python recipes/benchmark.py --dataset_name uoft-cs/cifar10  # the same on real images
    python recipes/benchmark.py --only diversity selection      # some of them
    python recipes/benchmark.py --scaling                       # how the cost of each stage grows, to 1,000,000 rows
    python recipes/benchmark.py --memory                        # memory of a whole selection from 1,280,000 rows

Prints a table of ratios with their targets; exits with 1 if a target is missed, with 2 for wrong input. The two sides
of a ratio take turns and the least of their times counts: CPU seconds, which other programs disturb less, or seconds
where a GPU does the work. `--output_dir` keeps the tables (tables.md) and every figure (results.json). Variables that
choose slower kernels than the CPU has are unset here, and named in the first line. Packages that people use for the
same work are measured where they are installed: pip install "hf_clipselect[peers]". Reads /proc, so it needs Linux.
"""

import os
import sys


# Python puts this folder first on its path, where select.py would hide the standard library's `select`.
_HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder or os.getcwd()) != _HERE]
os.environ["PYTHONSAFEPATH"] = "1"  # the same for the processes that are started here

# They name kernels for older CPUs to OpenBLAS, NVPL, MKL, oneDNN, numpy and torch, which read them when imported.
_CRIPPLING = (
    "OPENBLAS_CORETYPE",
    "NVPL_BLAS_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_DEBUG_CPU_TYPE",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "NPY_DISABLE_CPU_FEATURES",
    "ATEN_CPU_CAPABILITY",
)
_LOADED = "numpy" in sys.modules  # by whoever runs this file within another program: too late
UNSET = [] if _LOADED else [f"{name}={os.environ.pop(name)}" for name in _CRIPPLING if name in os.environ]

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.benchmark import (
    HEAD,
    MEASUREMENTS,
    PACKAGES,
    Bench,
    cells,
    describe_machine,
    markdown,
    scaling,
    table,
    whole_run_memory,
)
from hf_clipselect.pipeline.provenance import recipe_origin
from hf_clipselect.runtime.files import write_text_atomically
from hf_clipselect.runtime.terminal import error_line


def main() -> int:
    arguments = parse_arguments()
    start, machine = time.perf_counter(), {**describe_machine(), "unset": ", ".join(UNSET) or "nothing"}
    print(", ".join(f"{name}: {value}" for name, value in machine.items()), end="\n\n")
    print(table(HEAD), end="")
    with tempfile.TemporaryDirectory(prefix="clipselect-benchmark-") as folder, open(os.devnull, "w") as nowhere:
        bench = Bench(Path(folder), arguments.rows, show, arguments.dataset_name)
        try:
            with redirect_stderr(nowhere):  # progress bars and warnings would tear the table apart
                for measure in measurements(arguments):
                    measure(bench)
        except InputError as error:
            sys.stderr.write(error_line(error))
            return 2
    seconds = time.perf_counter() - start
    missed = [name for name, result in bench.results.items() if result["met"] is False]
    figures = {"machine": machine, "arguments": vars(arguments), "seconds": seconds}
    figures |= {"rows": bench.results, "stages": bench.stages}
    tables = markdown(figures)
    if bench.stages:
        print(tables[tables.index("\nStage by stage:") :], end="")
    print(f"\n{seconds:.0f} s; missed targets: {', '.join(missed) or 'none'}")
    if arguments.output_dir:
        folder = Path(arguments.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        write_text_atomically(folder / "results.json", json.dumps(figures, indent=2) + "\n")
        kernels = f"BLAS {machine['blas']}, torch {machine['torch_kernels']}, unset {machine['unset']}"
        measured_on = f"{machine['cores']} cores of {machine['cpu']}, {seconds:.0f} s; {kernels}."
        head = f"{recipe_origin(__file__, *PACKAGES)}\n\n{measured_on}"
        write_text_atomically(folder / "tables.md", f"{head}\n\n{tables}")
    return 1 if missed else 0


def show(result: Mapping[str, Any]) -> None:
    print(f"| {' | '.join(cells(result))} |", flush=True)


def measurements(arguments: argparse.Namespace) -> list[Callable[[Bench], None]]:
    if arguments.memory or arguments.scaling:
        return [whole_run_memory if arguments.memory else scaling]
    return [MEASUREMENTS[name] for name in arguments.only]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--dataset_name", help="Hub id or local folder of real images; default: 50,000 generated ones."
    )
    parser.add_argument(
        "--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS), help="Parts of the table."
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--scaling", action="store_true", help="How the cost of each stage grows with the rows.")
    kind.add_argument("--memory", action="store_true", help="Memory of a whole selection from 1,280,000 rows.")
    parser.add_argument(
        "--rows", type=int, help="Scale all sizes to so many rows; default 50,000 (1,000,000; 1,280,000)."
    )
    parser.add_argument("--output_dir", help="Folder for the tables, every figure and the machine.")
    arguments = parser.parse_args()
    if arguments.rows is None:
        arguments.rows = 1_000_000 if arguments.scaling else 1_280_000 if arguments.memory else 50_000
    return arguments


if __name__ == "__main__":
    sys.exit(main())

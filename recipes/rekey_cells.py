"""Keep what a sweep of compare.py has computed, after a change of the package's code that changes no result.

    python recipes/rekey_cells.py --config recipes/digits/compare.yaml
    python recipes/rekey_cells.py --config recipes/digits/compare.yaml --output_dir recipes/results/digits_noise_20

The flags are those of compare.py, and --output_dir is the folder of the sweep. Three of its selections and the models
that are trained on them are computed again with the code as it is, and compared with results.csv and with the folder
cells/, whichever of the two is there: all figures but the costs must be equal, to the last bit. Then every cell gets
the key of today's code, and compare.py finds it. Where a result differs, the differences are printed, nothing is
changed, and the exit code is 1.
"""

import os
import sys


# Python puts this folder first on its path, where select.py would hide the standard library's `select`.
_HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder or os.getcwd()) != _HERE]
# Read when numpy and torch are imported: the number of threads decides last digits.
for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_threads] = "1"

import logging

from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.comparison import parse_sweep_arguments, rekey_cells
from hf_clipselect.pipeline.run_log import logged_to_stderr
from hf_clipselect.runtime.terminal import error_line


def main() -> int:
    try:
        with logged_to_stderr(logging.ERROR):
            result = rekey_cells(parse_sweep_arguments())
    except InputError as error:
        sys.stderr.write(error_line(error))
        return 2
    for line in result.compared:
        print(f"recomputed: {line}")
    for line in result.differences:
        print(f"DIFFERS: {line}")
    print(
        f"{len(result.compared)} results compared, {len(result.differences)} differences; "
        f"{result.num_rekeyed} cells rekeyed"
    )
    return 1 if result.differences else 0


if __name__ == "__main__":
    sys.exit(main())

"""Compare methods over several data sets, noises and ratios: regret to the best, and where random rows are better.

    python recipes/robust_features.py
    CLIPSELECT_DATA=folder python recipes/compare_regret.py recipes/robust/compare_*_development.yaml \\
        --output_dir compare_output/robust_development

Each YAML file is a sweep of compare.py. All must have the same methods, ratios and seeds, and train one model. What
was computed is kept in the folder that each file names: a run that was stopped goes on, and several processes may take
a file each (with an --output_dir of their own) before one goes over all.

Leaves in --output_dir accuracy.csv (a line for each data set, noise, ratio and seed, a column for each method, %),
noise.csv (estimated and true share of wrong labels, and how well the noise model, CLIP's margin and an out-of-fold
regression find them) and tables.md. Everything runs on one thread, so that any number of cores gives the same figures.
"""

import os
import sys


# Python puts this folder first on its path, where select.py would hide the standard library's `select`.
_HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder or os.getcwd()) != _HERE]
# Read when numpy and torch are imported: the number of threads decides last digits.
for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_threads] = "1"

import argparse
import logging

from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.comparison import (
    SweepArguments,
    noise_estimates,
    parse_sweep_arguments,
    run_sweep,
    settings_of,
    write_regret_tables,
)
from hf_clipselect.evaluation.comparison.peers import is_installed
from hf_clipselect.pipeline.provenance import recipe_origin
from hf_clipselect.pipeline.run_log import logged_to_stderr
from hf_clipselect.runtime.files import make_folder
from hf_clipselect.runtime.terminal import error_line


_METHODS = """\
All methods keep the same number of rows of each given class, its share, to within a row. `robust`, `diverse` and
`clean` select from one run of this package with adaptation "auto"; `robust_pool_random` takes random rows of the safe
pool of `robust`. All other methods get the embeddings as they are. `cleanlab` ranks by the normalized margin, and
`cleanlab_issues` are random rows without those that `find_label_issues` flags. `ccs_cutoff` drops as many of the
hardest rows as labels are wrong by the estimate of the noise model, by the score that CCS ranks by. On what is kept a
logistic regression is trained, with wrong labels as they are, and tested on untouched rows with right labels. Wrong
labels follow the class alone, as the noise model assumes; none are a person's."""


def main() -> int:
    flags = parse_arguments()
    try:
        with logged_to_stderr(logging.INFO):
            # Of the selections themselves, hundreds of them, only what goes wrong.
            logging.getLogger("hf_clipselect").setLevel(logging.ERROR)
            logging.getLogger("hf_clipselect.evaluation.comparison").setLevel(logging.INFO)
            sweeps = [parse_sweep_arguments(["--config", config]) for config in flags.configs]
            rows, noise_rows = [], []
            for arguments in sweeps:
                settings = settings_of(arguments)
                rows += run_sweep(arguments, settings)
                noise_rows += noise_estimates(settings)
        folder = make_folder(flags.output_dir, "--output_dir")
        peers = ["cleanlab"] if is_installed("cleanlab") else []
        head = recipe_origin(__file__, "torch", "scikit-learn", "numpy", *peers)
        write_regret_tables(rows, noise_rows, folder, origin=f"{head}\n\n{_METHODS}\n\n{described(sweeps)}")
    except InputError as error:
        sys.stderr.write(error_line(error))
        return 2
    print((folder / "tables.md").read_text(encoding="utf-8"))
    print(f"tables: {folder / 'tables.md'}, accuracy.csv, noise.csv")
    return 0


def described(sweeps: list[SweepArguments]) -> str:
    """The data sets with their seeds, rows and model."""
    lines = ["| data | rows | classes | seeds | model |", "|---|---|---|---|---|"]
    for arguments in sweeps:
        setting = settings_of(arguments)[0]
        seeds = ", ".join(map(str, arguments.seeds))
        sizes = f"{setting.num_rows:,} | {setting.num_classes}"
        lines.append(f"| {setting.name} | {sizes} | {seeds} | {setting.models[0]} |")
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", help="YAML files of sweeps, such as recipes/robust/compare_*.yaml.")
    parser.add_argument("--output_dir", default="compare_output/robust", help="Folder of the tables.")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

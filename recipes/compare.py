"""Compare methods that select rows: on the same data, with the same damage, at the same ratios, over several seeds.

    python recipes/compare.py --config recipes/digits/compare.yaml
    python recipes/compare.py --methods diverse random herding --selection_ratio 0.3 --seeds 0
    python recipes/compare.py --dataset_name features.npz --noise_kind pairwise
    python recipes/compare.py --dataset_name uoft-cs/cifar10 --architecture resnet-18 --methods robust random herding

The data are the embedded digits, on whose kept rows a small network is trained; a dataset of labelled images by its
Hub id or folder, which any dual encoder scores, and on whose kept rows networks are trained as train_classifier.py
trains them, on a GPU where there is one; or an .npz file of ready CLIP embeddings (`train_image_embeds`,
`train_labels`, `test_image_embeds`, `test_labels`, `class_text_embeds` and, where some classes have no text,
`class_has_text`), on which logistic regressions are. For each seed a share of the training labels is made wrong and a
share of the images damaged; the test rows stay untouched. Random rows and all rows are always among the methods;
cleanlab and apricot are where the extra `peers` is installed (pip install "hf_clipselect[peers]").

Leaves in --output_dir results.parquet and results.csv (a row for each method, ratio, seed and model), summary.csv
(means and standard deviations), tables.md, and plots; with --tsne_ratio also t-SNE of the test rows and the Dunn index
(tsne.md). All that is computed is kept in its folder cells/ under the hash of what decides it: a run that was stopped
goes on, and one with more methods, ratios or seeds computes what is new. After a change of the package's code that
changes no result, rekey_cells.py keeps what is there. Features of images are in its folder encoded/. A network whose
training was stopped is trained anew. On a CPU everything runs on one thread, so that any number of cores gives the
same figures.
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
from pathlib import Path

from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.comparison import parse_sweep_arguments, run_sweep, write_plots, write_tables, write_tsne
from hf_clipselect.pipeline.provenance import recipe_origin
from hf_clipselect.pipeline.run_log import logged_to_stderr
from hf_clipselect.runtime.terminal import error_line


def main() -> int:
    try:
        with logged_to_stderr(logging.INFO):
            # Of the selections themselves, hundreds of them, only what goes wrong.
            logging.getLogger("hf_clipselect").setLevel(logging.ERROR)
            logging.getLogger("hf_clipselect.evaluation.comparison").setLevel(logging.INFO)
            arguments = parse_sweep_arguments()
            rows = run_sweep(arguments)
    except InputError as error:
        sys.stderr.write(error_line(error))
        return 2
    folder = Path(arguments.output_dir)
    write_tables(rows, folder, origin=recipe_origin(__file__, "torch", "scikit-learn", "numpy"))
    plots = write_plots(rows, folder)
    if arguments.tsne_ratio is not None:
        plots += [path for path in write_tsne(arguments, arguments.tsne_ratio) if path.suffix == ".png"]
    print((folder / "tables.md").read_text(encoding="utf-8"))
    print(f"tables: {folder / 'results.csv'}, results.parquet, summary.csv, tables.md; plots: {len(plots)} files .png")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Put wrong labels into a file of embeddings with images, find them again, and draw the first suspects.

    CLIPSELECT_DATA=folder python recipes/robust_features.py
    python recipes/draw_suspects.py

Leaves in --output_dir suspects.png, the picture of the README, and tables.md: how many of the rows whose label looks
wrong are wrong. The images are of CIFAR-10, the embeddings those of recipes/cifar10/compare_images.yaml.
"""

import os
import sys


# Python puts this folder first on its path, where select.py would hide the standard library's `select`.
_HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder or os.getcwd()) != _HERE]

import argparse
from pathlib import Path

from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.comparison.features_setting import ReadyFeatures
from hf_clipselect.evaluation.suspects_picture import find_suspects
from hf_clipselect.pipeline.provenance import origin
from hf_clipselect.runtime.files import make_folder, write_text_atomically
from hf_clipselect.runtime.terminal import error_line


CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def main() -> int:
    arguments = parse_arguments()
    try:
        folder = make_folder(arguments.output_dir, "--output_dir")
        found = find_suspects(
            ReadyFeatures(Path(arguments.features)),
            arguments.class_names,
            noise_rate=arguments.noise_rate,
            num_drawn=arguments.num,
            seed=arguments.seed,
        )
    except InputError as error:
        sys.stderr.write(error_line(error))
        return 2
    found.picture.save(folder / "suspects.png", optimize=True)
    command = ["python", "recipes/draw_suspects.py", *sys.argv[1:]]
    head = origin(command, Path(_HERE), "torch", "scikit-learn", "numpy")
    write_text_atomically(folder / "tables.md", f"{head}\n\n{found.tables}")
    print(f"{folder / 'suspects.png'}\n{folder / 'tables.md'}")
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--features",
        default="compare_output/robust/cifar10_mapped_images.npz",
        help="File with embeddings and images.",
    )
    parser.add_argument("--class_names", nargs="+", default=CIFAR10, help="Of its classes, in order.")
    parser.add_argument("--noise_rate", type=float, default=0.2, help="Share of the labels to make wrong.")
    parser.add_argument("--num", type=int, default=8, help="Rows in the picture.")
    parser.add_argument("--seed", type=int, default=42, help="Of the noise and the selection.")
    parser.add_argument("--output_dir", default="figures_output/cifar10_suspects", help="Folder of the two files.")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

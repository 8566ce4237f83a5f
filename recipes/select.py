"""Turn a labelled image dataset into a smaller, cleaner one.

    accelerate launch recipes/select.py                                                    # the embedded digits
    accelerate launch recipes/select.py --dataset_name uoft-cs/cifar10 --selection_ratio 0.3 0.7
    accelerate launch recipes/select.py --config recipes/digits/select.yaml --selection_ratio 0.5

All flags: python recipes/select.py --help
"""

import os
import sys


# Python puts this folder first on its path, where this file would hide the standard library's `select`.
_HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder or os.getcwd()) != _HERE]

from hf_clipselect.cli import select


if __name__ == "__main__":
    sys.exit(select())

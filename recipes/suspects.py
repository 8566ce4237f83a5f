"""`hf-clipselect suspects` from a checkout: the most probably wrong labels of a selection, for a check by eye.

    python recipes/suspects.py clipselect_output

All flags: python recipes/suspects.py --help
"""

import os
import sys


# Python puts this folder first on its path, where select.py would hide the standard library's `select`.
_HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder or os.getcwd()) != _HERE]

from hf_clipselect.cli import main


if __name__ == "__main__":
    sys.exit(main(["suspects", *sys.argv[1:]]))

"""Select from shards of image-text pairs that outgrow one machine, with datatrove's executors.

    hf-clipselect select --dataset_name sample --caption_column text --output_dir sample_run
    python recipes/web_scale.py prepare --sample_dir sample_run --work_dir work
    python recipes/web_scale.py score --data_dir shards --work_dir work --tasks 2

All flags: python recipes/web_scale.py --help, and of a step: python recipes/web_scale.py score --help
"""

import os
import sys


# Python puts this folder first on its path, where select.py would hide the standard library's `select`.
_HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder or os.getcwd()) != _HERE]

from importlib.util import find_spec


if find_spec("datatrove") is None:
    sys.exit("error: Shards need datatrove, which is not installed: pip install 'hf_clipselect[scale]'")

from hf_clipselect.scale.scale_command import main


if __name__ == "__main__":
    sys.exit(main())

"""Draw figures 3, 8 and 9 of the paper on any labelled images.

    python recipes/draw_figures.py                                          # the embedded digits
    python recipes/draw_figures.py --dataset_name uoft-cs/cifar10 --max_train_samples 10000
    python recipes/draw_figures.py --dataset_name path/to/folder --model_name_or_path openai/clip-vit-base-patch32

Makes 20 % of the labels wrong and keeps 20 % of the rows with the paper's objective, the rates of its figure 9. Leaves
in --output_dir figure3.png (what SDS alone, SAS alone and both keep of the class with most wrong labels), figure8.png
(the five kinds of damage) and figure9.png (kept and dropped images; those with a wrong label are framed).
"""

import os
import sys


# Python puts this folder first on its path, where select.py would hide the standard library's `select`.
_HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder or os.getcwd()) != _HERE]

from dataclasses import dataclass, field

from hf_clipselect.config.arguments import EMBEDDED_DATASET, default_model
from hf_clipselect.config.flag_parser import FlagParser
from hf_clipselect.data import read_images
from hf_clipselect.data.source import load_source
from hf_clipselect.errors import InputError, RunError
from hf_clipselect.evaluation.comparison.sweep_plots import save_plot
from hf_clipselect.evaluation.paper_pictures import draw_pictures
from hf_clipselect.runtime.files import make_folder
from hf_clipselect.runtime.terminal import error_line


@dataclass
class PictureArguments:
    dataset_name: str = field(default=EMBEDDED_DATASET, metadata={"help": "Hub id, local folder or embedded/digits."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of the dataset."})
    train_split_name: str = field(default="train", metadata={"help": "Split to select from."})
    image_column_name: str | None = field(default=None, metadata={"help": "Image column; else the only one."})
    label_column_name: str | None = field(default=None, metadata={"help": "Label column; else the only one."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Take only this many rows."})
    model_name_or_path: str | None = field(default=None, metadata={"help": "CLIP to use; default as in select.py."})
    seed: int = field(default=42, metadata={"help": "Of the noise, the adapters and the rows that are shown."})
    output_dir: str = field(default="figures_output", metadata={"help": "Folder of the PNG files."})


def main() -> int:
    try:
        draw(parse_arguments())
    except (InputError, RunError) as error:
        sys.stderr.write(error_line(error))
        return 2 if isinstance(error, InputError) else 1
    return 0


def draw(arguments: PictureArguments) -> None:
    images = read_images(
        *load_source(arguments.dataset_name, arguments.dataset_config_name, arguments.train_split_name),
        image_column_name=arguments.image_column_name,
        label_column_name=arguments.label_column_name,
        max_samples=arguments.max_train_samples,
    )
    folder = make_folder(arguments.output_dir, "--output_dir")
    pictures = draw_pictures(
        images,
        model_name=arguments.model_name_or_path or default_model(arguments.dataset_name),
        seed=arguments.seed,
    )
    for name, drawn in pictures.items():
        print(save_plot(drawn, folder / f"{name}.png"))


def parse_arguments() -> PictureArguments:
    values = vars(FlagParser([PictureArguments]).parse_with_config(None))
    values.pop("config")
    return PictureArguments(**values)


if __name__ == "__main__":
    sys.exit(main())

"""Measure how well a selection keeps wrong labels and damaged images out, and how well the kept rows train.

    python recipes/label_noise.py                                   # embedded digits, 20 % noise, seeds 0 to 2
    python recipes/label_noise.py --objective released --selection_ratio 0.2 0.5 0.8
    python recipes/label_noise.py --noise_rate 0 --corruption_rate 0.2   # right labels, damaged images

For each seed exactly round(rate * N) rows of the train split get another label, uniformly, and as many images as the
corruption rate says are damaged, in equal shares by the five corruptions of the paper (at severity 5, the strength of
the code that the paper refers to; milder ones leave images that CLIP still reads); the test split stays untouched.
Prints for each ratio the share of wrong labels and of damaged images among the kept rows (lower is better; `ideal` is
the least that the ratio allows), the zero-shot accuracy on the test split before and after adaptation, and the rows of
the largest class over those of the smallest. On embedded digits a small network is trained too, on the kept rows, on
random rows of the same number (mean of three draws) and on all rows, wrong labels and damaged images included.
`--output_dir` keeps the tables (tables.md) and the numbers of each seed (results.json).
"""

import os
import sys


# Python puts this folder first on its path, where select.py would hide the standard library's `select`.
_HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder or os.getcwd()) != _HERE]

import json
from dataclasses import dataclass, field

from hf_clipselect.config.arguments import EMBEDDED_DATASET, default_model
from hf_clipselect.config.flag_parser import FlagParser
from hf_clipselect.data import read_images
from hf_clipselect.data.source import load_source
from hf_clipselect.errors import InputError, RunError
from hf_clipselect.evaluation.kept_damage import markdown, measure_seed
from hf_clipselect.evaluation.robustness.damage_arguments import DamageArguments
from hf_clipselect.pipeline.provenance import recipe_origin
from hf_clipselect.runtime.files import make_folder, write_text_atomically
from hf_clipselect.runtime.terminal import error_line


@dataclass
class LabelNoiseArguments(DamageArguments):
    dataset_name: str = field(default=EMBEDDED_DATASET, metadata={"help": "Hub id, local folder or embedded/digits."})
    eval_split_name: str = field(default="test", metadata={"help": "Split with clean labels to test the adapters on."})
    model_name_or_path: str | None = field(default=None, metadata={"help": "CLIP to use; default as in select.py."})
    objective: str = field(default="clean", metadata={"help": "Preset of the selection."})
    adaptation: str = field(default="auto", metadata={"help": "auto, always or off."})
    selection_ratio: list[float] = field(
        default_factory=lambda: [0.2, 0.3, 0.7, 0.8, 0.9], metadata={"help": "Fractions of the rows to keep."}
    )
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Each has its own damage."})
    output_dir: str | None = field(
        default=None, metadata={"help": "Folder for the tables and the numbers of each seed."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("noise_rate", "corruption_rate"):
            if len(rates := getattr(self, name)) > 1:
                raise InputError(f"--{name} takes one share here, got {rates}; recipes/compare.py takes several.")


def main() -> int:
    try:
        measure(parse_arguments())
    except (InputError, RunError) as error:
        sys.stderr.write(error_line(error))
        return 2 if isinstance(error, InputError) else 1
    return 0


def measure(arguments: LabelNoiseArguments) -> None:
    [noise_rate], [corruption_rate] = arguments.noise_rate, arguments.corruption_rate
    folder = make_folder(arguments.output_dir, "--output_dir") if arguments.output_dir else None
    model_name = arguments.model_name_or_path or default_model(arguments.dataset_name)
    clean = read_images(*load_source(arguments.dataset_name, split="train"))
    test = read_images(*load_source(arguments.dataset_name, split=arguments.eval_split_name))
    runs = [
        measure_seed(
            seed,
            clean,
            test,
            model_name=model_name,
            noise_rate=noise_rate,
            corruption_rate=corruption_rate,
            corruption_severity=arguments.corruption_severity,
            objective=arguments.objective,
            adaptation=arguments.adaptation,
            selection_ratio=arguments.selection_ratio,
            train_network=arguments.dataset_name == EMBEDDED_DATASET,
        )
        for seed in arguments.seeds
    ]
    results = {
        "dataset_name": arguments.dataset_name,
        "noise_rate": noise_rate,
        "corruption_rate": corruption_rate,
        "corruption_severity": arguments.corruption_severity,
        "objective": arguments.objective,
        "seeds": arguments.seeds,
        "model": model_name,
        "runs": runs,
    }
    print(markdown(results))
    if folder is not None:
        write_text_atomically(folder / "results.json", json.dumps(results, indent=2) + "\n")
        head = recipe_origin(__file__, "torch", "scikit-learn", "numpy")
        write_text_atomically(folder / "tables.md", f"{head}\n\n{markdown(results)}")


def parse_arguments() -> LabelNoiseArguments:
    values = vars(FlagParser([LabelNoiseArguments]).parse_with_config(None))
    values.pop("config")
    return LabelNoiseArguments(**values)


if __name__ == "__main__":
    sys.exit(main())

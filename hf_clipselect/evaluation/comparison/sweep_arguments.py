"""Arguments of a sweep: which data, which damage, which methods, ratios and seeds.

Precedence: command line, then the YAML of `--config`, then the defaults. An unknown YAML key is an error.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...config.arguments import EMBEDDED_DATASET
from ...config.checks import check_choice, check_seed
from ...config.flag_parser import FlagParser
from ...errors import InputError
from ...selection import check_ratios
from ...selection.objective import CLASS_BALANCES
from ..robustness import NOISE_KINDS
from ..robustness.damage_arguments import DamageArguments
from .images_arguments import ImagesArguments
from .known_methods import ALL, resolve_methods


@dataclass
class SweepArguments(DamageArguments, ImagesArguments):
    """All arguments of a sweep."""

    dataset_name: str = field(
        default=EMBEDDED_DATASET,
        metadata={
            "help": "Labelled images, by Hub id or folder; embedded/digits; or an .npz file of ready embeddings. "
            "$VARIABLES in a path are filled in."
        },
    )
    methods: list[str] = field(
        default_factory=lambda: [ALL],
        metadata={"help": "Methods by name, or all; random rows and all rows are always among them."},
    )
    selection_ratio: list[float] = field(
        default_factory=lambda: [0.2, 0.3, 0.5, 0.7, 0.8, 0.9], metadata={"help": "Fractions of the rows to keep."}
    )
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2], metadata={"help": "Each seed has its own damage, selections and training."}
    )
    tuning_seeds: list[int] = field(
        default_factory=lambda: [1000, 1001],
        metadata={
            "help": "Seeds that the cutoff of ccs, gamma of d2_pruning and the rows that prototypes keep are tuned "
            "on, for each damage, ratio and model; none of --seeds."
        },
    )
    noise_kind: list[str] = field(
        default_factory=lambda: ["symmetric"],
        metadata={
            "help": f"Where wrong labels move to: {', '.join(NOISE_KINDS)} (to classes with similar texts); each kind "
            "with each rate above 0 is a setting."
        },
    )
    class_balance: str = field(
        default="proportional",
        metadata={
            "help": "Quotas of the methods that are not objectives of this package: proportional to the given "
            "classes, as robust, diverse and clean have them; uniform; or none, as most papers have it."
        },
    )
    num_val_rows: int = field(
        default=100,
        metadata={
            "help": "Training rows with right labels that Glister alone is given to validate on; it may not keep them."
        },
    )
    probe_c: list[float] = field(
        default_factory=lambda: [1.0, 100.0],
        metadata={"help": "Of an .npz file: inverse regularisation of the logistic regressions that are trained."},
    )
    tsne_ratio: float | None = field(
        default=None,
        metadata={"help": "Also draw t-SNE of the test rows for models trained on this share, with the Dunn index."},
    )
    max_gigabytes: float = field(default=8.0, metadata={"help": "The largest matrix that a method may build."})
    output_dir: str = field(
        default="compare_output", metadata={"help": "Folder of the tables, the plots and what was computed so far."}
    )

    def __post_init__(self) -> None:
        DamageArguments.__post_init__(self)
        ImagesArguments.__post_init__(self)
        self.methods = resolve_methods(self.methods)
        self.selection_ratio = sorted(check_ratios(self.selection_ratio))
        if self.tsne_ratio is not None:
            check_ratios(self.tsne_ratio)
        check_choice("class_balance", self.class_balance, CLASS_BALANCES)
        for kind in self.noise_kind:
            check_choice("noise_kind", kind, NOISE_KINDS)
        for name in ("seeds", "tuning_seeds", "noise_kind", "probe_c"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise InputError(f"--{name} must name at least one value, and each once, got {values}.")
        for name in ("seeds", "tuning_seeds"):
            for seed in getattr(self, name):
                check_seed(seed, f"--{name}")
        if both := sorted(set(self.seeds) & set(self.tuning_seeds)):
            raise InputError(
                f"--tuning_seeds {', '.join(map(str, both))} are among --seeds: what a method is tuned on must not "
                "report on it. Name others."
            )
        if min(self.probe_c) <= 0:
            raise InputError(f"--probe_c must be numbers above 0, got {self.probe_c}.")
        if self.num_val_rows < 0:
            raise InputError(f"--num_val_rows must be at least 0, got {self.num_val_rows}.")

    def to_dict(self) -> dict[str, Any]:
        """The flags as plain values."""
        return dataclasses.asdict(self)


def parse_sweep_arguments(argv: Sequence[str] | None = None) -> SweepArguments:
    """Read a command line.

    Args:
        argv (`Sequence[str]`, *optional*): The arguments without the program's name; default `sys.argv[1:]`.

    Returns:
        [`SweepArguments`]

    Raises:
        InputError: A value is out of range, a method is unknown or its package is missing, or the YAML file is
            missing, broken or has an unknown key.
        SystemExit: The command line has an unknown flag or an unreadable value (exit code 2), or asks for `--help`.
    """
    parser = FlagParser([SweepArguments])
    values = vars(parser.parse_with_config(argv))
    values.pop("config")
    return SweepArguments(**values)

"""Arguments of a training run: which rows, which network, which schedule.

The names are those of the transformers examples, and all flags of `TrainingArguments` are taken too. Precedence:
command line, then the YAML of `--config`, then the defaults.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from transformers import TrainingArguments

from ...config.arguments import EMBEDDED_DATASET
from ...config.checks import check_at_least, check_choice
from ...config.flag_parser import FlagParser
from ...errors import InputError
from ...runtime.words import in_one_line
from .architectures import ARCHITECTURES
from .selection_file import read_selection_behind


# What `--compare_with` takes, and its words.
ARMS = {"random": "random rows", "full": "all rows"}


@dataclass
class ClassifierArguments:
    """Which rows to learn and to test on, and which network."""

    dataset_name: str = field(
        default=EMBEDDED_DATASET,
        metadata={"help": "Hub id, local folder (also the subset folder of a selection) or embedded/digits."},
    )
    dataset_config_name: str | None = field(
        default=None, metadata={"help": "Configuration of the dataset, such as ratio_30 of a subset."}
    )
    selection_ratio: float | None = field(
        default=None,
        metadata={
            "help": "dataset_name is a selection (its folder or repository): train on this share, found by its scores."
        },
    )
    train_split_name: str = field(default="train", metadata={"help": "Split to train on."})
    eval_dataset: list[str] | None = field(
        default=None,
        metadata={
            "help": "Sets to test on, each NAME, NAME:SPLIT or NAME:CONFIG:SPLIT, with the same class names or some "
            "of them. Default: dataset_name itself."
        },
    )
    eval_split_name: str = field(default="test", metadata={"help": "Split to test on where eval_dataset names none."})
    image_column_name: str | None = field(
        default=None, metadata={"help": "Image column; found from the features when there is exactly one."}
    )
    label_column_name: str | None = field(
        default=None, metadata={"help": "Label column; found from the features when there is exactly one candidate."}
    )
    allow_outside_files: bool = field(
        default=False, metadata={"help": "Rows may name image files outside of the dataset's own folder."}
    )
    max_train_samples: int | None = field(
        default=None, metadata={"help": "Train on only this many rows, of every class its share, spread evenly."}
    )
    max_eval_samples: int | None = field(
        default=None, metadata={"help": "Test on only this many rows of each set, spread evenly."}
    )
    architecture: str | None = field(
        default=None,
        metadata={
            "help": f"Network with random weights: {', '.join(ARCHITECTURES)}, or timm/NAME. Default: resnet-20 for "
            f"{EMBEDDED_DATASET} and selections from it, else resnet-50; none with model_name_or_path."
        },
    )
    pretrained: bool = field(
        default=False, metadata={"help": "Start from weights that the Hub has for the architecture."}
    )
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Hub id or folder of a trained image classifier to start from."}
    )
    model_revision: str = field(default="main", metadata={"help": "Branch, tag or commit of the model."})
    augmentation: Literal["standard", "none"] = field(
        default="standard", metadata={"help": "standard: random crops, of padded images up to 64 pixels."}
    )
    horizontal_flip: bool | None = field(
        default=None,
        metadata={"help": f"Mirror every other image; default as --augmentation, but not for {EMBEDDED_DATASET}."},
    )
    lr_milestones: list[float] | None = field(
        default=None, metadata={"help": "Epochs after which the learning rate is multiplied by lr_gamma."}
    )
    lr_gamma: float = field(default=0.1, metadata={"help": "Factor of the learning rate at each milestone."})
    compare_with: list[str] | None = field(
        default=None,
        metadata={
            "help": "dataset_name is a selection: train too on as many random ones of the rows that it considered "
            "(random), or on all of these (full), and print one table of the differences."
        },
    )
    compare_seeds: int = field(
        default=3, metadata={"help": "Trainings of each kind with compare_with, by the seeds seed, seed + 1, ..."}
    )
    source_dataset: str | None = field(
        default=None,
        metadata={
            "help": "What the selection was made from, NAME, NAME:SPLIT or NAME:CONFIG:SPLIT, where the selection "
            "can't tell."
        },
    )
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Train anew in a folder that holds the results of another run."}
    )

    def __post_init__(self) -> None:
        if self.architecture is not None and self.model_name_or_path is not None:
            raise InputError(
                f"--architecture {self.architecture} has random weights, and --model_name_or_path "
                f"{self.model_name_or_path} trained ones; give one of them."
            )
        if self.pretrained and self.model_name_or_path is not None:
            raise InputError(
                "--pretrained belongs to --architecture; --model_name_or_path has trained weights anyway."
            )
        if self.selection_ratio is not None and self.dataset_config_name is not None:
            raise InputError("--selection_ratio and --dataset_config_name both say which rows; give one of them.")
        if self.selection_ratio is not None and self.dataset_name == EMBEDDED_DATASET:
            raise InputError(
                "--selection_ratio needs a selection: name its folder or repository as --dataset_name, in the place "
                f"of {EMBEDDED_DATASET}."
            )
        for name in ("max_train_samples", "max_eval_samples"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"--{name} must be at least 1, got {getattr(self, name)}.")
        self._check_comparison()
        milestones = self.lr_milestones or []
        if milestones != sorted(set(milestones)) or any(epoch <= 0 for epoch in milestones):
            raise InputError(f"--lr_milestones must be epochs above 0 that increase, got {milestones}.")
        selection = read_selection_behind(self.dataset_name)
        source = self.dataset_name if selection is None else selection["source"].name
        if self.architecture is None and self.model_name_or_path is None:
            self.architecture = "resnet-20" if source == EMBEDDED_DATASET else "resnet-50"
        if self.horizontal_flip is None:
            self.horizontal_flip = self.augmentation == "standard" and source != EMBEDDED_DATASET

    def _check_comparison(self) -> None:
        check_at_least(1, "compare_seeds", self.compare_seeds)
        if self.compare_with is None:
            if self.source_dataset is not None:
                raise InputError("--source_dataset belongs to --compare_with random full; give both, or neither.")
            return
        for arm in self.compare_with:
            check_choice("compare_with", arm, list(ARMS))
        if self.dataset_name == EMBEDDED_DATASET:
            raise InputError(
                "--compare_with needs a selection: name its folder or repository as --dataset_name, in the place of "
                f"{EMBEDDED_DATASET}."
            )
        if self.max_train_samples is not None:
            raise InputError(
                f"--compare_with takes all rows of a selection; leave out --max_train_samples "
                f"{self.max_train_samples}, and select from fewer rows instead."
            )


@dataclass
class ClassifierTrainingArguments(TrainingArguments):
    """`TrainingArguments` with defaults for small images and SGD: 15 epochs of the digits take 30 seconds on a CPU."""

    output_dir: str = field(default="classifier_output", metadata={"help": "Folder of the model and its results."})
    num_train_epochs: float = field(default=15.0, metadata={"help": "Passes over the rows."})
    per_device_train_batch_size: int = field(default=64, metadata={"help": "Rows of a step, in each process."})
    per_device_eval_batch_size: int = field(default=256, metadata={"help": "Rows of a forward pass when testing."})
    learning_rate: float = field(default=0.1, metadata={"help": "Learning rate at the start."})
    optim: str = field(default="sgd", metadata={"help": "Optimizer, as in TrainingArguments."})
    optim_args: str | None = field(
        default="momentum=0.9,nesterov=true", metadata={"help": "Arguments of the optimizer, NAME=VALUE,..."}
    )
    weight_decay: float = field(default=5e-4, metadata={"help": "Weight decay; with SGD of all parameters."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Schedule, where no lr_milestones are given."})
    max_grad_norm: float = field(default=0.0, metadata={"help": "Clip gradients to this norm; 0: never."})
    logging_strategy: str = field(default="epoch", metadata={"help": "When the loss is told."})
    save_strategy: str = field(default="epoch", metadata={"help": "When a checkpoint is written."})
    save_total_limit: int | None = field(default=1, metadata={"help": "Checkpoints that are kept."})
    report_to: str | None = field(default="none", metadata={"help": "Tracker of loss and accuracy."})
    resume_from_checkpoint: str | None = field(
        default=None, metadata={"help": "A checkpoint folder, or true for the last one in output_dir."}
    )


def parse_training_arguments(
    argv: Sequence[str] | None = None,
) -> tuple[ClassifierArguments, ClassifierTrainingArguments]:
    """Read a command line.

    Args:
        argv (`Sequence[str]`, *optional*): The arguments without the program's name; default `sys.argv[1:]`.

    Returns:
        `tuple[ClassifierArguments, ClassifierTrainingArguments]`

    Raises:
        InputError: A value is out of range, arguments contradict each other, or the YAML file is missing, broken or
            has an unknown key.
        SystemExit: The command line has an unknown flag or an unreadable value (exit code 2), or asks for `--help`.
    """
    parser = FlagParser([ClassifierArguments, ClassifierTrainingArguments])
    parser.parse_with_config(argv)
    try:
        arguments, training, _ = parser.parse_args_into_dataclasses(None if argv is None else list(argv))
    except ValueError as error:  # TrainingArguments checks its own
        if isinstance(error, InputError):
            raise
        raise InputError(f"The training arguments do not fit: {in_one_line(error)}") from None
    if training.hub_token is not None:
        raise InputError(
            "--hub_token would be written into training_args.bin, which is pushed; run `hf auth login`, or set "
            "HF_TOKEN."
        )
    check_training(arguments, training)
    return arguments, training


def check_training(arguments: ClassifierArguments, training: ClassifierTrainingArguments) -> None:
    """Refuse a schedule that `TrainingArguments` takes and that would not do what it says.

    Args:
        arguments ([`ClassifierArguments`]): Milestones.
        training ([`ClassifierTrainingArguments`]): All else.

    Raises:
        InputError: A value is out of range, or two contradict each other.
    """
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size"):
        if getattr(training, name) < 1:
            raise InputError(f"--{name} must be at least 1, got {getattr(training, name)}.")
    if training.num_train_epochs < 0:
        raise InputError(f"--num_train_epochs must be 0, to test alone, or more, got {training.num_train_epochs:g}.")
    if arguments.lr_milestones and training.max_steps > 0:
        raise InputError(
            f"--lr_milestones are epochs, and --max_steps {training.max_steps} are none; say --num_train_epochs "
            "instead."
        )
    if arguments.compare_with and training.load_best_model_at_end:
        raise InputError(
            "--load_best_model_at_end chooses weights by the rows that --compare_with tests on; leave it out."
        )
    if arguments.lr_milestones and training.warmup_steps:
        raise InputError("--lr_milestones and --warmup_steps do not go together; leave one of them out.")

"""Arguments of a selection run: one dataclass a stage.

The names are those of the transformers examples. Precedence: command line, then the YAML of `--config`, then the
preset of `--objective`, then the defaults. An unknown YAML key is an error. No torch here.
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_type_hints

from ..errors import InputError
from .argument_types import check_fields
from .checks import check_at_least, check_license, check_seed, checked_trackers
from .selection_arguments import SelectionArguments


DEFAULT_MODEL = "openai/clip-vit-base-patch32"
EMBEDDED_MODEL = "embedded/tiny-clip"
EMBEDDED_DATASET = "embedded/digits"
_MOST_WORKERS = 1024
_TOO_MANY = 2**63
DEFAULT_PROMPT_TEMPLATE = "A photo of a {}."


@dataclass
class DataArguments:
    """Which dataset, which columns, which rows."""

    _argument_group_name = "data"

    dataset_name: str = field(
        default=EMBEDDED_DATASET,
        metadata={
            "metavar": "NAME_OR_PATH",
            "help": "Hub id; folder (imagefolder, parquet or save_to_disk), .parquet, .csv, .jsonl, .arrow, .tar or "
            ".zip file, or URL of one (hf://, s3://, gs://, ...); default: embedded/digits.",
        },
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of the dataset."})
    dataset_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of a dataset on the Hub; default: main."}
    )
    data_files: list[str] | None = field(
        default=None,
        metadata={"help": "Files, patterns or URLs instead of all files, in the dataset if --dataset_name is given."},
    )
    data_dir: str | None = field(default=None, metadata={"help": "Folder in the dataset's folder or repository."})
    storage_options: str | None = field(
        default=None,
        repr=False,
        metadata={"help": "JSON of options for the file system of a URL. No file keeps the values: give them anew."},
    )
    allow_unread_files: bool = field(
        default=False,
        metadata={"help": "Go on, with a warning, where files of a folder would not be read, instead of stopping."},
    )
    streaming: bool = field(
        default=False,
        metadata={"help": "Read the dataset as a stream, twice: nothing but the features and the subset is kept."},
    )
    train_split_name: str = field(default="train", metadata={"help": "Split to select from."})
    image_column_name: str | None = field(
        default=None, metadata={"help": "Image column; found from the features when there is exactly one."}
    )
    label_column_name: str | None = field(
        default=None, metadata={"help": "Label column; found from the features when there is exactly one candidate."}
    )
    caption_column: str | None = field(
        default=None, metadata={"help": "Text column of image-text pairs, instead of a label: a text for every image."}
    )
    num_clusters: int | None = field(
        default=None,
        metadata={"help": "Clusters that stand in for classes beside captions; default: one for 250 rows."},
    )
    group_column: str | None = field(
        default=None, metadata={"help": "Categorical column (source, camera, ...) whose shares the report compares."}
    )
    id_column: str | None = field(
        default=None,
        metadata={"help": "Column of a text or whole number that each row has alone, by which its scores name it."},
    )
    class_names_file: str | None = field(
        default=None, metadata={"help": "Text file with one class name per line, in label order, for the prompts."}
    )
    max_train_samples: int | None = field(
        default=None,
        metadata={
            "help": "Consider only this many rows, of every class its share, spread evenly; of a stream the first."
        },
    )
    reference_split: str | None = field(
        default=None,
        metadata={
            "help": "Split, such as test, that no row should be a copy of; of the same dataset, or of the next."
        },
    )
    reference_dataset_name: str | None = field(
        default=None, metadata={"help": "Dataset that --reference_split is of, as --dataset_name; it needs no labels."}
    )
    on_bad_image: Literal["error", "drop"] = field(
        default="error",
        metadata={"help": "What an unreadable image does: stop the run, or go to dropped.parquet with the reason."},
    )
    allow_outside_files: bool = field(
        default=False, metadata={"help": "Rows may name image files outside of the dataset's own folder."}
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.data_files and self.dataset_name == EMBEDDED_DATASET:
            self.dataset_name = ""  # it is only the default, and the files say what to read
        check_at_least(1, "max_train_samples", self.max_train_samples)
        check_at_least(1, "num_clusters", self.num_clusters)
        if self.caption_column is None and self.num_clusters is not None:
            raise InputError(
                f"--num_clusters {self.num_clusters} is for image-text pairs; name their text column with "
                "--caption_column."
            )
        if self.reference_dataset_name is not None and self.reference_split is None:
            raise InputError(
                f"--reference_dataset_name {self.reference_dataset_name} needs --reference_split, the split of it to "
                "compare with, such as test."
            )
        for name in ("label_column_name", "class_names_file") if self.caption_column is not None else ():
            if (value := getattr(self, name)) is not None:
                raise InputError(
                    f"--caption_column is for image-text pairs without classes; leave out --{name} {value}."
                )


@dataclass
class ModelArguments:
    """Which CLIP, how it runs, and what it is asked."""

    _argument_group_name = "model"

    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": f"Dual encoder such as CLIP or SigLIP, Hub id or folder. Default: {DEFAULT_MODEL}; "
            f"{EMBEDDED_MODEL} when the dataset is {EMBEDDED_DATASET}."
        },
    )
    model_revision: str = field(default="main", metadata={"help": "Branch, tag or commit of the model."})
    prompt_template: list[str] = field(
        default_factory=lambda: [DEFAULT_PROMPT_TEMPLATE],
        metadata={"help": "Prompt with {} for the class name; several are averaged."},
    )
    per_device_eval_batch_size: int | str | None = field(
        default="auto",
        metadata={
            "help": "Images per forward pass of the encoder. auto: as the features that are there, else 64 on a CPU, "
            "and on a GPU as many as fit, up to 512."
        },
    )
    dataloader_num_workers: int | None = field(
        default=None,
        metadata={
            "help": "Processes that decode images, or threads where none can start; default: the other cores beside "
            "a GPU, a timed share of them on a CPU."
        },
    )
    precision: Literal["auto", "float32", "bfloat16"] = field(
        default="auto",
        metadata={
            "help": "Arithmetic of the frozen encoder: bfloat16 is faster where the machine has it, and keeps other "
            "rows. auto: as the features that are there, else float32."
        },
    )
    bf16: bool = field(default=False, metadata={"help": "The old name of --precision bfloat16."})

    def __post_init__(self) -> None:
        check_fields(self)
        if self.bf16:
            if self.precision == "float32":
                raise InputError(
                    "--bf16 is the old name of --precision bfloat16 and contradicts --precision float32; leave one of "
                    "them out."
                )
            self.precision = "bfloat16"
        self.per_device_eval_batch_size = _batch_size(self.per_device_eval_batch_size)
        check_at_least(0, "dataloader_num_workers", self.dataloader_num_workers)
        if self.dataloader_num_workers is not None and self.dataloader_num_workers > _MOST_WORKERS:
            raise InputError(
                f"--dataloader_num_workers {self.dataloader_num_workers} is more processes than a machine takes; give "
                f"at most {_MOST_WORKERS}, and no more than it has cores."
            )


@dataclass
class AdaptationArguments:
    """How the image and text adapters are trained on the cached features."""

    _argument_group_name = "adapters"

    adaptation: Literal["auto", "always", "off"] = field(
        default="auto",
        metadata={"help": "auto keeps the adapters only if held-out rows show a gain over plain CLIP."},
    )
    adapter_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Trained adapters, Hub id or folder: nothing is trained, and the scores are theirs."},
    )
    peft_config: str | None = field(
        default=None,
        metadata={"help": "JSON file of any PEFT config on the two projections, instead of the MLP adapters."},
    )
    temperature: float = field(default=0.1, metadata={"help": "Temperature of the InfoNCE loss."})
    learning_rate: float = field(default=3e-4, metadata={"help": "Learning rate of Adam; see --max_train_steps."})
    num_train_epochs: int = field(
        default=30, metadata={"help": "Passes over the cached features, as far as --max_train_steps allows."}
    )
    train_batch_size: int = field(
        default=256, metadata={"help": "Rows of a step, unless --max_train_steps takes more."}
    )
    max_train_steps: int = field(
        default=300,
        metadata={
            "help": "Large datasets train for at most this many steps (or --min_train_steps, if that is more), each "
            "of more rows and at a higher learning rate than given."
        },
    )
    min_train_steps: int = field(
        default=300, metadata={"help": "Small datasets train for at least this many steps, in more epochs."}
    )
    num_folds: int = field(
        default=0,
        metadata={
            "help": "Score every row by adapters that were not trained on its label, in so many folds; 0 for no folds."
        },
    )

    def __post_init__(self) -> None:
        check_fields(self)
        check_at_least(0, "num_folds", self.num_folds)
        if self.num_folds == 1:
            raise InputError("--num_folds 1 leaves no rows to train on; give 2 or more, or 0 for no folds.")
        if self.num_folds and (self.adaptation == "off" or self.adapter_name_or_path is not None):
            given = f"--adapter_name_or_path {self.adapter_name_or_path}"
            other = "--adaptation off" if self.adaptation == "off" else given
            raise InputError(
                f"--num_folds {self.num_folds} trains adapters, which {other} rules out; leave one of them out."
            )
        for name in ("temperature", "learning_rate"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"--{name} must be a number above 0, got {getattr(self, name)!r}.")
        for name in ("num_train_epochs", "max_train_steps", "min_train_steps"):
            check_at_least(1, name, getattr(self, name))
        check_at_least(2, "train_batch_size", self.train_batch_size)  # InfoNCE compares rows
        if self.adapter_name_or_path is not None and (self.adaptation == "off" or self.peft_config is not None):
            other = "--adaptation off" if self.adaptation == "off" else f"--peft_config {self.peft_config}"
            raise InputError(
                f"--adapter_name_or_path {self.adapter_name_or_path} contradicts {other}; leave one of them out."
            )


@dataclass
class RunArguments:
    """Where the run writes and on what it runs."""

    _argument_group_name = "output"

    output_dir: str | None = field(default="clipselect_output", metadata={"help": "Folder of results."})
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Remove the results of another run from the output folder first."}
    )
    seed: int = field(default=42, metadata={"help": "The same seed gives the same subset."})
    use_cpu: bool = field(default=False, metadata={"help": "Run on the CPU even if there is a GPU."})
    map: bool = field(
        default=False,
        metadata={"help": "Also draw map.parquet, up to 5,000 rows by likeness in two dimensions, for explore."},
    )
    report_to: list[str] | str = field(
        default="none",
        metadata={
            "metavar": "TRACKER",
            "help": "Trackers of the training loss that Accelerate knows, e.g. tensorboard, or all. Default: none.",
        },
    )

    def __post_init__(self) -> None:
        check_fields(self)
        check_seed(self.seed, "--seed")
        self.report_to = checked_trackers(self.report_to)
        if self.output_dir == "":
            raise InputError("--output_dir is empty; name a folder.")
        if self.map and self.output_dir is None:
            raise InputError("--map needs --output_dir, the folder that map.parquet is written to.")
        if self.output_dir is not None and ("://" in self.output_dir or "::" in os.path.abspath(self.output_dir)):
            raise InputError(
                f"--output_dir {self.output_dir} is a URL, or load_dataset takes it for URLs since its path holds "
                "'::'; give another folder of this machine."
            )


@dataclass
class HubArguments:
    """Where the subset and the adapters are published. The token is the one of `hf auth login` or HF_TOKEN."""

    _argument_group_name = "Hub"

    push_to_hub: bool = field(default=False, metadata={"help": "Publish the subset, scores and adapters."})
    hub_dataset_id: str | None = field(
        default=None, metadata={"help": "Dataset repository of the subset, such as me/digits-pruned."}
    )
    hub_model_id: str | None = field(
        default=None, metadata={"help": "Model repository of the adapters; without it they are not published."}
    )
    hub_private_repo: bool = field(
        default=False,
        metadata={"help": "Repositories that the push creates are private; others keep their visibility."},
    )
    hub_revision: str | None = field(
        default=None, metadata={"help": "Branch to push to, created from main if it does not exist; default: main."}
    )
    hub_tag: str | None = field(default=None, metadata={"help": "Tag of this push; default: the next of v1, v2, ..."})
    create_pr: bool = field(default=False, metadata={"help": "Open pull requests instead of committing; no tags."})
    scores_only: bool = field(
        default=False,
        metadata={"help": "The subset holds scores and row numbers, but no images: they may not be given on."},
    )
    license: str | None = field(
        default=None,
        metadata={
            "help": "License that the card of the subset states, an id of the Hub such as cc-by-4.0; default: that of "
            "the source. One that people wrote into the card stays."
        },
    )

    def __post_init__(self) -> None:
        check_fields(self)
        check_license(self.license)
        if self.push_to_hub and self.hub_dataset_id is None:
            raise InputError("--push_to_hub needs --hub_dataset_id, the dataset repository, such as me/digits-pruned.")
        if self.create_pr and (self.hub_revision is not None or self.hub_tag is not None):
            other = "--hub_revision" if self.hub_revision is not None else "--hub_tag"
            raise InputError(f"--create_pr goes to main and has no tag; leave {other} out, or --create_pr.")


def _batch_size(given: int | str | None) -> int | str:
    """A number of at least 1, or `auto`, which `None` stands for too."""
    if given is None or given == "auto":
        return "auto"
    try:
        size = int(given)
    except ValueError:
        raise InputError(
            f"--per_device_eval_batch_size must be a whole number or the word auto, got {given!r}."
        ) from None
    check_at_least(1, "per_device_eval_batch_size", size)
    if size >= _TOO_MANY:  # as of every number; one that comes as a text was not looked at
        raise InputError("--per_device_eval_batch_size is too large; give a number below 2^63.")
    return size


Group = TypeVar("Group")


def with_defaults(group: type[Group], **values: Any) -> Group:
    """A group of arguments, of which those that are `None` get their defaults."""
    return group(**{name: value for name, value in values.items() if value is not None})


@dataclass
class Arguments:
    """All arguments of a run."""

    data: DataArguments = field(default_factory=DataArguments)
    model: ModelArguments = field(default_factory=ModelArguments)
    adaptation: AdaptationArguments = field(default_factory=AdaptationArguments)
    selection: SelectionArguments = field(default_factory=SelectionArguments)
    run: RunArguments = field(default_factory=RunArguments)
    hub: HubArguments = field(default_factory=HubArguments)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Arguments":
        """Arguments from a flat dictionary named like the flags; what is missing or `None` gets its default."""
        groups = {}
        for name, group in get_type_hints(cls).items():
            names = {f.name for f in dataclasses.fields(group)}
            groups[name] = with_defaults(group, **{n: value for n, value in values.items() if n in names})
        return cls(**groups)

    def to_dict(self) -> dict[str, Any]:
        """All arguments as one flat dictionary, named like the flags."""
        return {name: value for group in dataclasses.asdict(self).values() for name, value in group.items()}


# Flags of where a result goes and what is drawn of it, not of what it is: pushed elsewhere it has the same card.
PLACE_FLAGS = frozenset(
    {"output_dir", "overwrite_output_dir", "map", *(f.name for f in dataclasses.fields(HubArguments))} - {"license"}
)


def default_model(dataset_name: str) -> str:
    """The model for a dataset when none is named: the embedded one fits the embedded digits alone."""
    return EMBEDDED_MODEL if dataset_name == EMBEDDED_DATASET else DEFAULT_MODEL

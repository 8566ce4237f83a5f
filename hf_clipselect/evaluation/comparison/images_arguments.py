"""Arguments of a sweep whose data are labelled images: their columns, CLIP, and the networks that are trained on what
is kept.

What says how a network is trained is what `train_classifier.py` takes, with its defaults: here each such argument is
unset, and only what is set is handed on.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field
from typing import Any, Literal

from ...config.arguments import ModelArguments
from ...config.checks import check_at_least
from ...encoder.cores import available_cores
from ...errors import InputError
from ..classifier import ARCHITECTURES, ClassifierArguments, ClassifierTrainingArguments


# Of a proxy, where neither its epochs nor fewer of the trainings are given.
_PROXY_EPOCHS = 10
# Of a field that is filled in after what is given is known.
_UNSET: Any = None


def _as_in(group: type, name: str) -> Any:
    """A field that is unset unless it is given, with the help of another group's, which also says the default."""
    [other] = [own for own in dataclasses.fields(group) if own.name == name]
    text = other.metadata.get("help", "").strip()
    default = other.default if other.default_factory is MISSING else other.default_factory()
    if default is not None and "efault" not in text:
        told = " ".join(map(str, default)) if isinstance(default, list) else default
        text = f"{text} Default: {told}."
    return field(default=None, metadata={"help": text})


@dataclass
class ImagesArguments:
    """What only a dataset of images takes; with embedded/digits and with a file of embeddings nothing of it is set."""

    dataset_config_name: str | None = _as_in(ClassifierArguments, "dataset_config_name")
    train_split_name: str | None = field(
        default=None, metadata={"help": "Split to select from and to train on. Default: train."}
    )
    image_column_name: str | None = _as_in(ClassifierArguments, "image_column_name")
    label_column_name: str | None = _as_in(ClassifierArguments, "label_column_name")
    max_train_samples: int | None = field(
        default=None, metadata={"help": "Select from only this many rows, of every class its share, spread evenly."}
    )
    max_eval_samples: int | None = field(
        default=None,
        metadata={
            "help": "Test on only this many rows of each set, spread evenly. Default: max_train_samples, where it is "
            "set."
        },
    )
    eval_dataset: list[str] | None = field(
        default=None,
        metadata={
            "help": "Further sets to test on, beside the test split of dataset_name: each NAME, NAME:SPLIT or "
            "NAME:CONFIG:SPLIT, with the same class names or some of them."
        },
    )
    eval_split_name: str | None = _as_in(ClassifierArguments, "eval_split_name")
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Dual encoder that selects, Hub id or folder. Default: as of select.py."}
    )
    model_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of the dual encoder. Default: main."}
    )
    prompt_template: list[str] | None = _as_in(ModelArguments, "prompt_template")
    architecture: list[str] | None = field(
        default=None,
        metadata={
            "help": f"Networks to train on what is kept: {', '.join(ARCHITECTURES)}, or timm/NAME. Default: resnet-50."
        },
    )
    pretrained: bool = field(
        default=False, metadata={"help": "Start from weights that the Hub has for the architectures."}
    )
    augmentation: Literal["standard", "none"] | None = _as_in(ClassifierArguments, "augmentation")
    horizontal_flip: bool | None = _as_in(ClassifierArguments, "horizontal_flip")
    num_train_epochs: float | None = _as_in(ClassifierTrainingArguments, "num_train_epochs")
    per_device_train_batch_size: int | None = _as_in(ClassifierTrainingArguments, "per_device_train_batch_size")
    per_device_eval_batch_size: int | None = _as_in(ClassifierTrainingArguments, "per_device_eval_batch_size")
    learning_rate: float | None = _as_in(ClassifierTrainingArguments, "learning_rate")
    optim: str | None = _as_in(ClassifierTrainingArguments, "optim")
    optim_args: str | None = _as_in(ClassifierTrainingArguments, "optim_args")
    weight_decay: float | None = _as_in(ClassifierTrainingArguments, "weight_decay")
    lr_scheduler_type: str | None = _as_in(ClassifierTrainingArguments, "lr_scheduler_type")
    lr_milestones: list[float] | None = _as_in(ClassifierArguments, "lr_milestones")
    lr_gamma: float | None = _as_in(ClassifierArguments, "lr_gamma")
    bf16: bool = field(default=False, metadata={"help": "Train the networks in bfloat16 with float32 weights."})
    dataloader_num_workers: int | None = field(
        default=None,
        metadata={"help": "Processes that decode images beside a training, at most one a core. Default: none."},
    )
    proxy_architecture: str = field(
        default="resnet-18",
        metadata={"help": "Network whose training on all rows the methods look at that need one (EL2N, GraNd, ...)."},
    )
    proxy_epochs: int = field(
        default=_UNSET,
        metadata={
            "help": f"Passes of that training over all rows. Default: {_PROXY_EPOCHS}, or num_train_epochs where that "
            "is fewer."
        },
    )

    def __post_init__(self) -> None:
        check_at_least(1, "proxy_epochs", self.proxy_epochs)
        if self.max_eval_samples is None:
            # A sweep tests hundreds of networks: a whole test split would take far longer than training on few rows.
            self.max_eval_samples = self.max_train_samples
        if self.proxy_epochs is None:
            epochs = _PROXY_EPOCHS if self.num_train_epochs is None else self.num_train_epochs
            self.proxy_epochs = math.ceil(min(_PROXY_EPOCHS, max(1, epochs)))
        if self.dataloader_num_workers is not None:
            # Each training starts them anew, and those that share a core with others only cost their start.
            self.dataloader_num_workers = min(self.dataloader_num_workers, available_cores())
        names = self.architecture
        if names is not None and (not names or len(set(names)) < len(names)):
            raise InputError(f"--architecture must name at least one network, and each once, got {names}.")

    def set_for_images(self) -> Sequence[str]:
        """Names of the arguments of this group that differ from their defaults."""
        defaults = vars(ImagesArguments())
        return [name for name in defaults if getattr(self, name) != defaults[name]]

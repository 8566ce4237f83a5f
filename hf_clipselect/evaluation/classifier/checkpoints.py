"""Finds the checkpoint that a training run resumes from, and removes what an earlier run left in its folder."""

import shutil
from pathlib import Path

from safetensors import safe_open
from transformers import AutoConfig, PreTrainedModel
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_NAME

from ...errors import InputError
from .arm_records import COMPARISON_FOLDER
from .training_arguments import ClassifierArguments, ClassifierTrainingArguments


RESULTS_FILE, COMPARISON_FILE = "results.json", "comparison.md"


def find_checkpoint(
    arguments: ClassifierArguments, training: ClassifierTrainingArguments, *, goes_on: bool = False
) -> str | None:
    """Find the checkpoint to resume from, and refuse to overwrite the folder of another run.

    Args:
        arguments ([`ClassifierArguments`]): Whether another run may be written over.
        training ([`ClassifierTrainingArguments`]): The output folder, and the checkpoint that the user names.
        goes_on (`bool`, *optional*, defaults to `False`): The folder is known to be of this very run, which goes on
            from the last checkpoint without being asked to.

    Returns:
        `str`, *optional*: Folder of a complete checkpoint; `None` to train from the start.

    Raises:
        InputError: The folder holds another run, or what is named is no checkpoint.
    """
    folder, asked = Path(training.output_dir), training.resume_from_checkpoint
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output_dir {folder} is a file; give a folder.")
    last = _last_checkpoint(folder)
    if asked is not None and asked.lower() != "true":
        if not _is_whole(Path(asked)):
            raise InputError(
                f"--resume_from_checkpoint {asked} is not a checkpoint folder; true takes the last one in "
                "--output_dir."
            )
        return asked
    if asked is not None or goes_on:
        return last
    if not arguments.overwrite_output_dir and (last or (folder / RESULTS_FILE).exists()):
        raise InputError(
            f"--output_dir {folder} holds another run; go on with --resume_from_checkpoint true, train anew with "
            "--overwrite_output_dir, or give another folder."
        )
    return None


def check_fits(checkpoint: str, model: PreTrainedModel) -> None:
    """Refuse a checkpoint of another network or of other classes.

    Args:
        checkpoint (`str`): Its folder.
        model (`PreTrainedModel`): What is to be trained.

    Raises:
        InputError: A parameter has another shape, or the classes have other names.
    """
    weights, differs = Path(checkpoint, SAFE_WEIGHTS_NAME), None
    if weights.is_file():  # sharded weights are left to `Trainer`
        with safe_open(weights, "pt") as file:
            saved = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
        shapes = {name: tuple(values.shape) for name, values in model.state_dict().items()}
        both = saved.keys() & shapes.keys()
        if not both or any(saved[name] != shapes[name] for name in both):
            differs = "another network"
    if differs is None and AutoConfig.from_pretrained(checkpoint).id2label != model.config.id2label:
        differs = "other names of classes"
    if differs is not None:
        raise InputError(
            f"The checkpoint {checkpoint} is of a run with {differs}; go on with the arguments of that run, or train "
            "anew with --overwrite_output_dir."
        )


def remove_run(folder: Path, *, keep_comparison: bool = False) -> None:
    """Remove checkpoints and results of an earlier run, which would pass for those of the run that begins; trainings
    of a comparison may be of this very run.
    """
    for checkpoint in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        shutil.rmtree(checkpoint)
    if not keep_comparison:
        shutil.rmtree(folder / COMPARISON_FOLDER, ignore_errors=True)
    for name in (RESULTS_FILE, COMPARISON_FILE):
        (folder / name).unlink(missing_ok=True)


def _last_checkpoint(folder: Path) -> str | None:
    whole = [path for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if _is_whole(path)]
    return str(max(whole, key=_step)) if whole else None


def _is_whole(checkpoint: Path) -> bool:
    """`Trainer` writes its state last: a process that was killed while it saved has left none."""
    return (checkpoint / TRAINER_STATE_NAME).is_file()


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])

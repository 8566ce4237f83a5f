"""From a command line, and the YAML of `--config`, to the arguments of a run. No torch here."""

import dataclasses
from collections.abc import Sequence

from .arguments import Arguments, default_model
from .flag_parser import FlagParser


_DESCRIPTION = """\
Turn an image dataset with labels or captions into a smaller, cleaner one;
without flags the embedded digits. The same command goes on with a stopped run.

  hf-clipselect select --dataset_name uoft-cs/cifar10 --selection_ratio 0.3
  hf-clipselect select --dataset_name path/to/pairs --caption_column text
  hf-clipselect select --push_to_hub --hub_dataset_id me/digits-pruned"""
_FIRST = (
    "dataset_name label_column_name caption_column model_name_or_path adaptation selection_ratio objective output_dir "
    "push_to_hub hub_dataset_id"
)


def select_parser(prog: str | None = None) -> FlagParser:
    """What reads the flags of a run; `--help` shows the ten that most people need.

    Args:
        prog (`str`, *optional*): Its name in `--help`.

    Returns:
        `FlagParser`
    """
    groups = [group.type for group in dataclasses.fields(Arguments)]
    return FlagParser(groups, prog=prog, first=_FIRST.split(), description=_DESCRIPTION)


def parse_arguments(argv: Sequence[str] | None = None, *, prog: str | None = None) -> Arguments:
    """Read a command line, by default `sys.argv[1:]`: checked arguments, with the model resolved.

    Raises `InputError` where a value is out of range, or the YAML file is missing, broken or has an unknown key;
    `SystemExit` for an unknown flag or an unreadable value (exit code 2), and for `--help`.
    """
    arguments = Arguments.from_dict(vars(select_parser(prog).parse_with_config(argv)))
    if arguments.model.model_name_or_path is None:
        arguments.model.model_name_or_path = default_model(arguments.data.dataset_name)
    return arguments

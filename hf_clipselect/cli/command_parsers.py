"""What reads the flags of each command. Nothing that takes long is imported: `--help` and a mistyped flag are told at
once.
"""

import argparse
import dataclasses
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Literal

import shtab

from ..config.command_parser import CommandParser


_SHOW = """\
Print the summary of a run, or of a published selection, in at most ten lines.

  hf-clipselect show clipselect_output
  hf-clipselect show me/digits-pruned --revision v1"""
_SUSPECTS = """\
Show the most probably wrong labels of a selection, with the class or caption that they look like, for a check by eye.

  hf-clipselect suspects clipselect_output                # the output folder of a run, or its subset folder
  hf-clipselect suspects me/digits-pruned --num 50        # a dataset repository with the scores
  hf-clipselect suspects clipselect_output --label dog --dataset_name path/to/images

A row is suspect where by the noise model another class is more probable than its label; the most probably wrong label
comes first. A selection without a noise model, such as one of image-text pairs, has as suspects the rows where another
class or caption fits better by CLIP, lowest margin first. Prints them, and writes to --output_dir suspects.csv,
suspects.parquet (source_index, label, proposed_label, label_error_probability where there is a noise model, sas,
margin, and for each subset whether the row was kept), and suspects.png with the first 200 images. These come from the
dataset that the selection was made from; where it can't be loaded by its recorded name, --dataset_name says where it
is."""
_PUSH = """\
Publish what a run left: the subset with its scores, and the adapters if they
were kept and --hub_model_id names a repository for them. Nothing is run. What
is on the Hub already is found, and the same push again makes no commit.

  hf-clipselect push clipselect_output --hub_dataset_id me/digits-pruned
  hf-clipselect push clipselect_output --hub_dataset_id me/digits-pruned --dry_run"""
_PULL = """\
Get the kept rows of a published selection, of the sizes that were published or
of any other, which the scores tell. The folder then holds them as Parquet, with
the columns of the source, source_index, sas, sds and selection_score.

Sizes that were not written or published take their rows from the dataset on the
Hub that was selected from. Of data in a local folder or in memory only the sizes
that were written can be had; for another one, select again with it.

  hf-clipselect pull me/digits-pruned --selection_ratio 0.5 --output_dir half
  hf-clipselect pull me/digits-pruned --selection_count 500 --output_dir few"""
_EXPLORE = """\
Look at a selection in the browser, and decide about single rows: suspects one by one with what they look like, all
rows with filters, a map, and what other sizes would keep.

  hf-clipselect explore clipselect_output           # the output folder of a run
  hf-clipselect explore me/digits-pruned            # a dataset repository with the scores
  hf-clipselect explore me/digits-pruned --hub_space_id me/digits-explorer   # a Space that shows it, read-only

Each decision is written at once, to decisions.parquet in the output folder or to --decisions, and a later call goes on
from there; `hf-clipselect select --decisions` selects again with them. The images come from the dataset that the
selection was made from; where it can't be loaded by its recorded name, --dataset_name says where it is. The page is
served on this machine alone unless --host says otherwise, and loads nothing from other machines."""
_COMPLETION = """\
Print a script that makes a shell complete commands, flags, choices and files.

  hf-clipselect completion bash > ~/.local/share/bash-completion/completions/hf-clipselect
  hf-clipselect completion zsh > ~/.zfunc/_hf-clipselect    # with ~/.zfunc in $fpath
  hf-clipselect completion tcsh > ~/.hf-clipselect.tcsh     # source it in ~/.tcshrc"""
PUSH_FLAGS = ("hub_dataset_id", "hub_model_id", "hub_private_repo", "hub_revision", "hub_tag", "create_pr", "license")


def parser_of(name: str, prog: str) -> ArgumentParser:
    """What reads the flags of a command; `prog` is its name in `--help`."""
    if name == "select":
        from ..config.command_line import select_parser  # noqa: PLC0415

        return select_parser(prog)
    description, add_flags = _COMMANDS[name]
    parser = CommandParser(prog=prog, description=description)
    add_flags(parser)
    return parser


def _add_selection(parser: ArgumentParser) -> None:
    """Take a selection, and the revision of a repository."""
    parser.add_argument(
        "selection",
        metavar="OUTPUT_DIR_OR_REPO",
        help="Output folder of a run, its subset folder, or a dataset repository.",
    )
    parser.add_argument("--revision", help="Branch, tag or commit of the repository.")


def _add_images(parser: ArgumentParser) -> None:
    """Take the dataset that the selection was made from, for its images."""
    parser.add_argument(
        "--dataset_name",
        metavar="NAME_OR_PATH",
        help="Hub id or folder of the dataset that the selection was made from.",
    )
    parser.add_argument("--dataset_config_name", help="Its configuration; default the recorded one.")
    parser.add_argument("--train_split_name", help="Its split; default the recorded one.")
    parser.add_argument(
        "--allow_outside_files",
        action="store_true",
        help="Rows may name image files outside of the dataset's own folder.",
    )


def _add_show(parser: ArgumentParser) -> None:
    _add_selection(parser)


def _add_suspects(parser: ArgumentParser) -> None:
    _add_selection(parser)
    parser.add_argument("--num", type=int, default=100, help="At most this many rows.")
    parser.add_argument("--label", help="Only rows whose given label is this class.")
    parser.add_argument("--output_dir", default="suspects", help="Folder for the tables and the picture.")
    _add_images(parser)


def _add_push(parser: ArgumentParser) -> None:
    from ..config.arguments import HubArguments  # noqa: PLC0415

    parser.add_argument("output_dir", metavar="OUTPUT_DIR", help="Output folder of a run, or its subset folder.")
    fields = {field.name: field for field in dataclasses.fields(HubArguments)}
    for name in PUSH_FLAGS:
        kind = {"action": "store_true"} if fields[name].default is False else {}
        parser.add_argument(f"--{name}", help=fields[name].metadata["help"], required=name == "hub_dataset_id", **kind)
    parser.add_argument("--dry_run", action="store_true", help="Only print what would change on the Hub.")


def _add_pull(parser: ArgumentParser) -> None:
    _add_selection(parser)
    parser.add_argument("--selection_ratio", type=_size, help="Fraction of the rows to keep, in (0, 1], or auto.")
    parser.add_argument("--selection_count", type=int, help="Number of rows to keep, instead of a ratio.")
    parser.add_argument("--output_dir", required=True, help="Folder to write, new or empty.")


def _add_explore(parser: ArgumentParser) -> None:
    _add_selection(parser)
    parser.add_argument(
        "--decisions",
        metavar="FILE",
        help="File of the decisions; default decisions.parquet in the output folder, or here.",
    )
    parser.add_argument("--reviewer", help="Your name, noted with each decision; default none.")
    _add_images(parser)
    parser.add_argument(
        "--hub_space_id",
        help="Push a Space such as me/digits-explorer that shows the repository, read-only, and serve nothing here.",
    )
    parser.add_argument("--hub_private_repo", action="store_true", help="A Space that the push creates is private.")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="Address to serve on, default 127.0.0.1, this machine alone; whoever reaches another one can decide too.",
    )
    parser.add_argument("--port", type=_port, help="Port to serve on; default the first free one from 7860.")


def _add_completion(parser: ArgumentParser) -> None:
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS, help="Which shell.")


def _size(text: str) -> float | Literal["auto"]:
    try:
        return "auto" if text == "auto" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a fraction in (0, 1], or auto, got {text!r}") from None


def _port(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 65535, got {text!r}")


_COMMANDS: dict[str, tuple[str, Callable[[ArgumentParser], None]]] = {
    "show": (_SHOW, _add_show),
    "suspects": (_SUSPECTS, _add_suspects),
    "push": (_PUSH, _add_push),
    "pull": (_PULL, _add_pull),
    "explore": (_EXPLORE, _add_explore),
    "completion": (_COMPLETION, _add_completion),
}

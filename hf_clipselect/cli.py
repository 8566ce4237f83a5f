"""The command line: `hf-clipselect select ...`, and what recipes/select.py runs."""

import glob
import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from .command_line import parse_arguments
from .config import Arguments, HubArguments
from .data.places import is_pattern
from .errors import InputError, RunError, long_paths_refused
from .launch import exit_now
from .pipeline import run_selection
from .result import SelectionResult
from .run_log import logged_to_stderr
from .selection import config_name, is_count
from .terminal import error_line, printable


_USAGE = """usage: hf-clipselect select [flags]

commands:
  select    turn a labelled image dataset into a smaller, cleaner one

All flags of a command: hf-clipselect select --help
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console command; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["select"]:
        return select(argv[1:], prog="hf-clipselect select")
    known = argv in (["-h"], ["--help"])
    stream = sys.stdout if known else sys.stderr
    unknown = (
        f"error: unknown command {printable(repr(argv[0]))}; the command is: select\n" if argv and not known else ""
    )
    stream.write(unknown or _USAGE)
    return 0 if known else 2


def select(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Run a selection from a command line.

    Args:
        argv (`Sequence[str]`, *optional*): Flags; default those of this process.
        prog (`str`, *optional*): Name of the program in `--help`.

    Returns:
        `int`: Exit code: 0, or after one line on stderr 2 for wrong input and 1 for a machine or a Hub that failed.
    """
    is_main_process = os.environ.get("RANK", "0") == "0"  # as the launchers set it
    # peft 0.21 asks transformers 5 for a renamed property; nothing a user could change. Goes when peft asks for the new name.
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
    try:
        with long_paths_refused(), logged_to_stderr(logging.INFO if is_main_process else logging.ERROR):
            arguments = parse_arguments(argv, prog=prog)
            result = run_selection(arguments)
    except (InputError, RunError) as error:
        sys.stderr.write(error_line(error))
        code = 2 if isinstance(error, InputError) else 1
        exit_now(code)
        return code
    if is_main_process:
        sys.stdout.write(_summary(result, arguments))
    return 0


def _summary(result: SelectionResult, arguments: Arguments) -> str:
    """What the run did, in a few lines: the first thing that a user sees."""
    report, output_dir = result.report, Path(arguments.run.output_dir)
    lines = [f"{report['num_rows']} rows of {report['source']['name']}, scored with {report['model']['name']}"]
    for ratio, subset in zip(result.ratios, report["subsets"], strict=True):
        line = f"{config_name(ratio)}: {subset['rows']} rows; CLIP agrees with {subset['label_agrees_kept']:.1%} of the kept labels"
        if subset["label_agrees_dropped"] is not None:
            line += f", {subset['label_agrees_dropped']:.1%} of the dropped"
        lines.append(line)
    hub = arguments.hub
    lines += [
        f"subset: {_local_load_call(output_dir / 'subset', result, hub)}",
        f"report: {output_dir / 'report.html'}",
    ]
    if hub.push_to_hub and not hub.create_pr:  # what a pull request brings is not there yet
        at = f', revision="{hub.hub_revision}"' if hub.hub_revision is not None else ""
        lines.append(f"on the Hub: {_load_call(hub.hub_dataset_id, result, hub, at)}")
        if hub.hub_model_id is not None and report["adaptation"]["kept"]:
            lines.append(f'on the Hub: load_adapters("{hub.hub_model_id}"{at})')
    return "".join(f"{printable(line)}\n" for line in lines)


def _local_load_call(subset: Path, result: SelectionResult, hub: HubArguments) -> str:
    folder = os.path.abspath(subset)
    if hub.scores_only or not is_pattern(folder):
        return _load_call(subset, result, hub)
    # `load_dataset` reads the path of a folder as a pattern and can't be told not to; that of files it can.
    files = f"{glob.escape(folder)}/{config_name(result.ratios[0])}/*.parquet"
    return f'load_dataset("parquet", data_files={_literal(files)}, split="train")'


def _load_call(place: Path | str, result: SelectionResult, hub: HubArguments, at: str = "") -> str:
    if hub.scores_only:
        size = result.ratios[0]
        return f"load_pruned({_literal(place)}, {'count' if is_count(size) else 'ratio'}={size}{at})"
    return f'load_dataset({_literal(place)}, "{config_name(result.ratios[0])}", split="train"{at})'


def _literal(text: Path | str) -> str:
    """A string as Python reads it, in double quotes as the others of the line."""
    return json.dumps(str(text), ensure_ascii=False)

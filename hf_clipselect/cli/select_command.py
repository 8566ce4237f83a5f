"""What `hf-clipselect select` does: run a selection, and print a summary of a few lines."""

import logging
import sys
import time
import warnings
from pathlib import Path

from ..config.arguments import Arguments
from ..pipeline.run import run_selection
from ..pipeline.run_log import logged_to_stderr
from ..results.selection_result import SelectionResult
from ..runtime.terminal import is_main_process, printable
from .run_summary import hub_lines, summary_lines


def run_command(arguments: Arguments) -> None:
    """Run a selection from the arguments of a command line, with its messages on stderr and a summary on stdout."""
    # peft 0.21 asks transformers 5 for a renamed property, which no user can change; goes when peft is fixed.
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
    start = time.monotonic()
    with logged_to_stderr(logging.INFO if is_main_process() else logging.ERROR):
        result = run_selection(arguments)
    if is_main_process():
        sys.stdout.write(summary(result, arguments, seconds=time.monotonic() - start))


def summary(result: SelectionResult, arguments: Arguments, *, seconds: float | None = None) -> str:
    """What the run did, in a few lines: the first thing that a user sees."""
    hub, place = arguments.hub, Path(str(arguments.run.output_dir))
    lines = summary_lines(result, place, scores_only=hub.scores_only, seconds=seconds)
    if hub.push_to_hub:
        lines += map(printable, hub_lines(result, hub, scores_only=hub.scores_only))
    return "".join(f"{line}\n" for line in lines)

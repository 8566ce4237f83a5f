"""What `hf-clipselect select` does: run a selection, and print a summary of a few lines."""

import glob
import json
import logging
import os
import sys
import warnings
from pathlib import Path

from ..config.arguments import Arguments, HubArguments
from ..data.places import is_pattern
from ..hub.check_words import damaged_rows, leaked_rows
from ..hub.noise_words import auto_keeps_all, confused_pairs, look_wrong
from ..pipeline.run import run_selection
from ..pipeline.run_log import logged_to_stderr
from ..results.selection_result import SelectionResult
from ..runtime.terminal import is_main_process, printable
from ..selection import config_name, is_count


_PAIRS_NAMED = 3


def run_command(arguments: Arguments) -> None:
    """Run a selection from the arguments of a command line, with its messages on stderr and a summary on stdout."""
    # peft 0.21 asks transformers 5 for a renamed property, which no user can change; goes when peft is fixed.
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
    with logged_to_stderr(logging.INFO if is_main_process() else logging.ERROR):
        result = run_selection(arguments)
    if is_main_process():
        sys.stdout.write(summary(result, arguments))


def summary(result: SelectionResult, arguments: Arguments) -> str:
    """What the run did, in a few lines: the first thing that a user sees."""
    report, output_dir = result.report, Path(str(arguments.run.output_dir))
    lines = [f"{report['num_rows']} rows of {report['source']['name']}, scored with {report['model']['name']}"]
    if noise := report["noise"]:
        pairs = confused_pairs(noise, limit=_PAIRS_NAMED)
        lines.append(look_wrong(noise) + (f": {pairs}" if pairs else ""))
    lines += [
        say(found) for found, say in ((report["leaks"], leaked_rows), (report["quality"], damaged_rows)) if found
    ]
    for subset in report["subsets"]:
        agrees = f"CLIP agrees with {subset['label_agrees_kept']:.1%} of the kept labels"
        line = f"{subset['name']}: {subset['rows']} rows; {agrees}"
        if subset["label_agrees_dropped"] is not None:
            line += f", {subset['label_agrees_dropped']:.1%} of the dropped"
        lines.append(line)
        if clause := auto_keeps_all(noise, subset):
            lines.append(f"{subset['name']} {clause}")
    hub = arguments.hub
    lines += [
        f"subset: {_local_load_call(output_dir / 'subset', result, hub)}",
        f"report: {output_dir / 'report.html'}",
    ]
    if command := report["compare_command"]:
        lines.append(f"is it worth it: {command}")
    if hub.push_to_hub and hub.hub_dataset_id and not hub.create_pr:  # what a pull request brings is not there yet
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
        given = _literal(size) if isinstance(size, str) else size
        return f"load_pruned({_literal(place)}, {'count' if is_count(size) else 'ratio'}={given}{at})"
    return f'load_dataset({_literal(place)}, "{config_name(result.ratios[0])}", split="train"{at})'


def _literal(text: Path | str) -> str:
    """A string as Python reads it, in double quotes as the others of the line."""
    return json.dumps(str(text), ensure_ascii=False)

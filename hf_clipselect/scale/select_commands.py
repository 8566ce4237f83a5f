"""The commands that come after the scores: `select` which rows stay, `write` lists, masks and shards of them."""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from datatrove.io import DataFolder, get_datafolder
from datatrove.pipeline.base import PipelineStep

from ..errors import InputError
from ..runtime.words import counted
from ..selection import check_numbers
from .executors import Executor, add_executor, executor_of, run_pipeline
from .select_step import (
    OBJECTIVES,
    Cut,
    Rank,
    is_cut,
    ranked_path,
    web_objective,
    write_quotas,
)
from .shuffle import Shuffle, checked_scores, is_of, make_layout, sorted_path


# Rows that a task holds in memory by default, some 2 GB; with embeddings of 512 numbers as much.
ROWS_PER_TASK, ROWS_WITH_EMBEDDINGS = 5_000_000, 500_000


def add_select(subparsers: Any) -> None:
    """Add the command that selects rows from the scores of all shards."""
    parser = subparsers.add_parser("select", help="select rows from the scores of all shards")
    _add_folders(parser)
    parser.add_argument(
        "--selection_ratio",
        type=float,
        nargs="+",
        help="Fraction of the scored rows to KEEP, in (0, 1]; default: 0.3.",
    )
    parser.add_argument("--selection_count", type=int, nargs="+", help="Number of rows to keep, beside or instead.")
    parser.add_argument(
        "--objective", help=f"{' or '.join(OBJECTIVES)} (default: diverse for captions, clean for labels)."
    )
    parser.add_argument(
        "--redundancy_weight",
        type=float,
        default=0.0,
        help="How much score a row loses for being like a kept one of its cluster; needs scores with embeddings.",
    )
    parser.add_argument(
        "--accept_lost_shards",
        type=int,
        default=0,
        help="Go on without the shards that could not be scored, if they are just so many.",
    )
    add_executor(parser)
    parser.set_defaults(run=run_select, tasks=None)


def run_select(arguments: argparse.Namespace) -> None:
    """Sort, rank and cut the rows of all score files, and print what each size keeps."""
    work, data = get_datafolder(arguments.work_dir), get_datafolder(arguments.data_dir)
    sizes = check_numbers(arguments.selection_ratio, arguments.selection_count)
    reference = _reference(work)
    objective = web_objective(
        arguments.objective, has_labels=not reference["has_captions"], redundancy_weight=arguments.redundancy_weight
    )
    files = checked_scores(data, work, key=reference["key"], accept_lost_shards=arguments.accept_lost_shards)
    num_rows = sum(file.num_scored for file in files)
    with_embeddings = objective.redundancy_weight > 0
    if with_embeddings and not all(file.has_embeddings for file in files if file.num_scored):
        raise InputError("--redundancy_weight needs scores with embeddings. Run score with --embeddings first.")
    most = ROWS_WITH_EMBEDDINGS if with_embeddings else ROWS_PER_TASK
    layout = make_layout(
        files,
        rows_per_task=most if arguments.tasks is None else -(-num_rows // max(arguments.tasks, 1)),
        with_embeddings=with_embeddings,
        depends_on={"reference": reference["key"], "objective": objective.to_dict()},
    )
    layout.write(work)
    run = _Runner(arguments.work_dir, arguments.workers, executor_of(arguments))
    ranges, groups = len(layout.range_starts), len(layout.group_starts)
    steps = (
        (Shuffle(arguments.work_dir), ranges, lambda number: is_of(work, sorted_path(number), layout.key)),
        (Rank(arguments.work_dir, objective), groups, lambda number: is_of(work, ranked_path(number), layout.key)),
    )
    for step, tasks, is_done in steps:
        if not run(step, tasks, layout.key, is_done):
            return
    summary = write_quotas(work, layout, sizes, objective)
    if run(Cut(arguments.work_dir), groups, summary["key"], partial(is_cut, work, summary=summary)):
        sys.stdout.write(_told(summary, len(files), arguments.accept_lost_shards))


class _Runner:
    """Runs steps one after the other, each where the executor says."""

    def __init__(self, work_dir: str, workers: int, executor: Executor) -> None:
        self.work_dir, self.workers, self.executor = work_dir, workers, executor

    def __call__(self, step: PipelineStep, tasks: int, key: str, is_done: Callable[[int], bool]) -> bool:
        """Whether all tasks are done; if not, it is said that the command has to be run once more."""
        number = hashlib.sha256(f"{key} {tasks}".encode()).hexdigest()[:16]
        folder = get_datafolder(f"{self.work_dir.rstrip('/')}/logs/{step.name}-{number}")
        done = run_pipeline(
            [step], folder=folder, tasks=tasks, workers=self.workers, executor=self.executor, is_done=is_done
        )
        if not done:
            sys.stdout.write(f"{counted(tasks, 'task')} of {step.name} handed over; run this again when they ended.\n")
        return done


def _add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data_dir", required=True, help="Folder or URL of the shards, .tar or .parquet.")
    parser.add_argument(
        "--work_dir", required=True, help="Folder or URL of the scores and of all that is made of them."
    )


def _reference(work: DataFolder) -> dict[str, Any]:
    place = "reference/reference.json"
    if not work.isfile(place):
        raise InputError(f"--work_dir {work.path} has no {place}. Run prepare and score first.")
    with work.open(place) as file:
        return json.load(file)


def _told(summary: dict[str, Any], num_shards: int, num_lost: int) -> str:
    lost = f", {num_lost} lost" if num_lost else ""
    repeats = summary["duplicates"]
    lines = [f"{summary['rows']} rows of {counted(num_shards, 'shard')}{lost}, {len(summary['clusters'])} clusters"]
    lines += [f"{counted(repeats, 'row')} left out: same uid as an earlier one of the cluster"] if repeats else []
    lines += [f"{config}: {count} kept" for config, count in summary["kept"].items()]
    return "\n".join(lines) + "\n"

"""The commands beside scoring: `select` which rows stay, `write` lists, masks and shards of them, `plan` all of it."""

import argparse
import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from datatrove.io import DataFolder, get_datafolder
from datatrove.pipeline.base import PipelineStep

from ..encoder.cores import available_cores
from ..errors import InputError
from ..hub.merge import merge_cards
from ..hub.push import CARD, Repository
from ..runtime.words import counted
from ..selection import check_numbers, selection_count
from .executors import Executor, add_executor, executor_of, run_pipeline
from .masks import MASKS, WriteMasks, are_written, mask_path
from .plan import Known, known_from_scores, planned
from .scale_card import selection_card
from .scale_push import check_push, push_selection
from .select_step import (
    OBJECTIVES,
    RANKED,
    SELECTED,
    Cut,
    Rank,
    is_cut,
    is_selected,
    ranked_path,
    read_quotas,
    web_objective,
    write_quotas,
)
from .shuffle import SORTED, Layout, Shuffle, checked_scores, is_of, make_layout, sorted_path
from .subset_shards import SUBSET, WriteSubsets, is_copied, remove_others
from .uid_lists import LISTS, MergeLists, is_listed, list_path, remove_other_lists
from .unchanged import check_unchanged
from .whole_files import read_json, remove_left, write_whole


# Rows that a task holds in memory by default: a GB, and with embeddings of 512 numbers some five.
ROWS_PER_TASK, ROWS_WITH_EMBEDDINGS = 5_000_000, 500_000


def add_select(subparsers: Any) -> None:
    """Add the command that selects rows from the scores of all shards."""
    parser = subparsers.add_parser("select", help="Select rows from the scores of all shards.")
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
    _check_tasks(arguments)
    work, data = get_datafolder(arguments.work_dir), get_datafolder(arguments.data_dir)
    sizes = check_numbers(arguments.selection_ratio, arguments.selection_count)
    reference = _reference(work)
    remove_left(work, ["", SORTED, RANKED, SELECTED])
    objective = web_objective(
        arguments.objective, has_labels=not reference["has_captions"], redundancy_weight=arguments.redundancy_weight
    )
    scored = checked_scores(data, work, key=reference["key"], accept_lost_shards=arguments.accept_lost_shards)
    files = scored.files
    num_rows = sum(file.num_scored for file in files)
    for size in sizes:
        selection_count(size, num_rows)  # refuses what is more than there are, before anything is sorted
    with_embeddings = objective.redundancy_weight > 0
    if with_embeddings and not all(file.embed_dim for file in files if file.num_scored):
        raise InputError("--redundancy_weight needs scores with embeddings. Run score with --embeddings first.")
    most = ROWS_WITH_EMBEDDINGS if with_embeddings else ROWS_PER_TASK
    layout = make_layout(
        scored,
        rows_per_task=most if arguments.tasks is None else -(-num_rows // arguments.tasks),
        with_embeddings=with_embeddings,
        depends_on={"reference": reference["key"], "objective": objective.to_dict()},
    )
    layout.write(work)
    run = _Runner(arguments.work_dir, arguments.workers, executor_of(arguments))
    ranges, groups = len(layout.range_starts), len(layout.group_starts)
    shuffle, rank = Shuffle(arguments.work_dir, layout.key), Rank(arguments.work_dir, objective, layout.key)
    steps = (
        (shuffle, ranges, lambda number: is_of(work, sorted_path(number), layout.key)),
        (rank, groups, lambda number: is_of(work, ranked_path(number), layout.key)),
    )
    for step, tasks, is_done in steps:
        if not run(step, tasks, layout.key, is_done):
            return
    facts = {
        "shards": len(files),
        "lost": scored.lost,
        "unreadable": sum(file.num_rows - file.num_scored for file in files),
    }
    summary = write_quotas(work, layout, sizes, objective, facts=facts)
    cut = Cut(arguments.work_dir, summary["key"])
    if run(cut, groups, summary["key"], partial(is_cut, work, summary=summary)):
        sys.stdout.write(_told(summary))


def add_write(subparsers: Any) -> None:
    """Add the command that writes what was selected."""
    parser = subparsers.add_parser("write", help="Write lists of uids, masks and shards of what was selected.")
    _add_folders(parser)
    parser.add_argument("--write_subset", action="store_true", help="Copy the kept samples into shards of their own.")
    parser.add_argument("--push_to_hub", action="store_true", help="Push scores, masks, lists and card to the Hub.")
    parser.add_argument("--hub_dataset_id", help="Dataset repository of the push, such as user/name.")
    parser.add_argument("--hub_private_repo", action="store_true", help="Make the repository private, if it is new.")
    add_executor(parser)
    parser.set_defaults(run=run_write, tasks=None)


def run_write(arguments: argparse.Namespace) -> None:
    """Write `lists/`, `masks/` and a card, shards of the kept samples if asked for, and push if asked to."""
    _check_tasks(arguments)
    work = get_datafolder(arguments.work_dir)
    reference, summary, layout = _reference(work), read_quotas(work), Layout.read(work)
    remove_left(work, ["", LISTS, MASKS, SUBSET])
    if not is_selected(work, layout, summary):
        raise InputError(f"The selection in {arguments.work_dir} has not been finished. Run select again.")
    check_unchanged(get_datafolder(arguments.data_dir), work, layout, key=reference["key"])
    repository = _repository(arguments)
    ranges, key = range(len(layout.range_starts)), summary["key"]
    tasks = min(arguments.tasks or len(ranges), len(ranges))
    run = _Runner(arguments.work_dir, arguments.workers, executor_of(arguments))
    configs, shards = list(summary["sizes"]), layout.scores
    steps = [
        (MergeLists(arguments.work_dir, key), len(configs), lambda rank: is_listed(work, configs[rank], key)),
        (
            WriteMasks(arguments.work_dir, key),
            tasks,
            lambda rank: all(are_written(work, layout, number, key) for number in ranges[rank::tasks]),
        ),
    ]
    if arguments.write_subset:
        copies = WriteSubsets(arguments.data_dir, arguments.work_dir, key)
        steps.append((copies, tasks, lambda rank: all(is_copied(work, path, key) for path in shards[rank::tasks])))
    for step, count, is_done in steps:
        if not run(step, count, key, is_done):
            return
    remove_others(work, layout, key)
    remove_other_lists(work, configs)
    card = selection_card(summary, reference, repo_id=arguments.hub_dataset_id)
    _write_card(work, card)
    sys.stdout.write("".join(f"{list_path(config)}: {count} uids\n" for config, count in summary["kept"].items()))
    if repository is not None:
        paths = [*shards, *map(mask_path, shards), *map(list_path, configs)]
        sys.stdout.write(f"pushed: {push_selection(work, paths, card, repository).url}\n")


def _write_card(work: DataFolder, card: str) -> None:
    """Write the README.md; what people wrote into the one that is there stays."""
    there = b""
    if work.isfile(CARD):
        with work.open(CARD) as file:
            there = file.read()
    with write_whole(work, CARD) as file:
        file.write(merge_cards(card, there.decode(errors="replace")).encode())


def _repository(arguments: argparse.Namespace) -> Repository | None:
    """Where to push, if asked to. Raises `InputError` where a push would fail."""
    if not arguments.push_to_hub:
        return None
    if arguments.hub_dataset_id is None:
        raise InputError("--push_to_hub needs --hub_dataset_id, the repository to push to, such as user/name.")
    repository = Repository(arguments.hub_dataset_id, "dataset", private=arguments.hub_private_repo)
    check_push(repository)
    return repository


def add_plan(subparsers: Any) -> None:
    """Add the command that tells what a selection of so many rows takes."""
    parser = subparsers.add_parser("plan", help="Tell what a selection of so many rows takes.")
    parser.add_argument("--num_rows", type=float, required=True, help="Rows to select from, such as 1e9.")
    parser.add_argument("--work_dir", help="Working folder with the scores of some shards, which tell the rest.")
    parser.add_argument("--rows_per_shard", type=float, help="Default: as in the scores, else 10,000.")
    parser.add_argument("--rows_per_second", type=float, help="On one device; default: as in the scores.")
    parser.add_argument(
        "--largest_cluster", type=float, help="Its share of the rows, in (0, 1]; default: as in the scores, else 0.01."
    )
    parser.add_argument("--gpus", type=int, default=1, help="Devices that score at once.")
    parser.add_argument("--selection_ratio", type=float, default=0.3, help="Fraction of the rows to KEEP, in (0, 1].")
    parser.set_defaults(run=run_plan)


def run_plan(arguments: argparse.Namespace) -> None:
    """Print shards, tasks, device hours, storage, memory and growth."""
    known = Known() if arguments.work_dir is None else known_from_scores(get_datafolder(arguments.work_dir))
    given = {name: getattr(arguments, name) for name in ("rows_per_shard", "rows_per_second", "largest_cluster")}
    known = replace(known, **{name: value for name, value in given.items() if value is not None})
    lines = planned(
        arguments.num_rows,
        known,
        rows_per_task=ROWS_WITH_EMBEDDINGS if known.embed_dim else ROWS_PER_TASK,
        gpus=arguments.gpus,
        ratio=arguments.selection_ratio,
    )
    sys.stdout.write("\n".join(lines) + "\n")


class _Runner:
    """Runs steps one after the other, each where the executor says."""

    def __init__(self, work_dir: str, workers: int, executor: Executor) -> None:
        if executor.name == "local" and workers == -1:
            workers = available_cores()  # each holds the rows of its task in this machine's memory
        self.work_dir, self.workers, self.executor = work_dir, workers, executor

    def __call__(self, step: PipelineStep, tasks: int, key: str, is_done: Callable[[int], bool]) -> bool:
        """Whether all tasks are done; if not, it is said that the command has to be run once more."""
        number = hashlib.sha256(f"{key} {tasks}".encode()).hexdigest()[:16]
        folder = get_datafolder(f"{self.work_dir.rstrip('/')}/logs/{step.name}-{number}")
        workers = min(self.workers, tasks)  # one task alone needs no other process
        done = run_pipeline(
            [step], folder=folder, tasks=tasks, workers=workers, executor=self.executor, is_done=is_done
        )
        if not done:
            sys.stdout.write(f"{counted(tasks, 'task')} of {step.name} handed over; run this again when they ended.\n")
        return done


def _add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data_dir", required=True, help="Folder or URL of the shards, .tar or .parquet.")
    parser.add_argument(
        "--work_dir", required=True, help="Folder or URL of the scores and of all that is made of them."
    )


def _check_tasks(arguments: argparse.Namespace) -> None:
    if arguments.tasks is not None and arguments.tasks < 1:
        raise InputError(f"--tasks must be at least 1, got {arguments.tasks}; leave it out for as many as fit.")


def _reference(work: DataFolder) -> dict[str, Any]:
    place = "reference/reference.json"
    if not work.isfile(place):
        raise InputError(f"--work_dir {work.path} has no {place}. Run prepare and score first.")
    needs: dict[str, type | tuple[type, ...]] = {"key": str, "has_captions": bool, "num_rows": int, "model": dict}
    needs["adapter_id"] = (str, type(None))
    return read_json(work, place, remedy="Remove the folder reference there and run prepare again.", needs=needs)


def _told(summary: dict[str, Any]) -> str:
    lost = f", {counted(len(summary['lost']), 'shard')} lost" if summary["lost"] else ""
    repeats = summary["duplicates"]
    shards, clusters = counted(summary["shards"], "shard"), counted(len(summary["clusters"]), "cluster")
    lines = [f"{summary['rows']} rows of {shards}{lost}, {clusters}"]
    unread = summary["unreadable"]
    lines += [f"{counted(unread, 'row')} more without scores, which can't be kept"] if unread else []
    why = "a row of the cluster with the same uid scores as well or better"
    lines += [f"{counted(repeats, 'row')} left out: {why}"] if repeats else []
    lines += [f"{config}: {count} kept" for config, count in summary["kept"].items()]
    return "\n".join(lines) + "\n"

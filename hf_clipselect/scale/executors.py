"""Where the tasks of a step run: datatrove's executors on this machine, Slurm, Ray, or Hugging Face Jobs."""

import argparse
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

from datatrove.executor import (
    JobsPipelineExecutor,
    RayPipelineExecutor,
    SlurmPipelineExecutor,
)
from datatrove.executor.base import PipelineExecutor
from datatrove.io import DataFolder
from datatrove.pipeline.base import PipelineStep

from ..encoder.cores import available_cores
from ..errors import InputError, RunError
from .local_executor import LocalExecutor


NAMES = ("local", "slurm", "ray", "jobs")
# Completion markers whose files are looked at at once: object storage answers each in some tenths of a second.
_CHECKS_AT_ONCE = 16


@dataclass(frozen=True)
class Executor:
    """Which of datatrove's executors runs the tasks, and what each task gets of a cluster.

    `cpus_per_task`, `mem_per_cpu_gb` and `gpus_per_task` are for Slurm and Ray; the other fields are for the executor
    that their names begin with.
    """

    name: str = "local"
    cpus_per_task: int = 1
    mem_per_cpu_gb: int = 4
    gpus_per_task: int = 0
    slurm_partition: str | None = None
    slurm_time: str = "24:00:00"
    jobs_flavor: str = "cpu-basic"
    jobs_timeout: str = "24h"
    jobs_dependencies: tuple[str, ...] = ()


_HELP = {
    "cpus_per_task": "Cores of each task, with slurm and ray.",
    "mem_per_cpu_gb": "Memory of each core in GB, with slurm and ray.",
    "gpus_per_task": "GPUs of each task, with slurm and ray.",
    "slurm_partition": "Partition of the Slurm cluster.",
    "slurm_time": "Time limit of each Slurm job.",
    "jobs_flavor": "Hardware of each Hugging Face Job, such as a10g-small.",
    "jobs_timeout": "Time limit of each Hugging Face Job.",
}


def add_executor(parser: argparse.ArgumentParser) -> None:
    """Add the flags of an [`Executor`], and `--tasks` and `--workers`, to a command's parser."""
    parser.add_argument(
        "--executor", choices=NAMES, default="local", help="Which executor of datatrove runs the tasks."
    )
    parser.add_argument("--tasks", type=int, default=1, help="How many tasks share the work.")
    parser.add_argument(
        "--workers", type=int, default=-1, help="How many run at once (default: all, or as a machine has cores)."
    )
    for field in fields(Executor):
        if field.name in _HELP:
            kind = int if isinstance(field.default, int) else str
            parser.add_argument(f"--{field.name}", type=kind, default=field.default, help=_HELP[field.name])
    parser.add_argument(
        "--jobs_dependencies",
        nargs="+",
        default=[],
        help="What pip installs in each Hugging Face Job: hf_clipselect[scale] and what the storage needs.",
    )


def executor_of(arguments: argparse.Namespace) -> Executor:
    """The executor that the flags of [`add_executor`] name."""
    given = {field.name: getattr(arguments, field.name) for field in fields(Executor) if field.name != "name"}
    return Executor(**{**given, "name": arguments.executor, "jobs_dependencies": tuple(arguments.jobs_dependencies)})


def run_pipeline(
    steps: Sequence[PipelineStep],
    *,
    folder: DataFolder,
    tasks: int,
    workers: int = -1,
    executor: Executor | None = None,
    is_done: Callable[[int], bool] | None = None,
) -> bool:
    """Run the tasks of a pipeline that are not done yet; whether all are done, which Slurm's are not when it returns.

    datatrove keeps its logs and the completion marker of each task in `folder`, which belongs to this work in so many
    tasks alone. A marker counts where `is_done`, by default always, finds what the task was to write; another one is
    removed, and its task runs again.

    Raises `InputError` where the executor can't be used so, and `RunError` where tasks are not done at the end.
    """
    executor = executor or Executor()
    if tasks < 1:
        raise InputError(f"--tasks must be at least 1, got {tasks}.")
    if workers < 1 and workers != -1:
        raise InputError(f"--workers must be at least 1, got {workers}; leave it out for all at once.")
    _remove_empty_markers(folder, is_done)
    runner = _runner(list(steps), folder=folder, tasks=tasks, workers=workers, executor=executor)
    runner.run()
    folder.invalidate_cache()
    left = runner.get_incomplete_ranks(skip_completed=True)
    if left and executor.name != "slurm":
        raise RunError(
            f"{len(left)} of {tasks} tasks did not end well, the first is {left[0]}; what each said is in "
            f"{folder.resolve_paths('logs')}. The same command runs what is missing."
        )
    return not left


def _remove_empty_markers(folder: DataFolder, is_done: Callable[[int], bool] | None) -> None:
    """Remove the completion markers of tasks whose files are not there."""
    if is_done is None or not folder.isdir("completions"):
        return
    ranks = [int(os.path.basename(name)) for name in folder.list_files("completions")]
    with ThreadPoolExecutor(_CHECKS_AT_ONCE) as pool:
        for rank, done in zip(ranks, pool.map(is_done, ranks), strict=True):
            if not done:
                folder.rm_file(f"completions/{rank:05d}")


def _runner(
    steps: list[PipelineStep], *, folder: DataFolder, tasks: int, workers: int, executor: Executor
) -> PipelineExecutor:
    shared = {"pipeline": steps, "tasks": tasks, "workers": workers, "logging_dir": folder}
    of_cluster = {
        "cpus_per_task": executor.cpus_per_task,
        "mem_per_cpu_gb": executor.mem_per_cpu_gb,
        "gpus_per_task": executor.gpus_per_task,
    }
    if executor.name == "slurm":
        if executor.slurm_partition is None:
            raise InputError("--executor slurm needs --slurm_partition, the partition that the jobs go to.")
        if shutil.which("sbatch") is None:
            raise InputError(
                "--executor slurm needs Slurm's sbatch, which is not on the PATH of this machine. Run the command on "
                "one that hands jobs to the cluster."
            )
        return SlurmPipelineExecutor(
            **shared,
            **of_cluster,
            time=executor.slurm_time,
            partition=executor.slurm_partition,
            job_name="hf_clipselect",
            qos="",
            # The jobs run in the environment of this process.
            env_command=f'export PATH="{os.path.dirname(sys.executable)}:$PATH"',
        )
    if executor.name == "ray":
        if importlib.util.find_spec("ray") is None:
            raise InputError("--executor ray needs Ray, which is not installed: pip install 'ray[default]'")
        return RayPipelineExecutor(**shared, **of_cluster)
    if executor.name == "jobs":
        if folder.is_local():
            raise InputError(
                f"--executor jobs needs a working folder that the jobs can reach, such as hf://buckets/me/work or "
                f"s3://bucket/work; {folder.path} is one of this machine."
            )
        if not executor.jobs_dependencies:
            raise InputError(
                "--executor jobs needs --jobs_dependencies, what pip installs in each job: hf_clipselect[scale] from "
                "where you have it, such as a Git URL."
            )
        return JobsPipelineExecutor(
            **shared,
            flavor=executor.jobs_flavor,
            timeout=executor.jobs_timeout,
            dependencies=list(executor.jobs_dependencies),
            job_name="hf_clipselect",
        )
    return LocalExecutor(**{**shared, "workers": min(tasks, available_cores()) if workers == -1 else workers})

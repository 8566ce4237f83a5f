"""Where tasks run: the markers that are trusted, and what the executors are given."""

import importlib.util
import multiprocessing
import os
import signal
import stat
import time
from multiprocessing import forkserver
from pathlib import Path

import dill
import pytest
from datatrove.io import get_datafolder
from datatrove.pipeline.base import PipelineStep

from hf_clipselect.errors import InputError, RunError
from hf_clipselect.scale.executors import Executor, run_pipeline


class NoteTask(PipelineStep):
    """Writes a file for each task, and how often it ran."""

    name, type = "note", "test"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def run(self, data=None, rank=0, world_size=1):
        note = self.folder / f"{rank}.txt"
        note.write_text(str(int(note.read_text()) + 1 if note.exists() else 1))


def run(folder: Path, tasks: int = 3, logs: str | None = None, **options) -> bool:
    logs = get_datafolder(logs or str(folder / "logs"))
    return run_pipeline([NoteTask(folder)], folder=logs, tasks=tasks, **options)


def notes(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text() for path in sorted(folder.glob("*.txt"))}


def test_only_tasks_whose_files_are_missing_run_again(tmp_path: Path) -> None:
    assert run(tmp_path, workers=1) and notes(tmp_path) == {"0": "1", "1": "1", "2": "1"}
    assert run(tmp_path, workers=1) and notes(tmp_path) == {"0": "1", "1": "1", "2": "1"}
    done = {0: True, 1: False, 2: True}
    assert run(tmp_path, workers=1, is_done=done.__getitem__)
    assert notes(tmp_path) == {"0": "1", "1": "2", "2": "1"}
    # In object storage the name of the folder is no pattern.
    for name in ("logs[1]", "logs1", "logs[1]"):
        assert run(tmp_path, workers=1, logs=f"memory://{tmp_path}/{name}", is_done=done.__getitem__)
    assert notes(tmp_path) == {"0": "3", "1": "5", "2": "3"}


class KilledOnce(NoteTask):
    """Its second task is killed as a machine without memory would, the first time."""

    def run(self, data=None, rank=0, world_size=1):
        mark = self.folder / "killed"
        if rank == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        super().run(data, rank, world_size)


class FailsAtOnce(NoteTask):
    """Its first task fails while the second one would run for an hour."""

    def run(self, data=None, rank=0, world_size=1):
        if rank == 1:
            (self.folder / "1.txt").touch()
            time.sleep(3600)
        while not (self.folder / "1.txt").exists():
            time.sleep(0.05)
        raise InputError("the model is another one")


@pytest.mark.slow
def test_a_process_that_is_killed_is_noticed(tmp_path: Path) -> None:
    options = {"folder": get_datafolder(str(tmp_path / "logs")), "tasks": 3, "workers": 2}
    with pytest.raises(RunError, match=r"A process .* was killed, perhaps for lack of memory.*The same command"):
        run_pipeline([KilledOnce(tmp_path)], **options)
    assert run_pipeline([KilledOnce(tmp_path)], **options)
    assert notes(tmp_path).keys() == {"0", "1", "2"} and notes(tmp_path)["1"] == "1"


class KillsTheRun(NoteTask):
    """Its first task kills the process that gave out the tasks, while the second one would run for an hour."""

    def run(self, data=None, rank=0, world_size=1):
        (self.folder / f"{rank}.txt").write_text(str(os.getpid()))
        while rank == 0 and not (self.folder / "1.txt").exists():
            time.sleep(0.05)
        if rank == 0:
            os.kill(multiprocessing.parent_process().pid, signal.SIGKILL)
        time.sleep(3600)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_tasks_end_with_a_run_that_is_killed(tmp_path: Path) -> None:
    run = os.fork()
    if run == 0:
        forkserver._forkserver._forkserver_pid = None  # the server of other tests is not its child
        run_pipeline([KillsTheRun(tmp_path)], folder=get_datafolder(str(tmp_path / "logs")), tasks=2, workers=2)
    assert os.waitpid(run, 0)[1] == signal.SIGKILL
    running, deadline = {int(pid) for pid in notes(tmp_path).values()}, time.monotonic() + 60
    while running := {pid for pid in running if is_running(pid)}:
        assert time.monotonic() < deadline, running
        time.sleep(0.05)


@pytest.mark.slow
def test_the_first_error_ends_the_other_tasks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the model is another one"):
        run_pipeline([FailsAtOnce(tmp_path)], folder=get_datafolder(str(tmp_path / "logs")), tasks=2, workers=2)


def test_slurm_gets_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sbatch is a script that keeps what it is given, and answers with the number of a job. What the jobs would run
    does the work, and the same command then finds it done.
    """
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nfor last; do :; done\ncat "$last" >> {tmp_path}/scripts\n'
        'echo "Submitted batch job 7"\n'
    )
    scontrol = sbatch.with_name("scontrol")
    scontrol.write_text("#!/bin/sh\necho node1\n")
    for program in (sbatch, scontrol):
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{sbatch.parent}{os.pathsep}{os.environ['PATH']}")
    executor = Executor("slurm", slurm_partition="gpu", slurm_time="2:00:00", cpus_per_task=8, gpus_per_task=1)
    assert not run(tmp_path, tasks=5, workers=2, executor=executor)  # not done, but on its way
    script = (tmp_path / "logs" / "launch_script.slurm").read_text()
    for line in ["partition=gpu", "time=2:00:00", "cpus-per-task=8", "gpus=1", "array=0-4%2"]:
        assert f"#SBATCH --{line}\n" in script
    assert f"launch_pickled_pipeline {tmp_path}/logs/executor.pik" in script
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0].startswith("--export=ALL,RUN_OFFSET=0") and script in (tmp_path / "scripts").read_text()
    monkeypatch.setenv("SLURM_NODELIST", "node1")
    for job in range(5):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(job))
        with (tmp_path / "logs" / "executor.pik").open("rb") as file:
            dill.load(file).run()
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID")
    assert run(tmp_path, tasks=5, workers=2, executor=executor)
    assert notes(tmp_path) == {str(rank): "1" for rank in range(5)}
    assert (tmp_path / "calls").read_text().splitlines() == calls  # nothing more was handed over


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tasks": 0}, "--tasks must be at least 1"),
        ({"executor": Executor("slurm")}, "--slurm_partition"),
        ({"executor": Executor("slurm", slurm_partition="gpu")}, "sbatch, which is not on the PATH"),
        ({"executor": Executor("ray")}, "Ray, which is not installed"),
        ({"executor": Executor("jobs")}, "hf://buckets/me/work"),
    ],
)
def test_what_can_not_run_is_refused(
    tmp_path: Path, options: dict, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if options.get("executor") == Executor("ray") and importlib.util.find_spec("ray") is not None:
        pytest.skip("Ray is installed")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=told):
        run(tmp_path, **options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tasks": 0}, "--tasks must be at least 1, got 0"),
        ({"tasks": 0, "workers": 0}, "--tasks must be at least 1, got 0"),
        ({"workers": 0}, "--workers must be at least 1, got 0; leave it out for all at once"),
        ({"workers": -2}, "--workers must be at least 1, got -2"),
    ],
)
def test_numbers_of_tasks_and_workers_are_told_one_by_one(tmp_path: Path, options: dict, told: str) -> None:
    with pytest.raises(InputError, match=rf"^{told}"):
        run(tmp_path, **options)

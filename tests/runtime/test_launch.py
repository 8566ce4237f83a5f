import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedType, LoggerType
from interrupted import free_port
from preloaded import Command, run_python

from hf_clipselect.errors import InputError
from hf_clipselect.runtime.launch import _check_engine, make_accelerator


# A fresh process, because Accelerate keeps one state for all the accelerators of a process.
SCRIPT = """
import os
from hf_clipselect.errors import InputError
from hf_clipselect.runtime.launch import make_accelerator
try:
    accelerator = make_accelerator(use_cpu=True)
    text = f"processes {accelerator.num_processes} {accelerator.device.type} {accelerator.mixed_precision}"
except InputError as error:
    text = f"refused {error}"
os.write(1, (text + "\\n").encode())  # one write, so that the lines of two processes do not mix
"""


def run(*arguments: str, **environment: str) -> list[str]:
    """Lines of all processes on stdout."""
    ran = run_python(*arguments, env={**os.environ, **environment})
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout.splitlines()


def test_one_process() -> None:
    accelerator = make_accelerator()
    assert accelerator.num_processes == 1
    assert accelerator.distributed_type == DistributedType.NO
    assert accelerator.log_with == []


def test_processes_that_do_not_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    make_accelerator()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="2 processes were launched, but Accelerate sees 1") as error:
        make_accelerator()
    assert "accelerate launch --multi_gpu --num_processes 2" in str(error.value)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert make_accelerator().num_processes == 1


def test_engines_that_split_a_model_are_refused() -> None:
    for engine in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        with pytest.raises(InputError, match=f"configured for {engine.value}.*accelerate launch --multi_gpu"):
            _check_engine(engine)
    for engine in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        _check_engine(engine)


def test_unknown_tracker(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        make_accelerator(report_to="notebook", logging_dir=str(tmp_path))
    message = str(error.value)
    assert "--report_to notebook" in message and "tensorboard" in message and "\n" not in message


@pytest.mark.filterwarnings("ignore:.*no supported trackers")
def test_tracker_that_is_not_installed(tmp_path: Path) -> None:
    known = {str(tracker.value) for tracker in LoggerType} - {"all"}
    absent = sorted(known - {str(tracker) for tracker in get_available_trackers()})
    if not absent:  # a machine of someone who tracks everything
        pytest.skip("every tracker that Accelerate knows is installed")
    with pytest.raises(InputError, match=f"--report_to {absent[0]}: that tracker is not installed"):
        make_accelerator(report_to=absent[0], logging_dir=str(tmp_path))
    # One that is installed, or the word for none, does not hide it.
    for names in (["none", absent[0]], [absent[0], *map(str, get_available_trackers())]):
        with pytest.raises(InputError, match=f"--report_to {absent[0]}: that tracker is not installed"):
            make_accelerator(report_to=names, logging_dir=str(tmp_path))


@pytest.mark.slow
def test_environment_of_a_launch(script: str) -> None:
    # Half precision from `accelerate config` does not reach the adapters.
    assert run(script, ACCELERATE_MIXED_PRECISION="fp16") == ["processes 1 cpu no"]
    # Two processes that were told of no meeting place.
    (line,) = run(script, WORLD_SIZE="2", RANK="0")
    assert line.startswith("refused ") and "MASTER_ADDR" in line


LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "script.py").write_text(SCRIPT)
    return str(tmp_path / "script.py")


@pytest.mark.slow
def test_two_processes_on_the_cpu_as_the_error_says(script: str) -> None:
    lines = run(*LAUNCH, script, ACCELERATE_USE_CPU="true")
    assert [line for line in lines if line.startswith("processes")] == ["processes 2 cpu no"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("machines_with_the_variable", [{0, 1}, {0}, set()])
def test_two_machines(script: str, machines_with_the_variable: set[int]) -> None:
    """They see each other, whether or not both were told that there is no GPU."""
    meeting = ["--num_machines", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", str(free_port())]
    started = []
    for machine in range(2):
        variable = {"ACCELERATE_USE_CPU": "true"} if machine in machines_with_the_variable else {}
        command = [*LAUNCH, *meeting, "--machine_rank", str(machine), script]
        started.append(Command(*command, env={**os.environ, **variable}))
    for ran in [command.wait() for command in started]:
        assert ran.returncode == 0, ran.stderr[-2000:]
        assert [line for line in ran.stdout.splitlines() if line.startswith("processes")] == ["processes 2 cpu no"]


WAITING = """
import torch
from hf_clipselect.runtime.launch import make_accelerator
make_accelerator(use_cpu=True)
print(torch.distributed.group.WORLD._get_backend(torch.device("cpu")).options._timeout)
"""


@pytest.mark.slow
def test_processes_wait_long_for_each_other_and_part_in_silence() -> None:
    where = {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    ran = subprocess.run(
        [sys.executable, "-c", WAITING],
        env={**os.environ, **where, "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "6:00:00\n", "")


ORDERLY = """
import torch
from hf_clipselect.runtime.launch import exit_now
exit_now(3)
print("a lone process goes on")
torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
print("the output is not lost")
exit_now(3)
print("nor is this printed")
"""


@pytest.mark.slow
def test_exit_now() -> None:
    ran = subprocess.run([sys.executable, "-c", ORDERLY], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (3, "a lone process goes on\nthe output is not lost\n"), ran.stderr

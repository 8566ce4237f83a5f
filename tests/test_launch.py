import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedType, LoggerType

from hf_clipselect.errors import InputError
from hf_clipselect.launch import make_accelerator


# A fresh process, because Accelerate keeps one state for all the accelerators of a process.
SCRIPT = """
import os
from hf_clipselect.errors import InputError
from hf_clipselect.launch import make_accelerator
try:
    accelerator = make_accelerator(use_cpu=True)
    text = f"processes {accelerator.num_processes} {accelerator.device.type} {accelerator.mixed_precision}"
except InputError as error:
    text = f"refused {error}"
os.write(1, (text + "\\n").encode())  # one write, so that the lines of two processes do not mix
"""


def run(*command: str, **environment: str) -> list[str]:
    """Lines of all processes on stdout."""
    ran = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
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


@pytest.mark.slow
def test_environment_of_a_launch() -> None:
    # Half precision from `accelerate config` does not reach the adapters.
    assert run(sys.executable, "-c", SCRIPT, ACCELERATE_MIXED_PRECISION="fp16") == ["processes 1 cpu no"]
    # Two processes that were told of no meeting place.
    (line,) = run(sys.executable, "-c", SCRIPT, WORLD_SIZE="2", RANK="0")
    assert line.startswith("refused ") and "MASTER_ADDR" in line


@pytest.mark.slow
def test_two_processes_on_the_cpu_as_the_error_says(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    lines = run(*launch, str(script), ACCELERATE_USE_CPU="true")
    assert [line for line in lines if line.startswith("processes")] == ["processes 2 cpu no"] * 2

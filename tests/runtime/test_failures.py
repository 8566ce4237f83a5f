"""Real failures of the machine, each brought about: no memory, full disks, limits, killed processes."""

import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from datasets import Dataset, Image
from interrupted import CLIENT, ForkingClient, free_port
from limits import files_at_most
from PIL import Image as PILImage
from preloaded import run_python
from safetensors.numpy import load_file, save_file
from torch.utils.data import DataLoader

from hf_clipselect.cli import main
from hf_clipselect.errors import InputError, PushError, RunError
from hf_clipselect.runtime.failures import during, explained_failures, is_of_the_machine


# A device that takes nothing, as a full disk. Not for libraries to write to: safetensors puts a file in its place.
FULL = "/dev/full"
needs_full_disk = pytest.mark.skipif(not os.path.exists(FULL), reason=f"no {FULL}")
TOO_MUCH = 1 << 50  # bytes: more than the addresses of a process


class Failing(torch.utils.data.Dataset):
    """A row that is made by a function, in a worker."""

    def __init__(self, make: Callable[[], torch.Tensor]) -> None:
        self.make = make

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.make()


def in_a_worker(make: Callable[[], object]) -> Callable[[], None]:
    return lambda: list(DataLoader(Failing(make), num_workers=1))


def shared_beyond_the_limit() -> torch.Tensor:
    with files_at_most(100):
        return torch.zeros(1000).share_memory_()


def write_to_full_disk() -> None:
    with open(FULL, "wb") as file:
        file.write(b"x")


def rows_from_full_disk() -> Iterator[dict[str, int]]:
    write_to_full_disk()
    yield {"x": 1}


MEMORY = {
    "numpy": lambda: np.empty(TOO_MUCH, np.uint8),
    "torch": lambda: torch.empty(TOO_MUCH, dtype=torch.uint8),
    "pyarrow": lambda: pa.allocate_buffer(TOO_MUCH),
    "worker": in_a_worker(lambda: np.empty(TOO_MUCH, np.uint8)),
    "worker's tensor": in_a_worker(lambda: torch.empty(TOO_MUCH, dtype=torch.uint8)),
    "killed worker": in_a_worker(lambda: os.kill(os.getpid(), signal.SIGKILL)),
    "worker that left": in_a_worker(lambda: os._exit(1)),
    "shared": in_a_worker(shared_beyond_the_limit),
}
FULL_DISK = {
    "python": write_to_full_disk,
    "worker": in_a_worker(write_to_full_disk),
    "datasets": lambda: Dataset.from_generator(rows_from_full_disk),  # wraps it in an error of its own
}
LARGE_FILE = {
    "python": lambda path: path.write_bytes(bytes(1000)),
    "pyarrow": lambda path: pq.write_table(pa.table({"x": np.zeros(1000)}), path),
    "safetensors": lambda path: save_file({"x": np.zeros(1000)}, path),
}


def told(fail: Callable[[], object], folder: Path | None = None) -> str:
    """What is told of a failure; what was raised stays with it."""
    raised = []
    with pytest.raises(RunError) as error, explained_failures(folder), during("encode"):
        try:
            fail()
        except Exception as original:
            raised.append(original)
            raise
    assert error.value.__cause__ is raised[0]
    message = str(error.value)
    assert "\n" not in message and len(message) < 700
    assert "in the stage encode" in message
    return message


class TestExplainedFailures:
    @pytest.mark.parametrize("case", MEMORY)
    def test_memory(self, case: str) -> None:
        message = told(MEMORY[case])
        for name in re.findall(r"</(torch_\w+)>", message):
            Path("/dev/shm", name).unlink(missing_ok=True)  # torch leaves it there, empty
        assert (
            "memory" in message and "--per_device_eval_batch_size" in message and "--dataloader_num_workers" in message
        )
        assert ("/dev/shm" in message) == (case == "shared")

    @needs_full_disk
    @pytest.mark.parametrize("case", FULL_DISK)
    def test_full_disk(self, case: str, tmp_path: Path) -> None:
        message = told(FULL_DISK[case], tmp_path)
        assert message.startswith("The disk is full") and "No space left on device" in message
        assert message.endswith(f"The same command goes on from what is in {tmp_path}.")

    @pytest.mark.parametrize("case", LARGE_FILE)
    def test_size_of_a_file(self, case: str, tmp_path: Path) -> None:
        with files_at_most(100):
            message = told(lambda: LARGE_FILE[case](tmp_path / "file"))
        assert "ulimit -f" in message and "File too large" in message

    def test_places_that_are_gone_or_closed(self, tmp_path: Path) -> None:
        gone = tmp_path / "gone" / "file"
        for fail in (gone.read_bytes, gone.touch, lambda: os.replace(gone, tmp_path / "other")):
            assert told(fail, tmp_path).startswith(f"{gone} was removed, or can't be created in the stage encode. ")
            with pytest.raises(FileNotFoundError) as error:
                fail()
            assert not is_of_the_machine(error.value)  # a missing image is the dataset's fault
        (tmp_path / "file").touch()
        assert "was replaced by something else" in told((tmp_path / "file" / "in").touch)

        def closed() -> None:
            raise PermissionError(errno.EACCES, "Permission denied", str(gone))  # root may open anything

        assert told(closed).startswith(f"{gone} may not be read or written by this user in the stage encode. ")

    @pytest.mark.parametrize(
        "error",
        [
            InputError("wrong"),
            PushError("refused"),
            ValueError("a bug"),
            ValueError("column 'x [errno 5]' is unknown"),
            RuntimeError("No backend type associated with device type gloo"),
            RuntimeError(
                "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if the input is not contiguous."
            ),
            FileNotFoundError(errno.ENOENT, "No such file"),
            PermissionError(errno.EACCES, "Permission denied"),
            KeyboardInterrupt(),
        ],
    )
    def test_all_else_passes_through(self, error: BaseException, tmp_path: Path) -> None:
        with pytest.raises(type(error)) as raised, explained_failures(tmp_path), during("encode"):
            raise error
        assert raised.value is error

    @needs_full_disk
    def test_wrong_input_stays_wrong_input(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="^wrong$"), explained_failures(tmp_path):
            try:
                write_to_full_disk()
            except OSError as error:
                raise InputError("wrong") from error

    @needs_full_disk
    @pytest.mark.parametrize("how", ["dealt with", "a bug in dealing with it"])
    def test_another_error_after_a_failure(self, how: str, tmp_path: Path) -> None:
        with pytest.raises(KeyError, match="another matter"), explained_failures(tmp_path):
            try:
                write_to_full_disk()
            except OSError:
                if how == "dealt with":
                    raise KeyError("another matter") from None
                {}["another matter"]

    def test_worker_that_crashed_is_told_with_its_signal(self, tmp_path: Path) -> None:
        message = told(in_a_worker(lambda: os.kill(os.getpid(), signal.SIGSEGV)))
        assert "Segmentation fault" in message and "If that was for lack of memory" in message

    def test_traceback_shows_the_stage(self) -> None:
        with pytest.raises(KeyError) as raised, during("score"):
            raise KeyError("a bug")
        assert raised.value.__notes__ == ["Stage of the run: score"]


# Pairs of forked processes over gloo; the second of each leaves or sleeps, and the first prints what it is told.
PAIRS = """
import os, signal, sys, time
from datetime import timedelta
import torch
import hf_clipselect.runtime.launch
from hf_clipselect.errors import RunError
from hf_clipselect.runtime.failures import during, explained_failures
from hf_clipselect.runtime.launch import exit_now, make_accelerator

def reduced(accelerator):
    accelerator.reduce(torch.ones(10_000))

def trained(accelerator):
    model = accelerator.prepare(torch.nn.Linear(8, 8))
    for _ in range(2):
        accelerator.backward(model(torch.ones(4, 8)).sum())
        yield

def waiting(accelerator):
    accelerator.wait_for_everyone()

def work(case, rank):
    if case == "silent":
        hf_clipselect.runtime.launch._PATIENCE = timedelta(seconds=1)
    accelerator = make_accelerator(use_cpu=True)
    training = trained(accelerator) if case == "training" else None
    step = {"training": lambda _: next(training), "barrier": waiting}.get(case, reduced)
    step(accelerator)
    if rank == 1:
        time.sleep(60) if case == "silent" else os.kill(os.getpid(), signal.SIGKILL)
    try:
        with explained_failures(None), during("adapt"):
            step(accelerator)
    except RunError as error:
        print(f"{case}: {error}", flush=True)
        exit_now(1)

for case, port in zip(sys.argv[1::2], sys.argv[2::2]):
    pids = []
    for rank in range(2):
        pids.append(os.fork())
        if pids[-1] == 0:
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", ACCELERATE_USE_CPU="true")
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
            work(case, rank)
            os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1])
    os.kill(pids[1], signal.SIGKILL)
    os.waitpid(pids[1], 0)
    print(f"{case} ended with {code}", flush=True)
"""


@pytest.mark.slow
def test_lost_process(tmp_path: Path) -> None:
    cases = ["reduce", "barrier", "training", "silent"]
    ports = [str(free_port()) for _ in cases]
    (tmp_path / "script.py").write_text(PAIRS)
    ran = run_python(tmp_path / "script.py", *(part for pair in zip(cases, ports, strict=True) for part in pair))
    lines = ran.stdout.splitlines()
    assert len(lines) == 2 * len(cases), ran.stderr[-2000:]
    for case, line, end in zip(cases, lines[::2], lines[1::2], strict=True):
        assert line.startswith(f"{case}: Process 0 of 2 lost another one in the stage adapt ("), line
        cause = "Timed out waiting 1000ms" if case == "silent" else "closed by peer|reset by peer"
        assert re.search(cause, line), line
        assert end == f"{case} ended with 1"
    assert "terminate" not in ran.stderr


def select(output_dir: Path) -> int:
    """The exit code of a selection of the digits in this process."""
    flags = "--use_cpu --adaptation always --num_train_epochs 1 --min_train_steps 4 --dataloader_num_workers 0".split()
    return main(["select", "--output_dir", str(output_dir), *flags])


def error_line(stderr: str) -> str:
    """The one line that tells of the failure, the last on stderr."""
    assert "Traceback" not in stderr
    (line,) = [line for line in stderr.splitlines() if "error: " in line]
    assert stderr.endswith(line + "\n")
    return line[line.index("error: ") :]  # a bar that stood still is before it


def assert_whole(folder: Path) -> None:
    """Every file that is there can be read to its end, and there are none but those with a name of their own."""
    for path in folder.rglob("*"):
        assert not path.name.endswith("tmp"), path
        if path.suffix == ".parquet":
            pq.read_table(path, partitioning=None)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".safetensors":
            load_file(path)
        elif path.suffix == ".yaml":
            assert yaml.safe_load(path.read_text())["identity"]


RESULTS = {"scores.parquet", "subset", "report.json", "report.html"}


@pytest.mark.slow
def test_limited_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    assert select(undisturbed) == 0

    def fails(file_size: int, where: str) -> None:
        capsys.readouterr()
        with files_at_most(file_size):
            code = select(out)
        stdout, stderr = capsys.readouterr()
        assert (code, stdout) == (1, ""), stderr
        line = error_line(stderr)
        assert "ulimit -f" in line and where in line
        assert line.endswith(f"The same command goes on from what is in {out}.")
        assert_whole(out)

    def largest(name: str) -> int:
        return max(path.stat().st_size for path in [undisturbed / name, *(undisturbed / name).rglob("*")])

    assert largest("scores.parquet") < largest("adapter") < largest("report.html") < largest("features")
    fails(largest("features") // 2, "in the stage encode")
    assert not RESULTS & {path.name for path in out.iterdir()}
    shutil.copytree(undisturbed / "features", out / "features", dirs_exist_ok=True)
    fails(largest("adapter") // 2, "in the stage adapt")
    assert not RESULTS & {path.name for path in out.iterdir()}
    assert not (out / "adapter").exists()
    fails(largest("report.html") - 1000, "File too large")
    assert not (out / "report.html").exists()
    (out / "scores.parquet").unlink()
    fails(largest("scores.parquet") // 2, "File too large")
    assert not (out / "scores.parquet").exists()

    assert select(out) == 0
    for path in undisturbed.rglob("*"):
        if path.suffix in {".parquet", ".safetensors"}:
            assert (out / path.relative_to(undisturbed)).read_bytes() == path.read_bytes(), path


# A process that may not take more memory once everything is imported.
SHORT_OF_MEMORY = r"""
import re, resource, sys
import hf_clipselect.cli.select_command  # libraries first: it is the run that has too little memory
from hf_clipselect.cli import select
size = 1024 * int(re.search(r"VmSize:\s+(\d+)", open("/proc/self/status").read())[1])
resource.setrlimit(resource.RLIMIT_AS, (size + 400_000_000,) * 2)
sys.exit(select())
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the size of a process is read from /proc")
def test_short_memory(tmp_path: Path, images_dataset: Dataset, clip_folder: Path) -> None:
    cells = images_dataset.cast_column("image", Image(decode=False))[:]
    picture = io.BytesIO()
    PILImage.new("L", (9000, 9000)).save(picture, "PNG")  # decoded, and as numbers, it takes 1.3 GB
    cells["image"][7] = {"bytes": picture.getvalue(), "path": None}
    Dataset.from_dict(cells, features=images_dataset.features).save_to_disk(tmp_path / "data")
    out = tmp_path / "out"
    flags = [
        "--use_cpu",
        "--dataset_name",
        tmp_path / "data",
        "--model_name_or_path",
        clip_folder,
        "--output_dir",
        out,
        "--adaptation",
        "off",
        "--dataloader_num_workers",
        "0",
        "--on_bad_image",
        "drop",
    ]
    (tmp_path / "script.py").write_text(SHORT_OF_MEMORY)
    ran = run_python(tmp_path / "script.py", *flags)
    assert (ran.returncode, ran.stdout) == (1, ""), ran.stderr
    line = error_line(ran.stderr)
    assert line.startswith("error: The memory does not suffice in the stage encode (MemoryError): ")
    assert {path.name for path in out.iterdir()} == {"config.yaml", "features"}
    assert_whole(out)


def plan(folder: Path, **how: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    flags = [
        "--use_cpu",
        "--adaptation",
        "always",
        "--dataloader_num_workers",
        "0",
        "--output_dir",
        str(folder / "out"),
    ]
    return {"runs": [flags], "shard_rows": 256, "notes": str(folder), **how}


def check_the_end_of(output: str, rank: int, stage: str, folder: Path) -> None:
    line = error_line(output)
    assert line.startswith(f"error: Process {rank} of 2 lost another one in the stage {stage} (")
    assert line.endswith(f"The same command goes on from what is in {folder / 'out'}.")
    assert not RESULTS & {path.name for path in (folder / "out").iterdir()}


@pytest.mark.slow
def test_killed_process(forking_client: ForkingClient, tmp_path: Path) -> None:
    deaths = [(1, "encode", {"operation": "forward", "nth": 2}), (0, "adapt", {"operation": "step", "nth": 20})]
    for rank, stage, kill in deaths:
        folder = tmp_path / stage
        codes = forking_client.run(plan(folder, processes=2, dying_ranks=[rank], kill=kill))
        assert (codes[rank], codes[1 - rank]) == (-signal.SIGKILL, 1)
        check_the_end_of((folder / f"output-{1 - rank}.txt").read_text(), 1 - rank, stage, folder)


@pytest.mark.slow
def test_killed_machine(tmp_path: Path) -> None:
    """Of two launchers one loses its process; the other learns of it from its own process alone."""
    told = json.dumps(plan(tmp_path, dying_ranks=[0], kill={"operation": "forward", "nth": 2}))
    meeting = f"--main_process_ip 127.0.0.1 --main_process_port {free_port()} --num_machines 2 --num_processes 2"
    outputs, launched = [tmp_path / f"machine-{machine}.txt" for machine in range(2)], []
    for machine, output in enumerate(outputs):
        launch = f"-m accelerate.commands.launch --multi_gpu {meeting} --machine_rank {machine}".split()
        with output.open("w") as file:
            launched.append(
                subprocess.Popen(
                    [sys.executable, *launch, str(CLIENT), told],
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "ACCELERATE_USE_CPU": "true"},
                )
            )
    assert [process.wait() for process in launched] == [1, 1]
    # Behind this the launcher says that its process failed.
    ours, _, _ = outputs[1].read_text().partition("torch/distributed/elastic/")
    check_the_end_of(ours[: ours.rindex("\n") + 1], 1, "encode", tmp_path)

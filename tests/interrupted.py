"""A client that dies where a test says, and notes which images went through the model.

    python interrupted.py PLAN    runs recipes/select.py once per list of flags in the plan, as one process of a launch
    python interrupted.py         reads plans from stdin, one a line, and answers each with a line of exit codes

The second form forks the processes of each plan, so that they need not do once more what a process does once: it has
imported everything, and has made a selection.

A plan is JSON: `runs` (lists of flags), `shard_rows`, `notes` (a folder), and optionally `dying_ranks` with `kill`
(arguments of `Kill`), `processes` (how many are forked) and `pid` (the number that a process takes itself to have). A
plan with `runs_of_rank` has runs for each process. One with `at_once` is of runs that know nothing of each other; see
`run_at_once`.
"""

import gc
import hashlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import yaml
from accelerate.state import AcceleratorState
from datasets import Dataset, Image
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook
from tqdm import tqdm

import hf_clipselect.encoder.cache
from hf_clipselect.cli import main
from hf_clipselect.embedded import load_digits_dataset


CLIENT = Path(__file__).resolve()
RECIPE = CLIENT.parent.parent / "recipes" / "select.py"
# What a run imports when it trains, beyond what the first selection needed.
_IMPORTED_TO_TRAIN = ("hf_clipselect.adapters.training", "sklearn.metrics", "torch.utils.data")
# Nothing is trained: on a machine with GPUs torch would start threads, and a process that has them may not fork.
_FIRST_SELECTION = ["--use_cpu", "--max_train_samples", "40", "--adaptation", "off", "--dataloader_num_workers", "0"]


class Kill:
    """SIGKILL to this process at one of its operations.

    Args:
        operation: `"rename"` to a path; `"open"` of a path to write to; `"forward"` of images; `"step"` of the
            optimizer.
        path: Pattern of the path, relative to the output folder.
        nth: Which of these operations, from 1.
        moment: `"before"`, `"after"`, or `"torn"`: before a rename, when half of the file has reached the disk.
    """

    def __init__(self, operation: str, path: str = "", nth: int = 1, moment: str = "before") -> None:
        self.operation, self.path, self.left, self.moment = operation, path, nth, moment
        self.at_next_event = False

    def install(self, output_dir: str) -> None:
        self.output_dir = os.path.abspath(output_dir)
        if self.operation == "forward":
            register_module_forward_pre_hook(lambda module, _: self.count() if takes_pixels(module) else None)
        elif self.operation == "step":
            register_optimizer_step_pre_hook(lambda *_: self.count())
        else:
            sys.addaudithook(self.see)

    def see(self, event: str, details: tuple) -> None:
        """Python tells its audit hooks of an operation before it does it."""
        if self.at_next_event:
            self.at_next_event = False  # what follows is an event too
            os.kill(os.getpid(), signal.SIGKILL)
        if event == "os.rename" and self.operation == "rename" and self.concerns(details[1]):
            self.count(details[0])
        elif event == "open" and self.operation == "open" and details[2] & os.O_CREAT and self.concerns(details[0]):
            self.count()

    def concerns(self, path: Any) -> bool:
        if isinstance(path, int):
            return False
        return fnmatch(os.path.relpath(os.fsdecode(path), self.output_dir), self.path)

    def count(self, source: Any = None) -> None:
        self.left -= 1
        if self.left == 0 and self.moment == "after":
            self.at_next_event = True
        elif self.left == 0:
            if self.moment == "torn":
                os.truncate(source, os.path.getsize(source) // 2)
            os.kill(os.getpid(), signal.SIGKILL)


def takes_pixels(module: torch.nn.Module) -> bool:
    """The cutting into patches is the only convolution of a CLIP."""
    return isinstance(module, torch.nn.Conv2d)


def run(plan: dict[str, Any]) -> int:
    """The runs of a plan in this process, until one fails; its exit code."""
    rank = int(os.environ.get("RANK", 0))
    hf_clipselect.encoder.cache.SHARD_ROWS = plan["shard_rows"]
    if "pid" in plan:
        os.getpid = lambda: plan["pid"]
    encoded: list[str] = []

    def note(module: torch.nn.Module, inputs: tuple) -> None:
        if takes_pixels(module):
            encoded.extend(hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in inputs[0])

    register_module_forward_pre_hook(note)
    for number, flags in enumerate(plan["runs"]):
        if rank in plan.get("dying_ranks", ()):
            Kill(**plan["kill"]).install(flags[flags.index("--output_dir") + 1])
        code = select(flags)
        if code:
            return code
        Path(plan["notes"], f"{number}-{rank}.json").write_text(json.dumps(encoded))
        encoded.clear()
    return 0


def select(flags: list[str]) -> int:
    sys.argv[1:] = flags
    try:
        runpy.run_path(str(RECIPE), run_name="__main__")
    except SystemExit as end:
        return end.code
    raise AssertionError("the recipe ends by an exit code")


def encoded_images(notes: Path, number: int = 0) -> list[list[str]]:
    """What the processes of the n-th run of a plan put through the model: for each process, a hash of every image."""
    paths = sorted(notes.glob(f"{number}-*.json"), key=lambda path: int(path.stem.split("-")[1]))
    return [json.loads(path.read_text()) for path in paths]


def content(folder: Path) -> dict[str, Any]:
    """Every file of a run, hidden ones included; what tells of the clock or of the folder's name is left out."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if name == "report.html":
            found[name] = None
        elif name in ("report.json", "config.yaml"):
            record = yaml.safe_load(path.read_text())
            record.pop("seconds", None)
            record.pop("compare_command", None)
            record.get("arguments", {}).pop("output_dir", None)
            found[name] = record
        else:
            found[name] = path.read_bytes()
    return found


def assert_same(folder: Path, expected: Path) -> None:
    ours, theirs = content(folder), content(expected)
    assert list(ours) == list(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def save_digits_with_a_torn_image(folder: Path, *, row: int) -> None:
    """200 images of two digits, of which one can't be read."""
    digits = load_digits_dataset("train").filter(lambda label: label < 2, input_columns="label").select(range(200))
    images = digits.cast_column("image", Image(decode=False))[:]["image"]
    images[row] = {"bytes": b"torn", "path": None}
    columns = {"image": images, "label": digits["label"][:]}
    Dataset.from_dict(columns, features=digits.features).save_to_disk(folder)


def serve() -> int:
    """Answers plans; the exit code is that of a forked process."""
    begin()
    for line in sys.stdin:
        plan, port = json.loads(line), free_port()
        if "at_once" in plan:
            print(json.dumps(run_at_once(plan)), flush=True)
            continue
        pids = []
        for rank in range(plan.get("processes", 1)):
            pid = os.fork()
            if pid == 0:
                become(rank, plan, port)
                return run(plan | {"runs": plan["runs_of_rank"][rank]} if "runs_of_rank" in plan else plan)
            pids.append(pid)
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]), flush=True)
    return 0


def begin() -> None:
    """Does what a process does once: imports everything, compiles templates, reads fonts and the like."""
    tqdm.monitor_interval = 0  # no thread that may hold a lock when this process forks
    for module in _IMPORTED_TO_TRAIN:
        import_module(module)
    streams = {stream: os.dup(stream) for stream in (1, 2)}
    with open(os.devnull, "w") as nowhere, tempfile.TemporaryDirectory() as folder:
        for stream in streams:
            os.dup2(nowhere.fileno(), stream)
        code = main(["select", *_FIRST_SELECTION, "--output_dir", folder])
    for stream, saved in streams.items():
        os.dup2(saved, stream)
        os.close(saved)
    assert code == 0, "the first selection failed"
    AcceleratorState._reset_state(reset_partial_state=True)  # each forked process is of a launch of its own
    gc.collect()
    gc.freeze()  # training collects garbage, and need not look through everything that was imported


def after_fork() -> None:
    """Makes torch's pool of threads anew: of two threads that are first to need it, one would find none."""
    torch.set_num_threads(torch.get_num_threads())


def run_at_once(plan: dict[str, Any]) -> list[int]:
    """Runs of `plan["at_once"]`: each has `flags`, the second that it starts at, and may get a `signal` so many
    seconds `after`.

    Returns:
        Their exit codes; that of a signal is negative. What they print is in output-0.txt, output-1.txt and so on.
    """
    begin, pids = time.monotonic(), {}
    events = [(run.get("start", 0), number, None) for number, run in enumerate(plan["at_once"])]
    events += [
        (run.get("start", 0) + run["after"], number, run["signal"])
        for number, run in enumerate(plan["at_once"])
        if "signal" in run
    ]
    for moment, number, number_of_signal in sorted(events, key=lambda event: event[0]):
        time.sleep(max(0, begin + moment - time.monotonic()))
        if number_of_signal is not None:
            os.kill(
                pids[number], number_of_signal
            )  # of one that has ended, too: its number is not given away before it is waited for
            continue
        pids[number] = os.fork()
        if pids[number] == 0:
            code = 1
            try:
                become(number, {"notes": plan["notes"]}, port=0)
                code = run({**plan, "runs": [plan["at_once"][number]["flags"]]})
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
    return [os.waitstatus_to_exitcode(os.waitpid(pids[number], 0)[1]) for number in sorted(pids)]


def become(rank: int, plan: dict[str, Any], port: int) -> None:
    """Makes a forked process the one of a launch that has this rank; its output goes into a file."""
    after_fork()
    output = os.open(Path(plan["notes"], f"output-{rank}.txt"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    count = plan.get("processes", 1)
    if count > 1:
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(count),
            LOCAL_WORLD_SIZE=str(count),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
            ACCELERATE_USE_CPU="true",
        )


class ForkingClient:
    """What tests talk to: the one process that imported everything, and forks."""

    def __enter__(self) -> "ForkingClient":
        self.process = subprocess.Popen(
            [sys.executable, CLIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def run(self, plan: dict[str, Any]) -> list[int]:
        """Exit codes of the processes, by rank; that of a signal is negative."""
        self.process.stdin.write(json.dumps(plan) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.stdin.close()
        self.process.wait()


if __name__ == "__main__":
    sys.exit(run(json.loads(sys.argv[1])) if len(sys.argv) > 1 else serve())

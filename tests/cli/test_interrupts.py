"""Ctrl-C and SIGTERM end a command in one line and with the right code, whenever they come."""

import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_clipselect.runtime.interrupts import Interrupts, held_back


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Whoever starts the tests in the background of a shell has them ignore Ctrl-C, and what they start, too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_raised_once(number: signal.Signals) -> None:
    before = signal.getsignal(number), sys.unraisablehook
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.raise_signal(number)  # timeout(1) sends a second one at once
        interrupts.over()
    assert interrupts.received == number
    assert (signal.getsignal(number), sys.unraisablehook) == before


class Finalized:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def wait(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.001)


def test_what_python_drops_is_raised_again() -> None:
    with Interrupts():
        with pytest.raises(KeyboardInterrupt):
            Finalized()
            gc.collect()
            wait(60)
    signal.setitimer(signal.ITIMER_REAL, 0)


class Bereft:
    """As a finalizer whose processes the signal has ended."""

    def __del__(self) -> None:
        raise RuntimeError("a process is gone")


def test_what_finalizers_meet_after_a_signal_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[type] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: shown.append(dropped.exc_type))
    with Interrupts():
        Bereft()
        gc.collect()
        assert shown == [RuntimeError]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        Bereft()
        gc.collect()
    assert shown == [RuntimeError]


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts, held_back():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert interrupts.received is None


def test_a_signal_waits_for_the_end_of_the_block() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt):
        with held_back():
            signal.raise_signal(signal.SIGINT)
            reached = True
    assert reached and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_processes_that_are_forked_never_see_it() -> None:
    with held_back():
        child = os.fork()
        if child == 0:
            code = 1
            try:
                signal.raise_signal(signal.SIGINT)
                code = 0
            finally:
                os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def test_threads_other_than_the_main_one() -> None:
    passed = []

    def work() -> None:
        with Interrupts(), held_back():
            passed.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert passed


SIGNAL_AT_AN_IMPORT = """
import os, signal, sys

number, module = int(sys.argv.pop(1)), sys.argv.pop(1)


def send_once(event: str, details: tuple) -> None:
    if event == "import" and details[0] == module and not sent:
        sent.append(event)
        os.kill(os.getpid(), number)


sent = []
sys.addaudithook(send_once)
from hf_clipselect.cli import main

sys.exit(main())
"""


@pytest.mark.parametrize(
    ("module", "number"),
    [("numpy", signal.SIGINT), ("huggingface_hub", signal.SIGTERM), ("torch", signal.SIGINT)],
)
def test_a_command_is_stopped_while_libraries_are_imported(
    module: str, number: signal.Signals, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", SIGNAL_AT_AN_IMPORT, str(int(number)), module]
    flags = ["select", "--output_dir", str(tmp_path / "out")]
    done = subprocess.run([*command, *flags], capture_output=True, text=True)
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    place = f"goes on from what is in {tmp_path}/out" if module == "torch" else "starts again"
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert done.stderr == f"Stopped by {name}: the same command {place}.\n"


@pytest.mark.slow
def test_a_run_is_stopped_at_any_moment(tmp_path: Path) -> None:
    """Signals go to the whole group, as a terminal sends them; two come when decoding processes start."""
    draw = random.Random(0)
    runs = [[0, 0], [signal.SIGINT, "fork"], [signal.SIGTERM, "fork"]]
    runs += [[draw.choice([signal.SIGINT, signal.SIGTERM]), draw.uniform(0.02, 0.6)] for _ in range(6)]
    (tmp_path / "temporary").mkdir()
    flags = ["--use_cpu", "--max_train_samples", "400", "--dataloader_num_workers", "2"]
    flags += ["--adaptation", "always", "--num_train_epochs", "1", "--min_train_steps", "20"]
    plan = {"folder": str(tmp_path), "argv": flags, "runs": runs}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent.with_name("signalled.py")), json.dumps(plan)],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for place, ((number, moment), (code, out, err, *left)) in enumerate(
        zip(runs, json.loads(done.stdout), strict=True)
    ):
        assert "Traceback" not in err and "ignored" not in err and not left, (moment, err[-3000:])
        if out:  # it was done before the signal came
            assert moment != "fork"
            assert code == 0 or (number and code == 128 + number), (moment, code)
            continue
        name = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}[number]
        assert code == 128 + number, (moment, err[-3000:])
        assert err.endswith(
            f"Stopped by {name}: the same command goes on from what is in {tmp_path}/run-{place}-folder.\n"
        )
    assert not [path for path in (tmp_path / "temporary").iterdir() if path.name.startswith("tmp")]
    assert not [path for path in tmp_path.rglob("*tmp") if path != tmp_path]

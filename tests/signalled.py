"""A client that signals runs of the command line in processes of their own, which it forks once it has imported
everything and made a selection.

    python signalled.py PLAN

The plan is JSON: `folder`, `argv` (flags of every run), and `runs`, a list of [signal number or 0, moment]. A moment
is a number, the share of the time that the first run took, or "fork": the first time that the run forks. It prints
JSON: for each run the exit code, stdout and stderr.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from interrupted import after_fork, begin


def run(argv: list[str], name: str, number: int, moment: float | str) -> int:
    """The process number of a run, in a group of its own, which has begun when this returns."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.setpgid(0, 0)
        after_fork()
        for descriptor, stream in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{name}.{stream}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        if moment == "fork":
            sent = []

            def signal_once(event: str, details: tuple) -> None:
                if event == "os.fork" and not sent:
                    sent.append(event)
                    os.kill(0, number)

            sys.addaudithook(signal_once)
        sys.argv = ["hf-clipselect", "select", *argv]
        from hf_clipselect.cli import main  # noqa: PLC0415

        os.write(writer, b".")
        sys.exit(main())
    os.read(reader, 1)
    for descriptor in (reader, writer):
        os.close(descriptor)
    return process


def main(plan: dict) -> list:
    begin()
    told, whole = [], 0.0
    for place, (number, moment) in enumerate(plan["runs"]):
        name = str(Path(plan["folder"], f"run-{place}"))
        process = run([*plan["argv"], "--output_dir", f"{name}-folder"], name, number, moment)
        start = time.monotonic()
        if number and moment != "fork":
            time.sleep(moment * whole)
            try:
                os.killpg(process, number)
            except ProcessLookupError:
                pass  # it has ended before
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        whole = whole or time.monotonic() - start
        told.append([code, *(Path(f"{name}.{stream}").read_text() for stream in ("out", "err"))])
        try:
            os.killpg(process, signal.SIGKILL)
            told[-1].append("processes were left")
        except ProcessLookupError:
            pass
    return told


if __name__ == "__main__":
    answer = main(json.loads(sys.argv[1]))
    sys.stdout.write(json.dumps(answer))

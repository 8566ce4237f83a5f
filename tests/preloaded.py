"""Python commands whose process begins with the large libraries imported.

A fresh interpreter spends four seconds of a core on torch, scipy and their like before it does anything of ours. One
process a pytest worker imports them once and forks for each command. What reads its settings from the environment when
it is imported (huggingface_hub, datasets, transformers and all that needs them, this package too) is not among them:
each command imports it anew, in its own environment. Where the start of the interpreter is what a test is about, the
test uses `subprocess`.

    python preloaded.py      reads commands from stdin as lines of JSON, and answers each with a line
"""

import gc
import json
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any


_IMPORTED = (
    "torch._dynamo",
    "pandas",
    "scipy.stats",
    "sklearn.datasets",
    "sklearn.metrics",
    "matplotlib.figure",
    "aiohttp",
)


class Command:
    """A command that runs; what it prints goes into files.

    Args:
        arguments: A script with its arguments, or `-m`, a module and its arguments.
        cwd: Its working folder; that of the tests if None.
        env: Its environment; that of the tests if None. Variables that only a starting interpreter reads have no
            effect.
    """

    server = __file__  # the script that forks it

    def __init__(self, *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
        self.arguments = [str(argument) for argument in arguments]
        self.folder = tempfile.TemporaryDirectory(prefix="clipselect-command-")
        self.pid = self._ask(
            {
                "arguments": self.arguments,
                "cwd": os.path.abspath(cwd or "."),
                "env": dict(os.environ if env is None else env),
                "output": self.folder.name,
            }
        )

    def wait(self) -> subprocess.CompletedProcess[str]:
        """What `subprocess.run` returns: exit code, stdout and stderr."""
        code = self._ask({"wait": self.pid, "options": 0})
        stdout, stderr = (Path(self.folder.name, name).read_text() for name in ("stdout", "stderr"))
        self.folder.cleanup()
        return subprocess.CompletedProcess(self.arguments, code, stdout, stderr)

    def has_ended(self) -> bool:
        """Whether it has, of itself or by a signal."""
        return self._ask({"wait": self.pid, "options": os.WNOHANG}) is not None

    def _ask(self, order: dict[str, Any]) -> Any:
        server = _started(self.server)
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        return json.loads(server.stdout.readline())


def run_python(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; the arguments are those of [`Command`]."""
    return Command(*arguments, **options).wait()


@cache
def _started(script: str) -> subprocess.Popen[str]:
    """It ends when the process of the tests ends, and its stdin with it."""
    return subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def serve(modules: Iterable[str]) -> None:
    """Imports modules, and answers orders: with the number of a process that begins, or the exit code of one."""
    for module in modules:
        import_module(module)
    gc.freeze()
    codes: dict[int, int] = {}
    for line in sys.stdin:
        order = json.loads(line)
        if (waited := order.get("wait")) is not None:
            if waited not in codes and (status := os.waitpid(waited, order["options"]))[0]:
                codes[waited] = os.waitstatus_to_exitcode(status[1])
            print(json.dumps(codes.get(waited)), flush=True)
            continue
        process = os.fork()
        if process == 0:
            return become(**order)
        print(process, flush=True)


def become(arguments: list[str], cwd: str, env: dict[str, str], output: str) -> None:
    """Makes a forked process that of the command."""
    streams = [os.open(os.devnull, os.O_RDONLY)]
    streams += [os.open(Path(output, name), os.O_WRONLY | os.O_CREAT) for name in ("stdout", "stderr")]
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    if arguments[0] == "-m":
        sys.argv, sys.path[0] = arguments[1:], cwd
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    serve(_IMPORTED)

"""Recipes as processes of their own that begin with everything imported: to be killed, or to be several of a launch.

A fresh process takes 5 CPU seconds to import what a recipe needs. One process a pytest worker imports it once, trains
nothing, and forks for each recipe. Where huggingface_hub is to talk to a server of the test, which it learns when it
is imported, `preloaded` serves.

    python forked_recipes.py      reads orders from stdin as lines of JSON, and answers each with a line
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from interrupted import free_port
from preloaded import become
from recipe_files import RECIPES


_IMPORTED = (
    "hf_clipselect.cli.commands",
    "hf_clipselect.evaluation.baselines",
    "hf_clipselect.evaluation.classifier",
    "hf_clipselect.evaluation.comparison",
    "matplotlib.figure",
    "sklearn.datasets",
    "sklearn.metrics",
    "transformers.models.clip.modeling_clip",
)


class ForkedRecipe:
    """A recipe that runs, or another script by its full path.

    Args:
        name: Of the recipe.
        flags: Its arguments.
        cwd: Its working folder.
        environment: Variables beside those of the tests.
    """

    def __init__(self, name: str, *flags: object, cwd: Path, **environment: str) -> None:
        self.output = tempfile.TemporaryDirectory(prefix="clipselect-recipe-")
        self.arguments = [str(RECIPES / name), *map(str, flags)]
        self.pid: int = _ask(
            {
                "arguments": self.arguments,
                "cwd": str(cwd),
                "env": {**os.environ, **environment},
                "output": self.output.name,
            }
        )

    def has_ended(self) -> bool:
        """Whether it has, of itself or by a signal."""
        return _ask({"wait": self.pid, "options": os.WNOHANG}) is not None

    def wait(self) -> subprocess.CompletedProcess[str]:
        """Exit code, that of a signal negative, stdout and stderr."""
        code = _ask({"wait": self.pid, "options": 0})
        stdout, stderr = (Path(self.output.name, stream).read_text() for stream in ("stdout", "stderr"))
        self.output.cleanup()
        return subprocess.CompletedProcess(self.arguments, code, stdout, stderr)


def run_as_two(name: str, *flags: object, cwd: Path) -> list[subprocess.CompletedProcess[str]]:
    """What two processes of one recipe leave, as a launcher starts them, in the order of their ranks."""
    launch = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    started = [
        ForkedRecipe(name, *flags, cwd=cwd, **launch, RANK=str(rank), LOCAL_RANK=str(rank), ACCELERATE_USE_CPU="true")
        for rank in range(2)
    ]
    return [process.wait() for process in started]


def _ask(order: dict[str, Any]) -> int | None:
    server = _server()
    server.stdin.write(json.dumps(order) + "\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())


@cache
def _server() -> subprocess.Popen[str]:
    """It ends when the process of the tests ends, and its stdin with it."""
    return subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def serve() -> None:
    for module in _IMPORTED:
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


if __name__ == "__main__":
    serve()

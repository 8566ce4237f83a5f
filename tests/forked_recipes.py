"""Recipes as processes of their own that begin with everything imported: to be killed, or to be several of a launch.

As `preloaded`, whose processes begin with the large libraries alone: one that trains nothing imports what a recipe
needs, and forks for each. Where huggingface_hub is to talk to a server of the test, which it learns when it is
imported, `preloaded` serves.

    python forked_recipes.py      reads orders from stdin as lines of JSON, and answers each with a line
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from interrupted import free_port
from preloaded import Command, serve
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


class ForkedRecipe(Command):
    """A recipe that runs, or another script by its full path.

    Args:
        name: Of the recipe.
        flags: Its arguments.
        cwd: Its working folder.
        environment: Variables beside those of the tests.
    """

    server = __file__

    def __init__(self, name: str, *flags: object, cwd: Path, **environment: str) -> None:
        super().__init__(RECIPES / name, *flags, cwd=cwd, env={**os.environ, **environment})

    def kill_when(self, is_time: Callable[[], bool]) -> None:
        """Kills it at a moment at which it must not have ended."""
        while not is_time():
            assert not self.has_ended()
            time.sleep(0.001)
        os.kill(self.pid, signal.SIGKILL)
        assert self.wait().returncode == -signal.SIGKILL


def run_as_two(name: str, *flags: object, cwd: Path) -> list[subprocess.CompletedProcess[str]]:
    """What two processes of one recipe leave, as a launcher starts them, in the order of their ranks."""
    launch = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    started = [
        ForkedRecipe(name, *flags, cwd=cwd, **launch, RANK=str(rank), LOCAL_RANK=str(rank), ACCELERATE_USE_CPU="true")
        for rank in range(2)
    ]
    return [process.wait() for process in started]


if __name__ == "__main__":
    serve(_IMPORTED)

"""The scripts of recipes/: as modules, for tests of their functions, and as commands within this process.

A process of its own takes 5 CPU seconds to import what is here already. Of each script one test at least starts one.
"""

import importlib.util
import io
import os
import runpy
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from conftest import REPOSITORY


RECIPES = REPOSITORY / "recipes"


@cache
def load_recipe(name: str) -> ModuleType:
    """Import a recipe. What it sets for processes of its own would reach those of other tests, and is taken back."""
    spec = importlib.util.spec_from_file_location(f"recipe_{name.removesuffix('.py')}", RECIPES / name)
    sys.modules[spec.name] = recipe = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", sys.path.copy())
        patch.setattr(os, "environ", os.environ.copy())
        spec.loader.exec_module(recipe)
    return recipe


def run_recipe(name: str, *flags: object, cwd: Path) -> subprocess.CompletedProcess:
    """Run a recipe as its command line would, in this process."""
    command = [str(RECIPES / name), *map(str, flags)]
    before, out, err = dict(os.environ), io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    code = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", command)
        patch.setattr(sys, "path", sys.path.copy())
        try:
            runpy.run_path(command[0], run_name="__main__")
        except SystemExit as left:
            code = left.code or 0
        finally:
            os.environ.clear()
            os.environ.update(before)
            for number, handler in handlers.items():  # a command ignores signals while its process ends
                signal.signal(number, handler)
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


def launch_recipe(name: str, *flags: object, cwd: Path) -> subprocess.CompletedProcess:
    """Run a recipe as users do, in a process of its own."""
    command = [sys.executable, RECIPES / name, *flags]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=cwd)

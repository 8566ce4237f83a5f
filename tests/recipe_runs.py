"""Runs of recipes/select.py in one environment, each in a process of its own that is forked from one that has imported
everything.

    python recipe_runs.py RUNS

RUNS is JSON, a list of what [`run_recipe`] takes. It prints JSON: for each run its exit code and what it logged.
"""

import gc
import json
import os
import runpy
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from preloaded import run_python


RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "select.py"
_IMPORTED_LATE = (
    "hf_clipselect.cli.select_command",
    "matplotlib.backends.backend_svg",
    "transformers.models.clip.modeling_clip",
)


def run_recipe(runs: Sequence[Mapping[str, Any]], *, env: Mapping[str, str]) -> list[str]:
    """What the runs log, one after the other.

    Args:
        runs: For each run its `flags`, the `folder` that it works in, and the one that this is a `copy_of`.
        env: The environment of all.
    """
    plain = [{**run, "folder": str(run["folder"]), "copy_of": str(run["copy_of"])} for run in runs]
    done = run_python(__file__, json.dumps(plain), env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    ended = json.loads(done.stdout)
    assert not any(code for code, _ in ended), "\n".join(log[-3000:] for code, log in ended if code)
    return [log for _, log in ended]


def run(flags: list[str], folder: str, copy_of: str) -> tuple[int, str]:
    shutil.copytree(copy_of, folder)
    log = Path(folder, "log.txt")
    process = os.fork()
    if process == 0:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.chdir(folder)
        sys.argv[:] = [str(RECIPE), *flags]
        runpy.run_path(str(RECIPE), run_name="__main__")
        raise AssertionError("the recipe ends by an exit code")
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), log.read_text()


if __name__ == "__main__":
    for name in _IMPORTED_LATE:
        import_module(name)
    gc.freeze()
    ended = [run(**each) for each in json.loads(sys.argv[1])]
    print(json.dumps(ended))

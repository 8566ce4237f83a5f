"""Clients in processes of their own: nothing of them is in the process of the tests."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from preloaded import run_python


TESTS = Path(__file__).resolve().parent.parent


def run_client(clients: str, name: str, *arguments: object, env: Mapping[str, str] | None = None) -> Any:
    """Runs a function of a module of tests/hub/ and returns what it returns.

    Args:
        clients: The module, such as `push_clients`.
        name: The function, which gets the arguments as texts.
        env: The environment, as [`LoopbackHub.environment`] gives it; that of the tests if None.
    """
    done = run_python("-m", f"loopback_hub.{clients}", name, *arguments, env=env, cwd=TESTS)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])

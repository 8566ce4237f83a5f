"""Clients in processes of their own: nothing of them is in the process of the tests."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from preloaded import Command


TESTS = Path(__file__).resolve().parent.parent


def run_client(clients: str, name: str, *arguments: object, env: Mapping[str, str] | None = None) -> Any:
    """Runs a function of a module of tests/loopback_hub/ and returns what it returns.

    Args:
        clients: The module, such as `push_clients`.
        name: The function, which gets the arguments as texts.
        env: The environment, as [`LoopbackHub.environment`] gives it; that of the tests if None.
    """
    [returned] = run_clients(clients, [(name, *arguments)], env=env)
    return returned


def run_clients(
    clients: str, calls: Sequence[tuple[object, ...]], *, env: Mapping[str, str] | None = None
) -> list[Any]:
    """Runs several functions of a module at once, each in a process of its own, and returns what each returns.

    Args:
        clients: As for [`run_client`].
        calls: For each process the name of the function, and its arguments.
        env: As for [`run_client`].
    """
    commands = [Command("-m", f"loopback_hub.{clients}", *call, env=env, cwd=TESTS) for call in calls]
    ended = [command.wait() for command in commands]
    assert not any(done.returncode for done in ended), "\n".join(done.stderr[-3000:] for done in ended)
    return [json.loads(done.stdout.splitlines()[-1]) for done in ended]

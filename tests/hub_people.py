"""Somebody who runs one command after the other on a machine of their own, each in a process.

    python hub_people.py      reads orders from stdin as lines of JSON, and answers each with a line

The processes fork from one that has imported everything in the environment of the Hub, and share its cache, as those
of a person do. Who knows nothing but the address of the Hub is a client of `loopback_hub.processes`.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from preloaded import Command, serve


TESTS = Path(__file__).resolve().parent
_IMPORTED = (
    "hf_clipselect.cli.commands",
    "hf_clipselect.cli.select_command",
    "hf_clipselect.hub",
    "matplotlib.figure",
    "peft",
    "sklearn.metrics",
    "transformers.models.clip.modeling_clip",
)


class _Forked(Command):
    def __init__(self, server: subprocess.Popen[str], *arguments: object, **options: Any) -> None:
        self.process = server
        super().__init__(*arguments, **options)

    def _ask(self, order: dict[str, Any]) -> Any:
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


class Person:
    """Who runs commands.

    Args:
        environment: As [`LoopbackHub.environment`] gives it.
        server: The process that has imported everything.
    """

    def __init__(self, environment: dict[str, str], server: subprocess.Popen[str]) -> None:
        self.environment, self.server = environment, server

    def start(self, *arguments: object, cwd: Path, **changed: str | None) -> Command:
        """A command that runs: a script with its arguments, or `-m`, a module and its arguments.

        Args:
            arguments: Of the command.
            cwd: Its working folder.
            changed: Variables of its environment; None takes one away.
        """
        values = {name: value for name, value in {**self.environment, **changed}.items() if value is not None}
        return _Forked(self.server, *arguments, cwd=cwd, env=values)

    def client(self, clients: str, name: str, *arguments: object) -> Any:
        """What a function of a module of tests/loopback_hub/ returns."""
        done = self.start("-m", f"loopback_hub.{clients}", name, *arguments, cwd=TESTS).wait()
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def person(environment: dict[str, str]) -> Iterator[Person]:
    """Somebody with this environment, until the block ends."""
    command = [sys.executable, __file__]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        yield Person(environment, server)
        server.stdin.close()


if __name__ == "__main__":
    serve(_IMPORTED)

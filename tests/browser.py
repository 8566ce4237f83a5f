"""A real browser for tests of pages, and the explorer served by a process of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from preloaded import Command


_WATCHED = Path(__file__).with_name("watched_explorer.py")
_LOCAL = {"127.0.0.1", "localhost", "::1", "local", "None", "0.0.0.0"}


@contextmanager
def opened_chromium() -> Iterator:
    """A browser of playwright; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no chromium: install Debian's chromium, or Chrome")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visitor:
    """A page of the browser that notes what it asks for, and what goes wrong in it."""

    def __init__(self, browser, url: str, *, width: int = 1400, dark: bool = False) -> None:
        profile = browser.contexts[0] if browser.contexts else browser.new_context()  # keeps scripts that were fetched
        self.page = profile.new_page()
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.set_default_timeout(120_000)  # other tests take the machine
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(url + ("?__theme=dark" if dark else ""))
        self.page.wait_for_selector("#review-facts [data-serial]")

    def leave(self) -> None:
        """Close the page; nothing went wrong in it, and it asked no other machine."""
        self.page.close()
        assert self.errors == []
        asked = {urlsplit(url).hostname for url in self.requests if not url.startswith(("data:", "blob:"))}
        assert asked == {"127.0.0.1"}, asked


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class FreshCommand(Command):
    """A command whose interpreter begins anew, as a user's does."""

    def _ask(self, order: dict[str, Any]) -> Any:
        if "wait" in order:
            return self.process.poll() if order["options"] else self.process.wait()
        with ExitStack() as stack:
            streams = {
                name: stack.enter_context(Path(order["output"], name).open("w")) for name in ("stdout", "stderr")
            }
            command = [sys.executable, *order["arguments"]]
            self.process = subprocess.Popen(command, cwd=order["cwd"], env=order["env"], **streams)
        return self.process.pid


@contextmanager
def served(
    place: Path | str,
    folder: Path,
    *flags: str,
    env: dict[str, str] | None = None,
    start: type[Command] = FreshCommand,
) -> Iterator[str]:
    """`hf-clipselect explore` of a place in a process of its own, and the address of its page.

    Ctrl-C ends it in one line, the last one, and it has connected to this machine alone.

    Args:
        place: A folder or repository.
        folder: Its working folder, in which it notes its connections.
        flags: More arguments.
        env: Its environment; that of the tests if None.
        start: How its process begins.
    """
    sockets = folder / "sockets.txt"
    server = start(_WATCHED, sockets, "explore", place, "--port", free_port(), *flags, cwd=folder, env=env)
    stdout = Path(server.folder.name, "stdout")
    stdout.touch()  # a forked process opens it when it gets to it
    try:
        wait_until(lambda: server.has_ended() or " until Ctrl-C" in stdout.read_text(), "the page is served")
        assert not server.has_ended(), server.wait().stderr
        yield stdout.read_text().split(" is shown at ")[1].split(" until ")[0]
    finally:
        if not server.has_ended():
            os.kill(server.pid, signal.SIGINT)
        try:
            wait_until(server.has_ended, "Ctrl-C ends it", 90)
        except AssertionError:
            os.kill(server.pid, signal.SIGKILL)
            raise
    done = server.wait()
    assert done.returncode == 130
    assert done.stderr.endswith("Stopped by Ctrl-C: the same command starts again.\n"), done.stderr
    assert set(sockets.read_text().split()) - _LOCAL == set()


def wait_until(true, what: str, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.05)

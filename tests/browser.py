"""A real browser for tests of pages, and the explorer served by a process of its own."""

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest


# Writes down every address that the process asks for or connects to. Ctrl-C reaches it also where the tests run in
# the background of a shell, which ignores it there.
_SERVER = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sockets = open(sys.argv[1], "a", buffering=1)
def hook(event, args):
    if event == "socket.connect":
        sockets.write(f"{args[1][0] if isinstance(args[1], tuple) else 'local'}\\n")
    elif event == "socket.getaddrinfo":
        sockets.write(f"{args[0]}\\n")
sys.addaudithook(hook)
from hf_clipselect.cli import main
sys.argv[1:] = sys.argv[2:]
sys.exit(main())
"""
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
        self.page = browser.new_page(viewport={"width": width, "height": 900})
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


@contextmanager
def served(place: Path | str, folder: Path, *flags: str, env: dict[str, str] | None = None) -> Iterator[str]:
    """`hf-clipselect explore` of a place in a process of its own, and the address of its page.

    Ctrl-C ends it in one line, the last one, and it has connected to this machine alone.
    """
    sockets = folder / "sockets.txt"
    command = [sys.executable, "-c", _SERVER, sockets, "explore", place, "--port", str(free_port()), *flags]
    with (folder / "stderr.txt").open("w+") as stderr:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=folder, env=env)
        try:
            line = server.stdout.readline()
            while line and " is shown at " not in line:
                line = server.stdout.readline()
            assert line, (folder / "stderr.txt").read_text()
            yield line.split(" is shown at ")[1].split(" until ")[0]
        finally:
            server.send_signal(signal.SIGINT)
            try:
                code = server.wait(90)
            except subprocess.TimeoutExpired:
                server.kill()
                raise
            finally:
                server.stdout.close()
    assert code == 130
    told = (folder / "stderr.txt").read_text()
    assert told.endswith("Stopped by Ctrl-C: the same command starts again.\n"), told
    assert set(sockets.read_text().split()) - _LOCAL == set()


def wait_until(true, what: str, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.05)

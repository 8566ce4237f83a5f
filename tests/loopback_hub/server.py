"""A Hub on the loopback interface that the real clients talk to over HTTP."""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .faults import Fault, Faults
from .handler import Handler, Server
from .objects import Commit
from .records import Record
from .store import Repository, Store


class LoopbackHub:
    """A Hub in this process, on a free port, with its state in a folder.

    Repositories are named as in `hf://` paths: `alice/model`, `datasets/alice/data` or `spaces/alice/app`. Commit ids
    hold the time: with a `clock` that stands still, the same changes make the same ids.

    Example:
        with LoopbackHub(folder) as hub:
            subprocess.run([sys.executable, "push.py"], env=hub.environment(hub.tokens["alice"]))
            assert hub.tree("datasets/alice/data")
    """

    tokens = {
        "alice": "hf_alice_write",
        "alice_read": "hf_alice_read",
        "alice_fine_write": "hf_alice_fine_write",
        "alice_fine_read": "hf_alice_fine_read",
        "bob": "hf_bob_write",
        "me": "hf_me_write",
        "converter": "hf_converter_write",
    }
    users = ("alice", "bob", "me")

    def __init__(self, folder: Path, port: int = 0, clock: Callable[[], float] = time.time) -> None:
        self.folder = Path(folder)
        self.store = Store(self.folder / "repositories", clock)
        self.faults = Faults()
        self.requests: list[Record] = []
        self.commits = 0
        self._working = 0
        self._idle = threading.Condition()
        self._server = Server(("127.0.0.1", port), Handler)
        self._server.hub = self
        self.port = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> "LoopbackHub":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.close_connections()
        self._server.server_close()

    def environment(self, token: str | None = None, home: Path | None = None) -> dict[str, str]:
        """The environment of a subprocess that uses this Hub.

        Args:
            token: What goes into HF_TOKEN; nobody is logged in without it.
            home: HF_HOME; a fresh folder if None.
        """
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
        homes = self.folder / "homes"
        homes.mkdir(parents=True, exist_ok=True)
        home = home or Path(tempfile.mkdtemp(dir=homes))
        values = {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
        values |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
        return kept | values | ({"HF_TOKEN": token} if token else {})

    @property
    def unknown(self) -> list[Record]:
        """The requests that no route takes."""
        return [record for record in self.requests if record.route is None]

    def repository(self, repo: str) -> Repository | None:
        """The repository on disk, or None."""
        return self.store.get(repo if repo.startswith(("datasets/", "spaces/")) else f"models/{repo}")

    def head(self, repo: str, revision: str = "main") -> str | None:
        """The commit id of a revision, None where there is no such repository."""
        repository = self.repository(repo)
        return repository.resolve(revision) if repository else None

    def tree(self, repo: str, revision: str = "main") -> dict[str, str]:
        """Every path with its git blob id; of the pointer, which holds sha256 and size, for large files."""
        return {path: entry.oid for path, entry in self._repository(repo).commit_at(revision).files.items()}

    def read(self, repo: str, path: str, revision: str = "main") -> bytes:
        """The content of a file."""
        repository = self._repository(repo)
        return repository.content_path(repository.commit_at(revision).files[path]).read_bytes()

    def history(self, repo: str, revision: str = "main") -> list[Commit]:
        """The commits of a revision, newest first; the last is the one that creating the repository made."""
        return self._repository(repo).history(revision)

    def refs(self, repo: str) -> dict[str, str]:
        """Every ref by its full name (`refs/heads/main`, `refs/tags/v1`, `refs/pr/1`) with its commit."""
        return self._repository(repo).refs()

    def snapshot(self) -> dict[str, dict[str, str]]:
        """Every repository with its refs and their tree ids: what the files are, not when and by whom they came."""
        repositories = {name.removeprefix("models/"): self.store.get(name) for name in self.store.names()}
        return {
            name: {ref: repository.commit_at(oid).tree for ref, oid in repository.refs().items()}
            for name, repository in repositories.items()
        }

    def save(self, folder: Path) -> None:
        """Copies the state of this Hub, running or stopped, into a folder where [`LoopbackHub`] can start from it."""
        self.store.copy_to(Path(folder) / "repositories")

    def load(self, folder: Path) -> None:
        """Takes the state that [`save`] wrote in place of this Hub's own; requests and faults are forgotten.

        The port and the connections of clients stay, so that one process can go through many cases.
        """
        saved = Path(folder) / "repositories"
        if not saved.is_dir() or saved == self.store.folder:
            raise ValueError(f"{folder} holds no saved state of another Hub.")
        self.settle()
        shutil.rmtree(self.store.folder)
        Store(saved).copy_to(self.store.folder)
        self.store = Store(self.store.folder, self.store.clock)
        self.faults.clear()
        self.requests, self.commits = [], 0

    def settle(self, timeout: float = 60) -> None:
        """Waits until no request is in work: a client that was killed may leave some. Not for the `call` of a fault.

        Raises:
            TimeoutError: If one still is after `timeout` seconds.
        """
        with self._idle:
            if not self._idle.wait_for(lambda: self._working == 0, timeout):
                raise TimeoutError(f"{self._working} requests are still in work after {timeout} s")

    def begin(self, record: Record, target: str) -> Fault | None:
        """Takes down a request that arrives; the fault that strikes it, if any."""
        with self._idle:
            self._working += 1
            record.order, record.commits = len(self.requests), self.commits
            self.requests.append(record)
            return self.faults.find(record.method, target)

    def count_commit(self) -> None:
        """A commit is done."""
        with self._idle:
            self.commits += 1

    def end(self) -> None:
        """A request is over, answered or not."""
        with self._idle:
            self._working -= 1
            self._idle.notify_all()

    def _repository(self, repo: str) -> Repository:
        repository = self.repository(repo)
        if repository is None:
            raise KeyError(repo)
        return repository

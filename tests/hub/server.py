"""A Hub on the loopback interface that the real clients talk to over HTTP."""

import os
import socket
import struct
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from .accounts import ACCOUNTS, Account
from .faults import Fault, Faults
from .messages import Answer, HubError, Request, json_answer
from .routes import Record, answer, find_route
from .store import Commit, Repository, Store


class LoopbackHub:
    """A Hub in this process, on a free port, with its state in a folder.

    Repositories are named as in `hf://` paths: `alice/model` or `datasets/alice/data`.

    Example:
        with LoopbackHub(folder) as hub:
            subprocess.run([sys.executable, "push.py"], env=hub.environment(hub.tokens["alice"]))
            assert hub.tree("datasets/alice/data")
    """

    tokens = {"alice": "hf_alice_write", "alice_read": "hf_alice_read", "bob": "hf_bob_write"}
    users = ("alice", "bob")

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = Path(folder)
        self.store = Store(self.folder / "repositories")
        self.faults = Faults()
        self.requests: list[Record] = []
        self._server = _Server(("127.0.0.1", port), _Handler)
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
        return self.store.get(repo if repo.startswith("datasets/") else f"models/{repo}")

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

    def _repository(self, repo: str) -> Repository:
        repository = self.repository(repo)
        if repository is None:
            raise KeyError(repo)
        return repository


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    hub: LoopbackHub

    def __init__(self, *args: object) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*args)  # type: ignore[arg-type]
        # A forked child must not hold the connections of this process open: a reset would reach nobody.
        server = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: server() and server().drop_sockets())

    def process_request(self, request: socket.socket, client_address: object) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def reset(self, connection: socket.socket) -> None:
        """Closes a connection at once with a reset, so that the client cannot take it for the end of an answer."""
        self._open.discard(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(connection.detach())

    def drop_sockets(self) -> None:
        """In a forked child: lets go of the sockets, which the parent goes on using."""
        for connection in [self.socket, *self._open]:
            if connection.fileno() >= 0:
                os.close(connection.detach())

    def close_connections(self) -> None:
        """Ends the connections that clients keep open, which would go on being served."""
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is what many tests are about; anything else is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle_any(self) -> None:
        self._body_read = False
        path, _, query = self.path.partition("?")
        route = find_route(self.command, path)
        record = Record(self.command, unquote(path), query, route=route[0].__name__ if route else None)
        hub = self.server.hub
        fault = hub.faults.find(self.command, unquote(self.path))
        hub.requests.append(record)
        if fault is not None:
            record.fault = fault.kind
            if fault.call is not None and fault.kind != "lost":
                fault.call()
        if fault is not None and fault.kind == "reset":
            return self._reset()
        if fault is not None and fault.kind == "delay":
            time.sleep(fault.seconds)
        failed = fault is not None and fault.kind == "status"
        result = _failure(fault) if failed else self._answer(path, query)
        for _ in self._chunks():  # what the route left unread would be taken for the next request
            pass
        if fault is not None and fault.kind == "lost":
            if fault.call is not None:
                fault.call()
            return self._reset()
        record.status = result.status
        self._send(result, fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any

    def _answer(self, path: str, query: str) -> Answer:
        headers = {name.lower(): value for name, value in self.headers.items()}
        account: Account | None = None
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if token:
            account = ACCOUNTS.get(token)
            if account is None:
                return HubError(401, "Invalid credentials in Authorization header").answer()
        endpoint = self.server.hub.endpoint
        request = Request(self.command, path, query, headers, account, endpoint, self._chunks)
        return answer(self.server.hub.store, request)

    def _chunks(self) -> Iterator[bytes]:
        """The body in pieces; nothing if it was read before."""
        if self._body_read:
            return
        self._body_read = True
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := self._chunk_size():
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            piece = self.rfile.read(min(left, 1 << 20))
            if not piece:
                raise ConnectionResetError("the client went away while sending")
            left -= len(piece)
            yield piece

    def _chunk_size(self) -> int:
        line = self.rfile.readline()
        if not line:
            raise ConnectionResetError("the client went away while sending")
        return int(line.split(b";")[0], 16)

    def _send(self, result: Answer, fault: Fault | None) -> None:
        self.send_response(result.status)
        for name, value in result.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(result.size))
        self.end_headers()
        cut = fault is not None and fault.kind in ("truncate", "cut")
        left = 0 if self.command == "HEAD" else result.size // 2 if cut else result.size
        if result.file is None:
            self.wfile.write(result.body[:left])
        else:
            with result.file.open("rb") as file:
                file.seek(result.start)
                while left:
                    left -= self.wfile.write(file.read(min(left, 1 << 20)))
        if fault is not None and fault.kind == "truncate":
            self.close_connection = True
        if fault is not None and fault.kind == "cut":
            self._reset()

    def _reset(self) -> None:
        self.close_connection = True
        self.server.reset(self.connection)

    def log_message(self, *_: object) -> None:
        """Tests read `requests`; nothing is printed."""


def _failure(fault: Fault) -> Answer:
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return json_answer({"error": f"Fault on demand: {fault.status}"}, fault.status, headers)

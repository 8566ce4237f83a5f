"""The HTTP side of the loopback Hub: connections, bodies, and the faults that strike them."""

import os
import socket
import struct
import sys
import time
import weakref
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote

from .accounts import ACCOUNTS, Account
from .faults import Fault
from .messages import Answer, HubError, Request, json_answer
from .records import COMMITS, Record
from .routes import answer, find_route


if TYPE_CHECKING:
    from .server import LoopbackHub


class Server(ThreadingHTTPServer):
    """One thread for each connection."""

    daemon_threads = True
    request_queue_size = 64
    hub: "LoopbackHub"

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


class Handler(BaseHTTPRequestHandler):
    """One connection: each request is recorded, struck by a fault or answered."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def handle_any(self) -> None:
        self._body_read = False
        path, _, query = self.path.partition("?")
        route = find_route(self.command, path)
        record = Record(self.command, unquote(path), query, route=route[0].__name__ if route else None)
        fault = self.server.hub.begin(record, unquote(self.path))
        try:
            self._handle(record, fault, path)
        finally:
            self.server.hub.end()

    def _handle(self, record: Record, fault: Fault | None, path: str) -> None:
        if fault is not None:
            record.fault = fault.kind
            if fault.call is not None and fault.kind != "lost":
                fault.call()
        if fault is not None and fault.kind == "reset":
            return self._reset()
        if fault is not None and fault.kind == "delay":
            time.sleep(fault.seconds)
        failed = fault is not None and fault.kind == "status"
        result = _failure(fault) if failed else self._answer(path, record.query)
        for _ in self._chunks():  # what the route left unread would be taken for the next request
            pass
        if record.route in COMMITS and result.status == 200:
            self.server.hub.count_commit()
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

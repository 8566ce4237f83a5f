"""A request as the routes see it, and what they answer."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

from .accounts import Account


@dataclass
class Answer:
    """Status, headers and body: bytes, or a part of a file on disk."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    file: Path | None = None
    start: int = 0
    length: int | None = None

    @property
    def size(self) -> int:
        """Length of the body in bytes."""
        return len(self.body) if self.length is None else self.length


class HubError(Exception):
    """A refusal: a status and a message, with the Hub's name for the error in `code`."""

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, headers or {}

    def answer(self) -> Answer:
        """The answer with the error's headers, which clients read."""
        headers = {"X-Error-Message": ascii(self.message)[1:-1], **self.headers}
        if self.code:
            headers["X-Error-Code"] = self.code
        return json_answer({"error": self.message}, self.status, headers)


@dataclass
class Request:
    """One request. `chunks` yields the body once; `path` is still quoted."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    account: Account | None
    endpoint: str
    chunks: Callable[[], Iterator[bytes]]

    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.chunks())

    def json(self) -> dict:
        """The body as a JSON object."""
        try:
            data = json.loads(self.body() or b"{}")
        except ValueError as error:
            raise HubError(400, f"Invalid JSON: {error}") from error
        if not isinstance(data, dict):
            raise HubError(400, "Expected a JSON object")
        return data

    def copy_to(self, path: Path) -> None:
        """Writes the body to a file."""
        with path.open("wb") as file:
            for chunk in self.chunks():
                file.write(chunk)

    def flag(self, name: str) -> bool:
        """Whether a query parameter is set to something true."""
        return parse_qs(self.query).get(name, [""])[0].lower() in ("1", "true")


def json_answer(data: object, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """An answer in JSON."""
    return Answer(status, json.dumps(data).encode(), {"Content-Type": "application/json", **(headers or {})})

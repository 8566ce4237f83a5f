"""Faults on demand: which request goes wrong, and how."""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field


KINDS = ("status", "reset", "lost", "truncate", "cut", "delay")


@dataclass
class Fault:
    """A rule. It counts the requests that match and strikes from the `nth` on, `times` times (None: for ever).

    Kinds:
        - `status`: answers with this status (and Retry-After), the work is not done.
        - `reset`: resets the connection without an answer, the work is not done.
        - `lost`: does the work, then resets the connection without an answer.
        - `truncate`: announces the whole body, sends half of it and closes.
        - `cut`: the same, and resets the connection.
        - `delay`: waits `seconds`, then does the work and answers.

    Args:
        method: Regular expression for the whole method, as `PUT` or `GET|HEAD`.
        path: Regular expression searched in the unquoted path and query, as `/commit/main`.
        call: Called when the fault strikes, after the work for `lost` and before it otherwise; kills a process, say.
    """

    kind: str
    method: str = ".*"
    path: str = ""
    nth: int = 1
    times: int | None = 1
    status: int = 500
    retry_after: int | None = None
    seconds: float = 0.0
    call: Callable[[], None] | None = None
    seen: int = field(default=0, init=False)
    struck: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Unknown kind of fault {self.kind!r}; choose one of {', '.join(KINDS)}.")

    def strikes(self, method: str, target: str) -> bool:
        """Counts a request and tells whether it goes wrong."""
        if not re.fullmatch(self.method, method) or not re.search(self.path, target):
            return False
        self.seen += 1
        if self.seen < self.nth or (self.times is not None and self.struck >= self.times):
            return False
        self.struck += 1
        return True


class Faults:
    """The rules in force. Each request is counted by all of them; the first that strikes decides."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, kind: str, **options: object) -> Fault:
        """Adds a rule; the options are the fields of [`Fault`]."""
        fault = Fault(kind, **options)  # type: ignore[arg-type]
        with self._lock:
            self._rules.append(fault)
        return fault

    def clear(self) -> None:
        """Removes all rules."""
        with self._lock:
            self._rules.clear()

    def find(self, method: str, target: str) -> Fault | None:
        """The fault that strikes this request, if any."""
        with self._lock:
            return next((rule for rule in [r for r in self._rules if r.strikes(method, target)]), None)

"""The decisions of a review: each is on disk before the next row is shown, and can be taken back."""

from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from ...data.decisions import Choice, Decision, read_decisions, write_decisions
from ...errors import InputError


class DecisionLog:
    """A `decisions.parquet` that grows with each decision; what it holds already stays, and is gone on with.

    Args:
        path (`Path`): The file; it is made by the first decision.
        reviewer (`str`, *optional*): Name that is noted with each decision; by default none is.
        start (`dict[int, Decision]`, *optional*): Decisions to go on from where there is no file.

    Raises `InputError` where there is a file that can't be read.
    """

    def __init__(self, path: Path, *, reviewer: str | None = None, start: dict[int, Decision] | None = None) -> None:
        self.path, self.reviewer = path, reviewer
        self._writing = Lock()
        self._before: list[tuple[int, Decision | None]] = []
        self._start = start or {}
        self._decisions = self._read()

    def refresh(self) -> None:
        """Read the file anew, which another window or process may have written."""
        with self._writing:
            self._decisions = self._read()

    def get(self, source_index: int) -> Decision | None:
        return self._decisions.get(source_index)

    def decided(self) -> set[int]:
        """source_index of all rows with a decision."""
        return set(self._decisions)

    def counts(self) -> dict[str, int]:
        """How many rows were decided on, by decision."""
        found: dict[str, int] = {}
        for decision in list(self._decisions.values()):
            found[decision.decision] = found.get(decision.decision, 0) + 1
        return found

    def decide(self, source_index: int, choice: Choice, *, given_label: str, new_label: str | None = None) -> None:
        """Write what was decided about a row, in place of an earlier decision; `new_label` for "relabel" alone."""
        decision = Decision(
            source_index, choice, new_label, datetime.now(UTC), given_label=given_label, reviewer=self.reviewer
        )
        with self._writing:
            # Anew, since another window or process may have decided about other rows.
            decisions = self._read()
            self._write(decisions | {source_index: decision})
            self._before.append((source_index, decisions.get(source_index)))

    def undo(self) -> int | None:
        """Take back the last decision since the start; gives the row that it was about, None without one."""
        with self._writing:
            if not self._before:
                return None
            source_index, before = self._before[-1]
            decisions = self._read()
            decisions.pop(source_index, None)
            self._write(decisions if before is None else decisions | {source_index: before})
            self._before.pop()
        return source_index

    def _read(self) -> dict[int, Decision]:
        return read_decisions(self.path) if self.path.exists() else dict(self._start)

    def _write(self, decisions: dict[int, Decision]) -> None:
        try:
            write_decisions(self.path, decisions)
        except OSError as error:
            raise InputError(f"--decisions {self.path} can't be written: {error.strerror}.") from None
        self._decisions = decisions

"""The decisions of a review: each is on disk before the next row is shown, and can be taken back."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from filelock import FileLock, Timeout

from ...data.decisions import Choice, Decision, checked_decisions, read_decisions, write_decisions
from ...errors import InputError
from ...runtime.files import make_folder, unused_name
from ...runtime.words import cut
from ..run_lock import WITHOUT_LOCKS


# A file of many decisions is read and written in less than a second.
_PATIENCE = 20.0
_SHOWN = 200


@dataclass(frozen=True)
class Change:
    """A decision that was written, and the one about the same row that it took the place of, if any."""

    made: Decision
    before: Decision | None


class DecisionLog:
    """A `decisions.parquet` that grows with each decision; what it holds already stays, and is gone on with.

    Other windows and processes may write to the same file; none loses a decision of another.

    Args:
        path (`Path`): The file; it is made by the first decision.
        reviewer (`str`, *optional*): Name that is noted with each decision; by default none is.
        start (`dict[int, Decision]`, *optional*): Decisions to go on from where there is no file.

    Raises `InputError` where there is a file that can't be read.
    """

    def __init__(self, path: Path, *, reviewer: str | None = None, start: dict[int, Decision] | None = None) -> None:
        self.path, self.reviewer = path, reviewer
        self._writing = Lock()
        self._start = start or {}
        self._decisions = self._read()

    def check_writable(self) -> None:
        """Raise `InputError` where no decision could be written: before a person has decided something."""
        probe = unused_name(self.path)  # in the same folder, and no shorter than every other name there
        try:
            make_folder(self.path.parent, f"--decisions {cut(str(self.path), _SHOWN)}: its folder")
            try:
                probe.touch()
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                f"--decisions {cut(str(self.path), _SHOWN)} can't be written: {error.strerror}. Name a file in "
                "a folder of yours with --decisions."
            ) from None

    def refresh(self) -> None:
        """Read the file anew, which another window or process may have written."""
        with self._writing:
            self._decisions = self._read()

    def get(self, source_index: int) -> Decision | None:
        return self._decisions.get(source_index)

    def decided(self) -> dict[int, Decision]:
        """All decisions, by source_index."""
        return dict(self._decisions)

    def counts(self) -> dict[str, int]:
        """How many rows were decided on, by decision."""
        found: dict[str, int] = {}
        for decision in list(self._decisions.values()):
            found[decision.decision] = found.get(decision.decision, 0) + 1
        return found

    def decide(
        self, source_index: int, choice: Choice, *, given_label: str | None, new_label: str | None = None
    ) -> Change:
        """Write what was decided about a row, in place of an earlier decision; `new_label` for "relabel" alone.

        `given_label` is the label or caption that the reviewer saw, None where that is not here.

        Raises `InputError` where it is no whole decision, or can't be written.
        """
        decision = Decision(
            source_index, choice, new_label, datetime.now(UTC), given_label=given_label, reviewer=self.reviewer
        )
        checked_decisions({source_index: decision})
        with self._alone():
            decisions = self._read()
            self._write(decisions | {source_index: decision})
        return Change(decision, decisions.get(source_index))

    def undo(self, change: Change) -> bool:
        """Take a decision back; False, and nothing is changed, where the row has another one by now."""
        number = change.made.source_index
        with self._alone():
            decisions = self._read()
            if decisions.pop(number, None) != change.made:
                return False
            self._write(decisions if change.before is None else decisions | {number: change.before})
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep all others from writing between what is read and what is written."""
        path = self.path.with_name(f".{self.path.name}.lock")
        lock = FileLock(path, is_singleton=False, fallback_to_soft=False)
        with self._writing:
            try:
                lock.acquire(timeout=_PATIENCE)
            except Timeout:
                raise InputError(
                    f"--decisions {self.path} is being written by another process for {_PATIENCE:.0f} seconds; end "
                    "the other one, or decide again."
                ) from None
            except OSError as error:
                if error.errno not in WITHOUT_LOCKS:
                    raise InputError(f"--decisions {self.path} can't be written: {error.strerror}.") from None
            try:
                yield
            finally:
                if lock.is_locked:
                    # Before it is given back: who waits for it sees that its file is gone, and makes a new one.
                    with suppress(OSError):
                        path.unlink()
                    lock.release()

    def _read(self) -> dict[int, Decision]:
        return read_decisions(self.path) if os.path.exists(self.path) else dict(self._start)

    def _write(self, decisions: dict[int, Decision]) -> None:
        try:
            write_decisions(self.path, decisions)
        except OSError as error:
            raise InputError(f"--decisions {self.path} can't be written: {error.strerror}.") from None
        self._decisions = decisions

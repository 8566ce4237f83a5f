"""A review: the queue of suspects, the row that is looked at, and what is decided about it."""

from dataclasses import dataclass, replace

import numpy as np

from ...data.decisions import Choice
from .decision_log import Change, DecisionLog
from .explored import Explored
from .review_queue import QueueFilter, next_open, num_reviewed, queue_of


@dataclass(frozen=True)
class Standing:
    """Where a person stands: in which queue, and at which place of it; behind the last one all is reviewed.

    `made` is what was decided in this window, the last one last.
    """

    wanted: QueueFilter = QueueFilter()
    position: int = 0
    made: tuple[Change, ...] = ()


class ReviewSession:
    """Moves through the suspects of a selection and writes what is decided.

    Args:
        explored (`Explored`): The selection.
        log (`DecisionLog`): Where decisions go.

    Raises `InputError` where the log holds decisions about another dataset.
    """

    def __init__(self, explored: Explored, log: DecisionLog) -> None:
        explored.check_decisions(log.decided(), log.path)
        self.explored, self.log = explored, log

    def start(self, standing: Standing | None = None, wanted: QueueFilter | None = None) -> Standing:
        """At the first row of a queue that nothing was decided about, by the file as it is now."""
        self.log.refresh()
        wanted = wanted or QueueFilter()
        position = next_open(self.explored, queue_of(self.explored, wanted), self.log)
        return replace(standing or Standing(), wanted=wanted, position=position)

    def row(self, standing: Standing) -> int | None:
        """The row of the scores table that is looked at; None where all is reviewed, or nothing is suspect."""
        rows = queue_of(self.explored, standing.wanted)
        return int(rows[standing.position]) if standing.position < len(rows) else None

    def is_shown(self, standing: Standing, number: str) -> bool:
        """Whether the row that is looked at is the one of this source_index; the text is empty where none is."""
        row = self.row(standing)
        return number == ("" if row is None else str(self.explored.source_index[row]))

    def progress(self, standing: Standing) -> tuple[int, int]:
        """How many rows of the queue were decided about, and how many it has."""
        rows = queue_of(self.explored, standing.wanted)
        return num_reviewed(self.explored, rows, self.log), len(rows)

    def move(self, standing: Standing, step: int) -> Standing:
        """One row on, or back; decided rows are not left out."""
        last = len(queue_of(self.explored, standing.wanted)) - 1
        return replace(standing, position=int(np.clip(standing.position + step, 0, max(last, 0))))

    def decide(self, standing: Standing, choice: Choice, new_label: str | None = None) -> Standing:
        """Write a decision about the row that is looked at, and go to the next one that is open.

        The given label as `new_label` is the decision to keep it.
        """
        row = self.row(standing)
        if row is None:
            return standing
        [given] = self.explored.given_names(np.array([row]))
        if new_label is not None and new_label == given:
            choice, new_label = "keep", None
        number = int(self.explored.source_index[row])
        change = self.log.decide(number, choice, given_label=given, new_label=new_label)
        rows = queue_of(self.explored, standing.wanted)
        position = next_open(self.explored, rows, self.log, standing.position + 1)
        return replace(standing, position=position, made=(*standing.made, change))

    def take_proposal(self, standing: Standing) -> Standing:
        row = self.row(standing)
        if row is None:
            return standing
        return self.decide(standing, "relabel", self.explored.name_of(int(self.explored.proposed[row])))

    def undo(self, standing: Standing) -> tuple[Standing, str]:
        """Take back the last decision of this window and go to its row, in the whole queue if it is not in this one;
        with a sentence where nothing was taken back.
        """
        if not standing.made:
            return standing, "Nothing was decided in this window."
        change, standing = standing.made[-1], replace(standing, made=standing.made[:-1])
        number = change.made.source_index
        told = "" if self.log.undo(change) else f"Row {number} was decided about anew by others; that stays."
        for wanted in (standing.wanted, QueueFilter()):
            places = np.flatnonzero(self.explored.source_index[queue_of(self.explored, wanted)] == number)
            if len(places):
                return replace(standing, wanted=wanted, position=int(places[0])), told
        return standing, told

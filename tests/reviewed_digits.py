"""Digits of which a fifth have a wrong label, and the decisions of a person who knows the right ones."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset, load_from_disk

from hf_clipselect.data.decisions import Decision, write_decisions
from hf_clipselect.embedded import load_digits_dataset
from hf_clipselect.evaluation.robustness import add_label_noise


REVIEWER = "zoe.reviewer"


@dataclass(frozen=True)
class ReviewedDigits:
    """The dataset and the file of decisions are in `folder`; arrays are of all rows, decisions by row."""

    folder: Path
    truth: np.ndarray
    given: np.ndarray
    decisions: dict[int, Decision]

    @property
    def dataset(self) -> Dataset:
        return load_from_disk(str(self.folder / "noisy"))

    @property
    def path(self) -> Path:
        return self.folder / "decisions.parquet"

    @property
    def decided(self) -> np.ndarray:
        """The labels that the subset is to have."""
        labels = self.given.copy()
        relabelled = self.rows("relabel")
        labels[relabelled] = self.truth[relabelled]
        return labels

    def rows(self, choice: str) -> np.ndarray:
        return np.array([row for row, decision in sorted(self.decisions.items()) if decision.decision == choice])


def make_reviewed_digits(folder: Path, *, num_rows: int = 400) -> ReviewedDigits:
    """Half of the wrong labels are changed, rows of others dropped; some right labels are kept, and three unsure."""
    digits = load_digits_dataset("train").select(range(num_rows))
    names, truth = digits.features["label"].names, np.array(digits["label"])
    given = add_label_noise(truth, len(names), rate=0.2, seed=0)
    features = digits.features
    noisy = digits.remove_columns("label").add_column("label", given).cast(features)
    noisy = noisy.add_column("note", [f"row {row}" for row in range(num_rows)])
    noisy.save_to_disk(str(folder / "noisy"))
    wrong, right = np.flatnonzero(given != truth), np.flatnonzero(given == truth)
    choices = {int(row): "relabel" for row in wrong[: len(wrong) // 2]}
    choices |= {int(row): "drop" for row in wrong[len(wrong) // 2 :][:6]}
    choices |= {int(row): "keep" for row in right[:15]} | {int(row): "unsure" for row in right[15:18]}
    decisions = {
        row: Decision(
            row,
            choice,
            names[truth[row]] if choice == "relabel" else None,
            given_label=names[given[row]],
            reviewer=REVIEWER,
        )
        for row, choice in choices.items()
    }
    write_decisions(folder / "decisions.parquet", decisions)
    return ReviewedDigits(folder, truth, given, decisions)

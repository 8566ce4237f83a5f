"""What a selection gives back: scores of every row, the kept rows, and other ratios from the same scores."""

import json
import logging
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from .data import SUBSET_COLUMNS
from .errors import InputError
from .hub.naming import hide_paths
from .parquet import write_parquet
from .score_table import column_values, join_columns, select_from_table
from .selection import Objective, check_ratios, ratio_name
from .source import DatasetSource, content_id


logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SelectionResult:
    """A selection and the scores behind it.

    Args:
        scores (`Dataset`):
            One row per source row considered: source_index, label, predicted_label, label_agrees, sas (in [-1, 1], higher
            is better aligned), margin (below 0: another class fits better), sds (in [0, 2], higher is more diverse), then
            for each ratio selection_score_<percent> and selected_<percent>. NaN scores mark rows that could not be read.
        ratios (`tuple[float, ...]`): The selection ratios; the first one is that of `selected`.
        objective (`Objective`): The resolved knobs.
        source (`DatasetSource`): The dataset that the row numbers refer to.
        seed (`int`): Seed of the run.
        report (`dict[str, Any]`): What report.json holds; empty for a result that was read back.
    """

    scores: Dataset
    ratios: tuple[float, ...]
    objective: Objective
    source: DatasetSource
    seed: int
    report: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def selected(self) -> np.ndarray:
        """Row numbers of the kept rows in the dataset as passed: int64, sorted."""
        return self._source_rows(column_values(self.scores, f"selected_{ratio_name(self.ratios[0])}"))

    @property
    def dropped(self) -> np.ndarray:
        """Row numbers of the considered rows that were not kept: int64, sorted."""
        return self._source_rows(~column_values(self.scores, f"selected_{ratio_name(self.ratios[0])}"))

    def at(self, ratio: float) -> "SelectionResult":
        """The selection at another ratio, from the scores alone: no model runs.

        Args:
            ratio (`float`): Fraction of the readable rows to keep, in (0, 1].

        Returns:
            `SelectionResult`: With this ratio as its only one.

        Raises:
            InputError: The ratio is out of range, or a score column that the objective needs is missing.
        """
        ratios = check_ratios(ratio)
        if len(ratios) > 1:
            raise InputError(f"Expected one selection_ratio, got {len(ratios)}: call .at for each.")
        (ratio,) = ratios
        if missing := [name for name in ("label", "sas", "margin", "sds") if name not in self.scores.column_names]:
            raise InputError(
                f"The scores lack the columns {', '.join(missing)}, so no other ratio can be selected from them; "
                f"they have {', '.join(self.scores.column_names)}."
            )
        if ratio in self.ratios:  # as it was selected: among several ratios quotas are held nested
            others = {
                f"{kind}_{ratio_name(r)}"
                for r in self.ratios
                if r != ratio
                for kind in ("selection_score", "selected")
            }
            scores = self.scores.select_columns([name for name in self.scores.column_names if name not in others])
        else:
            scores = select_from_table(self.scores, self.objective, (ratio,))
        return replace(self, scores=scores, ratios=(ratio,), report={})

    def apply(self, dataset: Dataset) -> Dataset:
        """The kept rows of the dataset, in its order, with source_index, sas, sds and selection_score as last columns.

        Args:
            dataset (`Dataset`): The dataset that was selected from.

        Returns:
            `Dataset`: A filtered dataset with the source's own columns and features first.

        Raises:
            InputError: It is another dataset: another number of rows, other labels or images.
        """
        source, name = self.source, self.source.name or "the dataset that was selected from"
        if len(dataset) != source.num_rows:
            raise InputError(
                f"The selection was made from {source.num_rows} rows, the dataset has {len(dataset)}; pass the split "
                f"{source.split or ''} of {name}."
            )
        if source.content_id and dataset._fingerprint != source.fingerprint:
            missing = {source.image_column, source.label_column} - set(dataset.column_names)
            if missing or content_id(dataset, source.image_column, source.label_column) != source.content_id:
                raise InputError(
                    f"This is not the dataset that the selection was made from: "
                    f"{'it has no column ' + ', '.join(sorted(missing)) if missing else 'labels or images differ'}. Pass "
                    f"{name} with its rows in their order."
                )
        return self._join(dataset)

    def save(self, folder: str | Path) -> None:
        """Write `selection.json` and `scores/`, which `from_folder` reads back.

        Both are made to be published: a dataset from a folder is named by the last part of its path.

        Args:
            folder (`str` or `Path`): Created if missing.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_parquet(self.scores, folder / "scores")
        selection = {
            "objective": self.objective.to_dict(),
            "ratios": list(self.ratios),
            "seed": self.seed,
            "source": hide_paths(asdict(self.source)),
        }
        (folder / "selection.json").write_text(json.dumps(selection, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_folder(cls, folder: str | Path) -> "SelectionResult":
        """Read what `save` wrote, or the output folder of a run, or its `subset` folder.

        Raises:
            InputError: There is no selection in the folder.
        """
        folder = Path(folder)
        holder = folder if (folder / "selection.json").exists() else folder / "subset"
        try:
            selection = json.loads((holder / "selection.json").read_text(encoding="utf-8"))
            shards = [pq.read_table(path) for path in sorted((holder / "scores").glob("*.parquet"))]
            scores, ratios = Dataset(pa.concat_tables(shards)), tuple(selection["ratios"])
            if missing := {f"selected_{ratio_name(ratio)}" for ratio in ratios} - set(scores.column_names):
                raise ValueError(f"no column {', '.join(sorted(missing))} in the scores")
            return cls(
                scores=scores,
                ratios=ratios,
                objective=Objective(**selection["objective"]),
                source=DatasetSource(**selection["source"]),
                seed=selection["seed"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{folder} holds no selection that can be read ({type(error).__name__}: {error}); expected selection.json and "
                "scores/ as SelectionResult.save or a run writes them."
            ) from None

    def subsets(self, dataset: Dataset) -> dict[str, Dataset]:
        """The kept rows of every ratio, by config name (`ratio_30`); the dataset is not checked again."""
        return {f"ratio_{ratio_name(ratio)}": self.at(ratio)._join(dataset) for ratio in self.ratios}

    def _join(self, dataset: Dataset) -> Dataset:
        name = ratio_name(self.ratios[0])
        columns = {
            "source_index": column_values(self.scores, "source_index"),
            "sas": column_values(self.scores, "sas"),
            "sds": column_values(self.scores, "sds"),
            "selection_score": column_values(self.scores, f"selection_score_{name}"),
        }
        if taken := [column for column in SUBSET_COLUMNS if column in dataset.column_names]:
            logger.warning(
                "The dataset's columns %s are replaced in the subset by those of this selection.", ", ".join(taken)
            )
            dataset = dataset.remove_columns(taken)
        kept = np.flatnonzero(column_values(self.scores, f"selected_{name}"))
        if len(dataset) == len(self.scores) and dataset._indices is None:
            return join_columns(dataset, columns).select(kept)
        # Columns beside rows that were picked out of a dataset make `datasets` copy the rows: the kept ones are enough.
        rows = kept if len(dataset) == len(self.scores) else columns["source_index"][kept]
        return join_columns(dataset.select(rows), {column: values[kept] for column, values in columns.items()})

    def _source_rows(self, mask: np.ndarray) -> np.ndarray:
        return column_values(self.scores, "source_index")[mask]

"""A selection that is opened to be looked at: its columns, its classes, its suspects, its images.

Nothing here knows of a page. All arrays have one entry for each of the N rows of the scores table, in its order.
"""

from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from datasets import Dataset

from ...data.decisions import Decision
from ...data.outside_files import check_files_stay_inside
from ...errors import InputError
from ...runtime.words import cut
from ...selection import column_suffix, is_count
from ..cached_embeds import CachedEmbeds, open_cached_embeds
from ..noise_summary import has_noise_model
from ..pruned import load_pruned
from ..report.suspects import pick_suspects
from ..scores_table import column_values
from ..selection_result import SelectionResult
from ..source_images import reference_dataset, source_dataset
from .row_images import Loaded, RowImages


# A caption may be long.
_SHOWN = 80


class Explored:
    """A selection, the place that it was read from, and the images of its rows.

    Args:
        result (`SelectionResult`): The selection.
        place (`str`): Its folder or repository, as the user named it.
        images (`RowImages`): Images by `source_index`.
        reference (`RowImages`): Images that rows may be copies of, by their row in the reference.
    """

    def __init__(self, result: SelectionResult, place: str, images: RowImages, reference: RowImages) -> None:
        self.result, self.place, self.images, self.reference = result, place, images, reference
        self.scores: Dataset = result.scores
        self.names: list[str] = self.scores.features["label"].names
        self.has_noise_model = has_noise_model(self.scores)
        self.has_captions = "better_caption" in self.scores.column_names
        self.column = lru_cache(maxsize=64)(self._column)

    @property
    def folder(self) -> Path | None:
        """The output folder of the run; None for a repository, or a subset folder alone."""
        folder = Path(self.place)
        return folder if (folder / "subset").is_dir() else None

    @cached_property
    def embeds(self) -> CachedEmbeds | None:
        """Features of the rows, by `source_index`; None where the run's features are not here."""
        return None if self.folder is None else open_cached_embeds(self.folder)

    @property
    def title(self) -> str:
        """The name of the dataset that was selected from, without folders."""
        name = self.result.source.name or "a dataset in memory"
        return Path(name).name if Path(name).is_absolute() else name

    def _column(self, name: str) -> np.ndarray:
        """One column of the scores table, (N,); -1 for a missing whole number, NaN for a missing score."""
        return column_values(self.scores, name)

    def has(self, name: str) -> bool:
        return name in self.scores.column_names

    @property
    def source_index(self) -> np.ndarray:
        return self.column("source_index")

    @property
    def given(self) -> np.ndarray:
        """Number of the class that the source gives, (N,), int64: before any decision about the label."""
        return self.column("given_label" if self.has("given_label") else "label")

    @property
    def labels(self) -> np.ndarray:
        """Number of the class after the decisions that the selection was made with, (N,), int64."""
        return self.column("label")

    @property
    def proposed(self) -> np.ndarray:
        """Number of the class that fits best, (N,), int64: of the noise model, or where there is none of CLIP."""
        return self.column("clean_label" if self.has_noise_model else "predicted_label")

    @property
    def readable(self) -> np.ndarray:
        return self.column("predicted_label") >= 0

    @property
    def sizes(self) -> list[str]:
        """Suffixes of the subsets that the table holds, such as `30`, the default first."""
        return [column_suffix(size) for size in self.result.ratios]

    @property
    def score_names(self) -> list[str]:
        """The columns that rows can be ordered by: float32."""
        return [field.name for field in self.scores.data.schema if str(field.type) == "float"]

    @cached_property
    def suspects(self) -> np.ndarray:
        """Rows whose label is most likely wrong, int64, most likely first."""
        return pick_suspects(self.scores)

    def row_of(self, source_index: int) -> int:
        """The row of the scores table; raises `InputError` where none has this number."""
        row = int(np.searchsorted(self.source_index, source_index))
        if row == len(self.source_index) or self.source_index[row] != source_index:
            raise InputError(f"The selection has no row {source_index}.")
        return row

    def name_of(self, label: int) -> str:
        return self.names[label] if label >= 0 else ""

    def given_names(self, rows: np.ndarray) -> list[str | None]:
        """What the source gives each row: its class, or its caption; None where the caption can't be read here."""
        if not self.has_captions:
            return [self.name_of(label) for label in self.given[rows].tolist()]
        numbers = self.source_index[rows].tolist()
        texts = self.images.captions(numbers)
        return [texts.get(number) for number in numbers]

    def applied_decisions(self) -> dict[int, Decision]:
        """The decisions that the selection was made with, by source_index; it does not hold the captions."""
        if not self.has("decision"):
            return {}
        found = {}
        for row in np.flatnonzero(self.column("decision") != "").tolist():
            number, choice = int(self.source_index[row]), self.column("decision")[row]
            new = self.name_of(int(self.column("label")[row])) if choice == "relabel" else None
            given = None if self.has_captions else self.name_of(int(self.given[row]))
            found[number] = Decision(number, choice, new, given_label=given)
        return found

    def check_decisions(self, decisions: Mapping[int, Decision], path: Path) -> None:
        """Refuse decisions, by source_index, about another dataset than the one that was selected from.

        Raises `InputError`, which names the file.
        """
        advice = (
            "They were made about another dataset: name another file with --decisions, or move this one elsewhere to "
            "begin anew."
        )
        num_rows = self.result.source.num_rows
        if unknown := [number for number in decisions if not 0 <= number < num_rows]:
            raise InputError(
                f"--decisions {path} decides about row {min(unknown)}, and the dataset has {num_rows:,} rows. {advice}"
            )
        seen = {number: decision.given_label for number, decision in decisions.items()}
        numbers = np.array(sorted(seen), dtype=np.int64)
        _, rows, at = np.intersect1d(self.source_index, numbers, assume_unique=True, return_indices=True)
        found = "captioned" if self.has_captions else "labelled"
        for number, given in zip(numbers[at].tolist(), self.given_names(rows), strict=True):
            if None not in (seen[number], given) and seen[number] != given:
                raise InputError(
                    f"--decisions {path} has row {number} as {found} {cut(repr(seen[number]), _SHOWN)}, and here it "
                    f"is {found} {cut(repr(given), _SHOWN)}. {advice}"
                )

    def captions(self, rows: np.ndarray) -> list[tuple[str, str]]:
        """The caption of each row, and the one that fits better; empty where it fits best, or texts are missing."""
        own, better = self.source_index[rows], self.column("better_caption")[rows]
        texts = self.images.captions({*own.tolist(), *better[better >= 0].tolist()})
        return [(texts.get(o, ""), texts.get(b, "")) for o, b in zip(own.tolist(), better.tolist(), strict=True)]


def open_selection(
    place: str | Path,
    *,
    revision: str | None = None,
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    train_split_name: str | None = None,
    allow_outside_files: bool = False,
    token: str | None = None,
) -> Explored:
    """Open the output folder of a run, its `subset` folder, or a dataset repository with the scores.

    Images are loaded when the first one is shown: from the dataset that the selection was made from, or where that
    can't be loaded, from the published subset, which has those of the rows that were kept. The other arguments are the
    flags of the same names; `token` is that of the Hub, by default the logged-in one.

    Raises `InputError` where there is no selection that can be read.
    """
    place = str(place)
    if Path(place).is_dir():
        if revision is not None:
            raise InputError(f"{place} is a local folder, which has no revision {revision!r}; leave it out.")
        result = SelectionResult.from_folder(place)
    else:
        result = SelectionResult.from_hub(place, revision, token=token)

    def load() -> Loaded:
        try:
            dataset = source_dataset(
                result,
                place,
                dataset_name=dataset_name,
                dataset_config_name=dataset_config_name,
                train_split_name=train_split_name,
                allow_outside_files=allow_outside_files,
                token=token,
            )
        except InputError as error:
            subset = None if dataset_name else _published_subset(result, place, revision, token)
            if subset is None:
                raise error
            return subset, column_values(subset, "source_index")
        return dataset, None

    columns = result.source.image_column, result.source.label_column
    reference = RowImages(lambda: (reference_dataset(result, place, token), None), *columns)
    return Explored(result, place, RowImages(load, *columns), reference)


def _published_subset(result: SelectionResult, place: str, revision: str | None, token: str | None) -> Dataset | None:
    """The kept rows of the default size, where they were published with their images.

    Raises `InputError` where one of these names a file of whoever looks at them.
    """
    size = result.ratios[0]
    try:
        if is_count(size):
            subset = load_pruned(place, count=size, revision=revision, token=token)
        else:
            subset = load_pruned(place, ratio=size, revision=revision, token=token)
    except InputError:
        return None
    check_files_stay_inside(subset, place, way_out="")
    return subset

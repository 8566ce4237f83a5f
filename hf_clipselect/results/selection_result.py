"""What a selection gives back: scores of every row, the kept rows, and other ratios from the same scores."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from datasets import Dataset, IterableDataset

from ..config.python_calls import python_door
from ..data import one_split
from ..data.outside_files import check_files_stay_inside
from ..data.source import DatasetSource
from ..data.stream_rows import is_stream, one_stream
from ..errors import InputError
from ..hub import (
    PREVIEW,
    Destination,
    Pushed,
    check_is_not_source,
    check_subset_folder,
    is_subset_file,
    publish,
    subset_card,
)
from ..hub.merge import write_card
from ..runtime.caller_state import own_settings
from ..runtime.downloads import fetch_files
from ..runtime.files import make_folder, write_atomically
from ..runtime.parquet import SHARDS, write_parquet
from ..runtime.words import in_one_line
from ..selection import AUTO, Objective, Size, check_sizes, column_suffix, config_name
from .kept_rows import check_is_source, kept_rows, with_images_of
from .kept_stream import kept_of_stream
from .noise_summary import check_share
from .notebook_view import as_html, in_three_lines
from .report import draw_preview
from .run_report import report_at
from .saved_selection import is_whole, published_report, read_saved, write_selection
from .scores_table import NEEDED_COLUMNS, column_values
from .subsets import add_reason, select_from_table


@dataclass(frozen=True, eq=False)
class SelectionResult:
    """A selection and the scores behind it.

    Args:
        scores (`Dataset`):
            One row per source row considered: source_index, label, predicted_label, label_agrees, sas (in [-1, 1],
            higher is better aligned), margin (below 0: another class fits better), sds (in [0, 2], higher is more
            diverse), then for each ratio selection_score_<percent> and selected_<percent>. NaN scores mark rows that
            could not be read. Where there were decisions about rows, `label` is the one after them, `given_label` the
            dataset's, and `decision` tells what was decided.
        ratios (`tuple[float | int | str, ...]`):
            Sizes of the subsets: ratios (float or "auto"), then counts (int); the first is that of `selected`.
        objective (`Objective`): The resolved knobs.
        source (`DatasetSource`): The dataset that the row numbers refer to.
        seed (`int`): Seed of the run.
        report (`dict[str, Any]`):
            What report.json holds. One that was read back lacks `seconds`, the arguments that say where the run wrote,
            and all but the last part of paths. `select_embeddings` makes at most the entries `adaptation` and `noise`.
        images (`Dataset`, *optional*):
            The rows considered, one per row of scores, of a result that was just made from images: notebooks show
            some of them.
    """

    scores: Dataset
    ratios: tuple[Size, ...]
    objective: Objective
    source: DatasetSource
    seed: int
    report: dict[str, Any] = field(default_factory=dict, repr=False)
    images: Dataset | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return in_three_lines(self.scores, self.ratios, self.source, self.report, self.objective.name)

    def _repr_html_(self) -> str:
        return as_html(self.scores, self.ratios, self.source, self.report, self.objective.name, self.images)

    @property
    def selected(self) -> np.ndarray:
        """Row numbers of the kept rows in the dataset as passed: int64, sorted."""
        return column_values(self.scores, "source_index")[self._kept]

    @property
    def dropped(self) -> np.ndarray:
        """Row numbers of the considered rows that were not kept: int64, sorted."""
        return column_values(self.scores, "source_index")[~self._kept]

    @property
    def _kept(self) -> np.ndarray:
        return column_values(self.scores, f"selected_{column_suffix(self.ratios[0])}")

    @python_door(selection_ratio="ratio", selection_count="count")
    @own_settings()
    def at(self, ratio: float | Literal["auto"] | None = None, *, count: int | None = None) -> "SelectionResult":
        """The selection of another size, from the scores alone: no model runs.

        Args:
            ratio (`float` or `"auto"`, *optional*):
                Fraction of the readable rows to keep, in (0, 1]; `"auto"` keeps as many as have a right label, by the
                column label_error_probability.
            count (`int`, *optional*): Number of rows to keep, instead of a ratio.

        Returns:
            `SelectionResult`: With this size as its only one.

        Raises:
            InputError: Not one size is given, it is out of range, a score column that the objective needs is missing,
                or, for `"auto"`, the report tells that the share of wrong labels is too uncertain.
        """
        if ratio is None and count is None:
            raise InputError("Give the size of the selection: a ratio such as 0.5, or count=500.")
        sizes = check_sizes(ratio, count)
        if len(sizes) > 1:
            raise InputError(f"Expected one size, got {len(sizes)}: call .at for each.")
        return self._at(sizes[0])

    def _at(self, size: Size) -> "SelectionResult":
        if missing := [name for name in NEEDED_COLUMNS if name not in self.scores.column_names]:
            raise InputError(
                f"The scores lack the columns {', '.join(missing)}, so nothing else can be selected from them; "
                f"they have {', '.join(self.scores.column_names)}."
            )
        suffix, suffixes = column_suffix(size), set(map(column_suffix, self.ratios))
        if suffix in suffixes:  # as it was selected: among several sizes quotas are held nested
            others = {f"{kind}_{other}" for other in suffixes - {suffix} for kind in ("selection_score", "selected")}
            kept = [name for name in self.scores.column_names if name not in others | {"reason"}]
            scores = add_reason(self.scores.select_columns(kept), self.objective, size)
        else:
            if size == AUTO:
                check_share(self.scores, self.report.get("noise"))
            scores = select_from_table(self.scores, self.objective, (size,))
        report = report_at(self.report, scores, (size,)) if is_whole(self.report) else self.report
        return replace(self, scores=scores, ratios=(size,), report=report)

    @python_door()
    def apply(self, dataset: Dataset | IterableDataset) -> Dataset | IterableDataset:
        """The kept rows of the dataset, in its order, with source_index, sas, sds and selection_score as last columns.

        Where the selection was made with decisions about rows, the label column holds the labels after them, and a
        last column `given_label` those of the dataset.

        Args:
            dataset (`Dataset` or `IterableDataset`):
                The dataset that was selected from, with its own labels; also as a stream, in its own order, or, if the
                selection was made with an `id_column`, any part of it in any order.

        Returns:
            `Dataset` or `IterableDataset`: A filtered dataset with the source's own columns and features first, and in
            the dataset's format. A format of all columns, or a transform of them, gets the new ones too. A stream is
            filtered while it is read.

        Raises:
            InputError: It is another dataset: another number of rows, other labels or images. Of a stream the labels
                and the number of rows are checked, and the error comes where it differs; captions are checked at its
                end, and only where the selection was made from a stream.
        """
        if is_stream(dataset):
            suffix = column_suffix(self.ratios[0])
            return kept_of_stream(one_stream(dataset), self.scores, suffix, self.source)
        dataset = one_split(dataset)
        check_is_source(dataset, self.source)
        chosen = dataset.format
        if set(chosen["columns"]) == set(dataset.column_names):
            chosen["columns"] = None
        return self._join(dataset).with_format(**chosen)

    @python_door()
    def save(self, folder: str | Path, dataset: Dataset | None = None, *, allow_outside_files: bool = False) -> None:
        """Write `selection.json` and `scores/`, which `from_folder` reads back, and of a run also `README.md`.

        The folder is made to be published: `load_dataset` reads it, with the config `scores` and one for each ratio,
        and a dataset from a folder is named by the last part of its path. The same selection gives the same bytes. A
        save that is interrupted leaves a folder that `from_folder` refuses.

        Args:
            folder (`str` or `Path`):
                Created if missing. Subsets that an earlier save left in it are removed; what people wrote in its
                README.md stays.
            dataset (`Dataset`, *optional*):
                The dataset that was selected from, or the rows of it that were considered: its kept rows are written
                too, in `ratio_<percent>/` for each ratio, and a picture of some of them for the card.
            allow_outside_files (`bool`, *optional*, defaults to `False`):
                Rows of a dataset from the Hub may name files outside of its own folder.

        Raises:
            InputError: It is another dataset, a row names a file that is not the dataset's, what people wrote in
                README.md can't be read, or a folder or a pipe bears the name of a file to write.
        """
        if dataset is not None:
            dataset = one_split(dataset)
            # Rows that were picked out of the dataset have no hash to be known by.
            if not len(dataset) == len(self.scores) < self.source.num_rows:
                check_is_source(dataset, self.source)
            dataset = with_images_of(dataset, self.source)
            if not allow_outside_files:
                check_files_stay_inside(dataset)
        folder = make_folder(folder, "folder")
        check_subset_folder(folder)
        # First to go and last to come: no half-written folder has one.
        (folder / "selection.json").unlink(missing_ok=True)
        for path in [folder / PREVIEW, *folder.glob(f"*/{SHARDS}")]:
            if is_subset_file(path.relative_to(folder).as_posix()):
                path.unlink(missing_ok=True)
        write_parquet(self.scores, folder / "scores")
        report = published_report(self.report)
        for size in () if dataset is None else self.ratios:
            subset = self._at(size)._join(dataset)
            write_parquet(subset, folder / config_name(size))
            if size == self.ratios[0] and is_whole(report):
                write_atomically(folder / PREVIEW, draw_preview(self.scores, subset, self.source, column_suffix(size)))
        if is_whole(report):
            write_card(folder / "README.md", subset_card(report, folder))
        write_selection(
            folder / "selection.json",
            objective=self.objective,
            ratios=self.ratios,
            seed=self.seed,
            source=self.source,
            report=report,
            scores=self.scores,
        )

    @classmethod
    @python_door()
    def from_folder(cls, folder: str | Path) -> "SelectionResult":
        """Read what `save` wrote, or the output folder of a run, or its `subset` folder.

        Args:
            folder (`str` or `Path`): Holds selection.json and `scores/`, itself or in `subset/`.

        Returns:
            `SelectionResult`: As it was saved.

        Raises:
            InputError: There is no selection in the folder, or one that no run can have made.
        """
        folder = Path(folder)
        holder = folder if (folder / "selection.json").exists() else folder / "subset"
        return cls._read(holder, str(folder))

    @classmethod
    @python_door()
    def from_hub(cls, repo_id: str, revision: str | None = None, *, token: str | None = None) -> "SelectionResult":
        """Read a published selection: its scores and knobs, without any image.

        Args:
            repo_id (`str`): Dataset repository such as `user/name`.
            revision (`str`, *optional*): Branch, tag or commit; default `main`.
            token (`str`, *optional*): Token of the Hub; default the logged-in one.

        Returns:
            `SelectionResult`: As it was published; `.at` gives other ratios, `.apply` the rows of the source dataset.

        Raises:
            InputError: There is no such repository or revision, it is private and the token may not read it, the Hub
                can't be reached, or there is no selection in it that can be read.

        Example:

        ```python
        result = SelectionResult.from_hub("me/digits-pruned").at(0.5)
        subset = result.apply(dataset)
        ```
        """
        patterns = ["selection.json", "scores/*.parquet"]
        fetched = fetch_files(repo_id, patterns, repo_type="dataset", revision=revision, token=token)
        return cls._read(fetched.folder, f"{repo_id} at commit {fetched.revision[:12]}")

    @python_door(
        push_to_hub="push_to_hub()",
        hub_dataset_id="repo_id",
        hub_private_repo="private",
        hub_revision="revision",
        hub_tag="tag",
    )
    def push_to_hub(
        self,
        repo_id: str,
        dataset: Dataset | None = None,
        *,
        adapter_dir: str | Path | None = None,
        hub_model_id: str | None = None,
        private: bool = False,
        revision: str | None = None,
        tag: str | None = None,
        create_pr: bool = False,
        allow_outside_files: bool = False,
        license: str | None = None,
        token: str | None = None,
    ) -> list[Pushed]:
        """Publish the selection as a dataset repository, by one commit, and the adapters behind it if they are given.

        Pushing the same selection again makes no commit, and finishes what an interrupted push left.

        Args:
            repo_id (`str`): Dataset repository such as `user/name`, created if missing.
            dataset (`Dataset`, *optional*):
                The dataset that was selected from; without it scores and row numbers alone are published.
            adapter_dir (`str` or `Path`, *optional*):
                Folder `adapter` of the run, to be published too; its README.md becomes the card of the repository.
            hub_model_id (`str`, *optional*): Model repository for the adapters.
            private (`bool`, *optional*, defaults to `False`): Repositories that the push creates are private.
            revision (`str`, *optional*): Branch to push to, created if missing; default `main`.
            tag (`str`, *optional*): Tag of this push; default the next of v1, v2, ...
            create_pr (`bool`, *optional*, defaults to `False`): Open pull requests instead of committing; no tags.
            allow_outside_files (`bool`, *optional*, defaults to `False`): As in `save`.
            license (`str`, *optional*): That the card states, an id of the Hub or `other`; default the source's.
            token (`str`, *optional*): Token of the Hub that may write; default the logged-in one.

        Returns:
            `list[Pushed]`: The adapters' repository if they were pushed, then the dataset's: `.commit`, `.url`,
            `.is_new`.

        Raises:
            InputError: It is another dataset, a row names a file that is not the dataset's, the result comes from
                `select_embeddings`, or the push can't work: no token, a wrong id, missing rights, a tag that is taken,
                a license that the Hub does not know.
            PushError: The Hub can't be reached, or fails time after time.

        Example:

        ```python
        result = select_dataset(dataset, selection_ratio=0.3, output_dir="out")
        result.push_to_hub("me/digits", dataset, adapter_dir="out/adapter", hub_model_id="me/digits-clip-adapters")
        ```
        """
        if not is_whole(self.report):
            raise InputError(
                "Only the result of a run can be published: its card tells how the subset was made. Use "
                "select_dataset."
            )
        if (adapter_dir is None) != (hub_model_id is None):
            raise InputError("adapter_dir and hub_model_id belong together: give both, or neither.")
        if create_pr and (revision is not None or tag is not None):
            raise InputError("create_pr goes to main and has no tag; leave revision and tag out.")
        check_is_not_source(repo_id, self.source.name)
        if dataset is not None:
            dataset = one_split(dataset)
            check_is_source(dataset, self.source)
        destination = Destination.to(
            repo_id,
            hub_model_id,
            license=license,
            private=private,
            branch=revision,
            tag=tag,
            create_pr=create_pr,
            token=token,
        )
        destination.check()
        told = self.report | {"arguments": self.report["arguments"] | ({"license": license} if license else {})}
        with TemporaryDirectory() as folder:
            replace(self, report=told).save(folder, dataset, allow_outside_files=allow_outside_files)
            adapter = None if adapter_dir is None else Path(adapter_dir)
            return publish(published_report(told), Path(folder), destination, adapter=adapter)

    @classmethod
    def _read(cls, folder: Path, name: str) -> "SelectionResult":
        """The folder may be anybody's: whatever is wrong in it is told in a sentence that calls it by this name."""
        try:
            return cls(**read_saved(folder))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, pa.ArrowException) as error:
            raise InputError(
                f"{name} holds no selection that can be read ({type(error).__name__}: "
                f"{in_one_line(error, 400)}); expected selection.json and scores/ as SelectionResult.save "
                "or a run writes them."
            ) from None

    def _join(self, dataset: Dataset) -> Dataset:
        return kept_rows(dataset, self.scores, column_suffix(self.ratios[0]), label_column=self.source.label_column)

"""What a run did, in a few lines: `select` prints them at its end, `show` whenever one asks."""

import glob
import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config.arguments import HubArguments
from ..data.decisions import decisions_in_words
from ..data.places import is_pattern
from ..hub.noise_words import auto_keeps_all, confused_pairs, look_wrong
from ..results.saved_selection import is_whole
from ..results.scores_table import column_values
from ..results.selection_result import SelectionResult
from ..runtime.terminal import printable
from ..runtime.words import counted
from ..selection import Size, column_suffix, config_name, is_count


_PAIRS_NAMED = 3
# A wheel has no recipes.
_RECIPE = Path(__file__).parents[2] / "recipes" / "train_classifier.py"


def summary_lines(
    result: SelectionResult,
    place: Path | str,
    *,
    scores_only: bool = False,
    seconds: float | None = None,
    revision: str | None = None,
) -> list[str]:
    """What the selection is, and how to go on from it.

    Args:
        result (`SelectionResult`): Of a run, or read back.
        place (`Path` or `str`): Output folder of the run or subset folder, as `Path`; or dataset repository.
        scores_only (`bool`, *optional*, defaults to `False`): There are no images of the kept rows in that place.
        seconds (`float`, *optional*): What the run took.
        revision (`str`, *optional*): Branch, tag or commit of the repository that was read.

    Returns:
        `list[str]`: At most ten lines, and one more at the end of a run in a checkout.
    """
    report = result.report
    lines = [*_what_was_selected(result, seconds), *_kept(result)]
    if is_whole(report):
        lines.append(_adapters(report["adaptation"]))
        lines += _checked(report)
    load = f"SelectionResult.from_folder({literal(place)})"
    if is_whole(report) or isinstance(place, str):
        load = _load_subset(place, result.ratios[0], scores_only=scores_only, revision=revision)
    lines += _where(report, place, load)
    if seconds is not None and (command := report.get("compare_command")) and _RECIPE.is_file():
        lines.append(f"is it worth it: {command}")
    return [printable(line) for line in [*lines, f"next: {_next_command(place, revision)}"]]


def hub_lines(result: SelectionResult, hub: HubArguments, *, scores_only: bool) -> list[str]:
    """The calls that load what was pushed; none for a pull request, which brings nothing until it is merged."""
    if hub.hub_dataset_id is None or hub.create_pr:
        return []
    at = _at(hub.hub_revision)
    lines = [f"on the Hub: {load_call(hub.hub_dataset_id, result.ratios[0], scores_only=scores_only, at=at)}"]
    if hub.hub_model_id is not None and result.report["adaptation"]["kept"]:
        lines.append(f"on the Hub: load_adapters({literal(hub.hub_model_id)}{at})")
    return lines


def subset_folder(folder: Path) -> Path:
    """Where the selection lies in the output folder of a run: in its folder `subset`, unless this is that folder."""
    return folder if (folder / "selection.json").exists() else folder / "subset"


def load_call(place: Path | str, size: Size, *, scores_only: bool, at: str = "") -> str:
    """The call that loads a subset; `at` is what stands behind its arguments, such as a revision."""
    if scores_only:
        given = literal(size) if isinstance(size, str) else size
        return f"load_pruned({literal(place)}, {'count' if is_count(size) else 'ratio'}={given}{at})"
    return f'load_dataset({literal(place)}, "{config_name(size)}", split="train"{at})'


def load_folder_call(folder: Path) -> str:
    """The call that loads the Parquet files of a folder."""
    if not is_pattern(os.path.abspath(folder)):
        return f'load_dataset({literal(folder)}, split="train")'
    # `load_dataset` reads the path of a folder as a pattern and can't be told not to; that of files it can.
    files = f"{glob.escape(os.path.abspath(folder))}/*.parquet"
    return f'load_dataset("parquet", data_files={literal(files)}, split="train")'


def literal(text: Path | str) -> str:
    """A string as Python reads it, in double quotes as the others of the line."""
    return json.dumps(str(text), ensure_ascii=False)


def duration(seconds: float) -> str:
    """A time in words: "12 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _what_was_selected(result: SelectionResult, seconds: float | None) -> list[str]:
    report = result.report
    line = f"{counted(len(result.scores), 'row')} of embeddings"
    if is_whole(report):
        name = report["source"]["name"] or "a dataset in memory"
        line = f"{report['num_rows']} rows of {name}, scored with {report['model']['name']}"
    lines = [line if seconds is None else f"{line} in {duration(seconds)}"]
    if noise := report.get("noise"):
        pairs = confused_pairs(noise, limit=_PAIRS_NAMED)
        lines.append(look_wrong(noise) + (f": {pairs}" if pairs else ""))
    return lines


def _kept(result: SelectionResult) -> list[str]:
    """The first size with how well its labels fit; in a second line the numbers of rows of the others."""
    sizes = {
        config_name(size): int(column_values(result.scores, f"selected_{column_suffix(size)}").sum())
        for size in result.ratios
    }
    first, *others = [f"{name}: {counted(rows, 'row')}" for name, rows in sizes.items()]
    subsets = result.report.get("subsets") or []
    if subsets and subsets[0]["label_agrees_kept"] is not None:
        first += f"; CLIP agrees with {subsets[0]['label_agrees_kept']:.1%} of the kept labels"
        if subsets[0]["label_agrees_dropped"] is not None:
            first += f", {subsets[0]['label_agrees_dropped']:.1%} of the dropped"
    clauses = ((subset["name"], auto_keeps_all(result.report["noise"], subset)) for subset in subsets)
    more = [", ".join(others)] if others else []
    more += [f"{name} {clause}" for name, clause in clauses if clause]
    return [first, "; ".join(more)] if more else [first]


def _adapters(adaptation: Mapping[str, Any]) -> str:
    if adaptation["adapter"] is not None:
        return f"adapters: those of {adaptation['adapter']['name']}"
    if adaptation["mode"] == "off":
        return "adapters: none, the scores are those of plain CLIP"
    verdict = "kept" if adaptation["kept"] else "not kept"
    plain, adapted = adaptation["held_out_agreement_plain"], adaptation["held_out_agreement_adapted"]
    if plain is None or adapted is None:
        return f"adapters: {verdict}, no rows could be held out to tell whether they help"
    return f"adapters: {verdict}, they agree with {adapted:.1%} of held-out rows, plain CLIP with {plain:.1%}"


def _checked(report: Mapping[str, Any]) -> list[str]:
    """What people decided and what looks leaked or damaged, where the run looked at it."""
    decisions, clauses = report.get("decisions"), []
    if leaks := report.get("leaks"):
        clauses.append(f"{counted(leaks['rows'], 'row')} copied from {leaks['reference']}{_and_dropped(leaks)}")
    if quality := report.get("quality"):
        clauses.append(f"{counted(quality['rows'], 'damaged image')}{_and_dropped(quality)}")
    lines = [f"decisions: {decisions_in_words(decisions)}"] if decisions else []
    return [*lines, f"checked: {'; '.join(clauses)}"] if clauses else lines


def _and_dropped(found: Mapping[str, Any]) -> str:
    return ", dropped" if found["dropped"] and found["rows"] else ""


def _where(report: Mapping[str, Any], place: Path | str, load: str) -> list[str]:
    """What loads the subset, and where the rest of the report is, with the number of its warnings."""
    lines, number = [f"subset: {load}"], len(report.get("warnings", ()))
    if isinstance(place, Path) and subset_folder(place) != place:
        warned = f", with {counted(number, 'warning')}" if number else ""
        return [*lines, f"report: {place / 'report.html'}{warned}"]
    return [*lines, f"warnings: {number}, on the card"] if number else lines


def _at(revision: str | None) -> str:
    return f", revision={literal(revision)}" if revision is not None else ""


def _load_subset(place: Path | str, size: Size, *, scores_only: bool, revision: str | None) -> str:
    if isinstance(place, str):
        return load_call(place, size, scores_only=scores_only, at=_at(revision))
    subset = subset_folder(place)
    if not scores_only and is_pattern(os.path.abspath(subset)):
        return load_folder_call(subset / config_name(size))
    return load_call(subset, size, scores_only=scores_only)


def _next_command(place: Path | str, revision: str | None) -> str:
    words = [str(place), *(["--revision", revision] if revision is not None else [])]
    listing = shlex.join(["hf-clipselect", "suspects", *words])
    return f"{shlex.join(['hf-clipselect', 'explore', *words])}, or without a browser {listing}"

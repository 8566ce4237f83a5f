"""The one table of a comparison, in Markdown, which the console, the card and comparison.md share."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from ...hub.escape import code_span
from .training_arguments import ARMS


_SELECTED = "selected"


def comparison_table(comparison: Mapping[str, Any]) -> str:
    """Write a table with a line for each arm, then what it says, and how it was made.

    Args:
        comparison (`dict`): What [`compare_arms`] gives.

    Returns:
        `str`: Markdown. Differences and standard errors are in points of accuracy.
    """
    several = len(comparison["eval"]) > 1
    head = ["trained on", "rows", "steps", "seconds", "accuracy", "selected minus this", "standard error"]
    head = [*(["tested on"] if several else []), *head]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, compared in comparison["eval"].items():
        for arm, facts in comparison["arms"].items():
            cells = [*([code_span(name)] if several else []), *_cells(arm, facts, compared[arm])]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *_verdicts(comparison), "", " ".join(_caption(comparison))]) + "\n"


def _cells(arm: str, facts: Mapping[str, Any], figures: Mapping[str, Any]) -> list[str]:
    known = [seconds for seconds in facts["seconds"] if seconds is not None]
    difference = ["", ""]
    if arm != _SELECTED:
        difference = [f"{100 * figures['difference']:+.2f}", f"{100 * figures['standard_error']:.2f}"]
    return [
        ARMS.get(arm, "selected rows"),
        f"{facts['num_rows']:,}",
        f"{facts['num_steps']:,}",
        f"{fmean(known):.1f}" if known else "not known",
        f"{100 * fmean(figures['accuracy']):.2f} %",
        *difference,
    ]


def _verdicts(comparison: Mapping[str, Any]) -> list[str]:
    """A sentence on each difference; of one seed it is no verdict."""
    told = []
    for name, compared in comparison["eval"].items():
        for arm in comparison["arms"]:
            if arm == _SELECTED:
                continue
            points = 100 * compared[arm]["difference"]
            if len(comparison["seeds"]) == 1:
                said = f"differ from {ARMS[arm]} by {points:+.2f} points; one seed gives no verdict"
            elif compared[arm]["is_clear"]:
                said = f"are {abs(points):.2f} points {'better' if points > 0 else 'worse'} than {ARMS[arm]}"
            else:
                said = f"are not told from {ARMS[arm]}: a difference of {points:+.2f} points may be chance"
            told.append(f"- On {code_span(name)} the selected rows {said}.")
    return told


def _caption(comparison: Mapping[str, Any]) -> list[str]:
    seeds, arms = comparison["seeds"], comparison["arms"]
    tested = ", ".join(
        f"{compared['num_rows']:,} of {code_span(name)}" for name, compared in comparison["eval"].items()
    )
    by = f"seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]}"
    told = [f"Mean of {len(seeds)} training{'s' if len(seeds) > 1 else ''} of each ({by}); rows tested on: {tested}."]
    if comparison["equal"] == "epochs":
        told.append("All make the same number of passes over their rows, so fewer rows are fewer steps and less time.")
    else:
        told.append("All make the same number of steps, so fewer rows are seen more often.")
    if "random" in arms:
        told.append("Random rows are drawn anew for each seed from all rows, without quotas of classes.")
    told.append(
        "All rows are those that the selection considered, but for images that can't be read and rows of --must_drop."
    )
    if len(seeds) > 1:
        num_tests = len(comparison["eval"]) * (len(arms) - 1)
        corrected = f", with Holm's correction for the {num_tests} that are tested" if num_tests > 1 else ""
        told.append(
            "The standard error is that of another set of test rows and of other seeds, paired by both and added in "
            f"squares; a difference is told from none by a t-test at 5 %{corrected}. The selection is the same for "
            "all seeds."
        )
    else:
        told.append(
            "The standard error is that of another set of test rows alone: one seed does not tell how much others "
            "differ, so it is too small, and no difference is told from none; take more by --compare_seeds 3."
        )
    told.append("Seconds are those of a training, without loading, testing and the selection.")
    return told

"""The tables of a run, as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from .measured_rows import IN_SHORT


HEAD = ("what", "ours", "other side", "ratio", "target", "met")
SHORT_HEAD = ("work", "here", "the other way", "which is", "times as much")


def markdown(figures: Mapping[str, Any]) -> str:
    """The tables of a run from what results.json holds; what could not be measured on the machine is left out."""
    measured = {name: row for name, row in figures["rows"].items() if "left_out" not in row}
    parts = ["## Measured\n", "Both sides and their ratio:\n", table(HEAD, *map(cells, measured.values()))]
    if short := [short_cells(name, measured[name]) for name in IN_SHORT if name in measured]:
        parts += [
            "## In short\n",
            "What the work costs, and what it costs the other way:\n",
            table(SHORT_HEAD, *short),
        ]
    if stages := figures["stages"]:
        lines = ([stage, *map(number, values.values())] for stage, values in stages.items())
        parts += ["Stage by stage:\n", table(["stage", *next(iter(stages.values()))], *lines)]
    return "\n".join(parts)


def cells(result: Mapping[str, Any]) -> list[str]:
    """A line of the table from its figures."""
    if "left_out" in result:
        return [result["what"], result["left_out"], "", "", result["target"], ""]
    sides = [(result["ours"], result["unit"]), (result["other"], result["unit"]), (result["ratio"], "")]
    figures = ["" if value is None else f"{number(value)} {unit}".strip() for value, unit in sides]
    return [result["what"], *figures, result["target"], {True: "yes", False: "NO", None: ""}[result["met"]]]


def short_cells(name: str, result: Mapping[str, Any]) -> list[str]:
    """A line of the table that the README shows."""
    work, which_is = IN_SHORT[name]
    ours, other = (f"{number(result[side])} {result['unit']}" for side in ("ours", "other"))
    return [work, ours, other, which_is, number(result["other"] / result["ours"])]


def number(value: float) -> str:
    """Three digits that count."""
    return f"{float(f'{value:.3g}'):,g}"


def table(head: Sequence[str], *lines: Sequence[str]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *lines))

"""The figures of `report.html`, each an SVG in a data URI. The same input gives the same bytes.

The ground is clear, lines and letters are dark on a light page and light on a dark one, and data has colours whose
contrast with both is at least three to one.
"""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset

from ..scores_table import column_values


# matplotlib takes long to import: it is imported where something is drawn.
if TYPE_CHECKING:
    from matplotlib.axes import Axes


KEPT = "#0072b2"  # blue and vermilion of Okabe and Ito: told apart with every kind of colour blindness
DROPPED = "#d55e00"
BEFORE = "#808080"
INK = "#222222"
# What a viewer puts in its place, by what the reader's system is set to; paper is always light.
INKS = (
    f"<style>svg {{ color: {INK} }}\n"
    "@media screen and (prefers-color-scheme: dark) { svg { color: #e6e6e6 } }</style>"
)
MAX_POINTS = 5000
MAX_CLASSES_DRAWN = 40
MAX_CLASSES_IN_ONE = 15
MAX_NAME_LENGTH = 24
NUM_BINS = 40
MAX_TICKS = 5  # of an axis: each takes as long to draw as ten bars

# Above matplotlib's own defaults, so that a user's matplotlibrc doesn't reach the report.
STYLE = {
    "svg.hashsalt": "hf_clipselect",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
}

# Title, and what it means for labels and for captions.
HISTOGRAMS = {
    "sas": (
        "Semantic alignment (SAS)",
        "Similarity of an image with the prompt of its label. Higher: fits better.",
        "Similarity of an image with its caption. Higher: fits better.",
    ),
    "margin": (
        "Margin",
        "SAS less the similarity with the best other class. Left of the line, CLIP prefers that one.",
        "SAS less the similarity with the best other caption. Left of the line, CLIP prefers that one.",
    ),
    "sds": (
        "Diversity (SDS)",
        "Mean distance to the nearest images of its class. Higher: rarer.",
        "Mean distance to the nearest images of its cluster. Higher: rarer.",
    ),
}


@dataclass(frozen=True)
class Plot:
    """A figure as an SVG in a data URI, with the texts above and below it."""

    title: str
    caption: str
    source: str


def draw_histograms(scores: Dataset, suffix: str, *, captions: bool) -> list[Plot]:
    """How SAS, margin and SDS are spread over the rows that a size keeps and drops: one figure for each."""
    kept = column_values(scores, f"selected_{suffix}")
    plots = []
    for name, (title, of_labels, of_captions) in HISTOGRAMS.items():
        caption = of_captions if captions else of_labels
        draw = partial(_histogram, name=name, values=column_values(scores, name), kept=kept)
        plots.append(Plot(title, caption, _render(draw, width=3.3, height=2.4)))
    return plots


def draw_scatter(scores: Dataset, suffix: str) -> Plot:
    """SAS against SDS, at most 5,000 rows of them, always the same ones."""
    sas, sds = column_values(scores, "sas"), column_values(scores, "sds")
    kept = column_values(scores, f"selected_{suffix}")
    rows = np.flatnonzero(np.isfinite(sas) & np.isfinite(sds))
    caption = f"Each point is a row; {len(rows):,} rows."
    if len(rows) > MAX_POINTS:
        caption = f"Each point is a row; {MAX_POINTS:,} of {len(rows):,} rows, drawn at random."
        rows = np.sort(np.random.default_rng(0).choice(rows, MAX_POINTS, replace=False))

    draw = partial(_scatter, sas=sas[rows], sds=sds[rows], kept=kept[rows])
    return Plot("Alignment against diversity", caption, _render(draw, width=4.9, height=3.8))


def draw_class_shares(report: dict[str, Any], subset: dict[str, Any]) -> list[Plot]:
    """The share of each class in all rows and in a subset of the report, in two figures for more than 15 classes.

    Of more than 40 classes only the extremes are drawn.
    """
    entries = [(number, entry) for number, entry in enumerate(report["classes"]) if entry["rows"]]
    one, several = ("cluster", "clusters") if report["captions"] else ("class", "classes")
    return _draw_shares(entries, report, subset, one=one, several=several)


def draw_group_shares(report: dict[str, Any], subset: dict[str, Any]) -> list[Plot]:
    """The share of each group, as [`draw_class_shares`] draws classes; nothing where the rows have no groups."""
    entries = list(enumerate(report["groups"]))
    return _draw_shares(entries, report, subset, one="group", several="groups") if entries else []


def _draw_shares(
    entries: list[tuple[int, dict[str, Any]]],
    report: dict[str, Any],
    subset: dict[str, Any],
    *,
    one: str,
    several: str,
) -> list[Plot]:
    suffix = subset["suffix"]
    caption = f"Share of each {one} among all rows and among the rows kept."
    half = MAX_CLASSES_DRAWN // 2
    if len(entries) > MAX_CLASSES_DRAWN:
        by_kept = sorted(entries, key=lambda item: item[1]["kept"][suffix] / item[1]["rows"])
        panels = {f"{several} kept least": by_kept[:half], f"{several} kept most": by_kept[: -half - 1 : -1]}
        caption += f" The {half} at this end of {len(entries)} {several}."
    elif len(entries) > MAX_CLASSES_IN_ONE:
        middle = (len(entries) + 1) // 2
        panels = {f"{one} shares": entries[:middle], f"{one} shares, continued": entries[middle:]}
    else:
        panels = {f"{one} shares": entries}
    shares = {number: _shares(entry, report, subset) for number, entry in entries}
    limit = 1.05 * max(max(shares[number]) for panel in panels.values() for number, _ in panel)
    plots = []
    for title, panel in panels.items():
        names = [_drawable(entry["name"], f"{one} {number}") for number, entry in panel]
        draw = partial(_bars, names=names, pairs=[shares[number] for number, _ in panel], limit=limit)
        height = max(2.2, 0.8 + (0.3 if len(panels) == 1 else 0.22) * len(panel))
        plots.append(Plot(title.capitalize(), caption, _render(draw, width=4.9, height=height)))
    return plots


def _shares(entry: dict[str, Any], report: dict[str, Any], subset: dict[str, Any]) -> tuple[float, float]:
    return 100 * entry["rows"] / report["num_rows"], 100 * entry["kept"][subset["suffix"]] / max(subset["rows"], 1)


def _bars(axes: "Axes", names: list[str], pairs: list[tuple[float, float]], limit: float) -> None:
    position = np.arange(len(names))
    before, after = zip(*pairs, strict=True)
    axes.barh(position - 0.2, before, height=0.4, color=BEFORE, label="all rows")
    axes.barh(position + 0.2, after, height=0.4, color=KEPT, label="kept rows")
    axes.set_yticks(position, names, parse_math=False)  # "$" in a class name is a dollar
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=MAX_TICKS)
    axes.set_xlim(0, limit)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("share of rows, in percent")
    _legend(axes)


def _scatter(axes: "Axes", sas: np.ndarray, sds: np.ndarray, kept: np.ndarray) -> None:
    # Points as pixels inside the SVG: thousands of vector marks make a page slow.
    look: dict[str, Any] = {"s": 9, "linewidths": 0.8, "alpha": 0.85, "rasterized": True}
    axes.scatter(sas[~kept], sds[~kept], c=DROPPED, marker="x", label="dropped", **look)
    axes.scatter(sas[kept], sds[kept], c=KEPT, marker="o", label="kept", **look)
    axes.locator_params(nbins=MAX_TICKS)
    axes.set_xlabel("semantic alignment (SAS)")
    axes.set_ylabel("diversity (SDS)")
    _legend(axes, reverse=True)


def _histogram(axes: "Axes", name: str, values: np.ndarray, kept: np.ndarray) -> None:
    finite = np.isfinite(values)
    if finite.any():
        low, high = float(values[finite].min()), float(values[finite].max())
        if high - low < 1e-6:  # equal up to rounding: there is no room for bins between them
            low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, NUM_BINS + 1)
        total, of_kept = (np.histogram(values[rows], edges)[0] for rows in (finite, finite & kept))
        axes.stairs(total, edges, baseline=of_kept, fill=True, color=DROPPED, label="dropped")
        axes.stairs(of_kept, edges, fill=True, color=KEPT, label="kept")
        _legend(axes, reverse=True)
    else:
        axes.text(0.5, 0.5, "no values", transform=axes.transAxes, horizontalalignment="center")
    axes.locator_params(nbins=MAX_TICKS)
    if name == "margin":
        axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlabel(name)
    axes.set_ylabel("rows")


def _legend(axes: "Axes", reverse: bool = False) -> None:
    # Above the axes, where it hides no data.
    place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0}
    axes.legend(ncols=2, reverse=reverse, columnspacing=1.2, markerscale=1.8, **place)


def can_draw(text: str) -> bool:
    """Whether the font of the figures has signs for all of a text, and there is any."""
    from matplotlib.font_manager import findfont, get_font

    known = get_font(findfont("DejaVu Sans")).get_charmap()
    return bool(text) and all(ord(sign) in known for sign in text)


def _drawable(name: str, otherwise: str) -> str:
    """The name, shortened; something else where the font has no signs for it."""
    if not can_draw(name):
        return otherwise
    return name if len(name) <= MAX_NAME_LENGTH else name[: MAX_NAME_LENGTH - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _render(draw: Callable[["Axes"], None], *, width: float, height: float) -> str:
    from matplotlib import style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with style.context(["default", STYLE]):
        figure = Figure(figsize=(width, height))
        draw(figure.add_subplot())
        buffer = io.BytesIO()
        # No date, or two runs would differ.
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    drawn = buffer.getvalue().decode().replace(INK, "currentColor")
    drawn = drawn.replace("<defs>", f"{INKS}\n<defs>", 1)
    return "data:image/svg+xml;base64," + base64.b64encode(drawn.encode()).decode()

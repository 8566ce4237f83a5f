"""Plots of a sweep as PNG: accuracy and wrong labels against the ratio, accuracy against cost."""

import io
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image as PILImage

from ...runtime.files import write_atomically
from .known_methods import FULL, METHODS, RANDOM
from .sweep import Row
from .sweep_tables import DEFAULT, Summary, describe, summaries


# Okabe and Ito's palette, told apart with every kind of colour blindness, with grey for its yellow, which is faint on
# white; black is for the references.
_PALETTE = ("#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#777777")
CLASS_COLORS = ("#000000", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#777777", "#0072b2")
_DEFAULT_COLOR, _REFERENCE_COLOR = "#0072b2", "#000000"
_MARKERS = ("s", "^", "D", "v", "P", "X", "<")
_FAMILIES = {
    "ours": ("this package", "#0072b2", "o"),
    "importance": ("by importance", "#d55e00", "s"),
    "distribution": ("by distribution", "#009e73", "^"),
    "optimization": ("by optimization, and tools", "#cc79a7", "D"),
    "control": ("controls: our rows, another order", "#e69f00", "P"),
    "ablation": ("with parts left out or replaced", "#56b4e9", "v"),
}
# Of a name beside a point, in shares of the axes.
_NAME_HEIGHT, _NAME_WIDTH, _NAME_OFFSET = 0.035, 0.15, 0.02
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.fontsize": 8,
    "legend.handlelength": 2.6,
    "figure.constrained_layout.use": True,
}
_LONG_NAME = 16
_DPI, _NUM_COLORS = 130, 128
# What falls further below random rows and the default is cut off, or all others would lie on one line.
_ACCURACY_BELOW = 8
_LABELS = {
    "accuracy": "test accuracy, %",
    "noise_share": "wrong labels among the kept rows, %",
    "corrupted_share": "damaged images among the kept rows, %",
}


def write_plots(rows: list[Row], folder: Path) -> list[Path]:
    """Draw a sweep.

    Args:
        rows (`list[dict]`): From [`run_sweep`].
        folder (`Path`): Where the PNG files go; each has the setting and the model in its name.

    Returns:
        `list[Path]`: The files.
    """
    files = []
    groups = summaries(rows)
    several_settings = len({summary.setting for summary in groups}) > 1
    several_kinds = len({summary.of_setting("noise_kind") for summary in groups}) > 1
    several_models = len({summary.model for summary in groups}) > 1
    for summary in groups:
        setting = _setting_suffix(summary, with_kind=several_kinds) if several_settings else ""
        model = f"_{summary.model}" if several_models else ""
        drawings: dict[str, Callable[[Summary], Figure]] = {}
        drawings[f"accuracy{setting}{model}"] = partial(_against_ratio, figure="accuracy")
        drawings[f"cost{setting}{model}"] = _against_cost
        if summary.of_setting("noise_rate"):
            drawings[f"noise_share{setting}"] = partial(_against_ratio, figure="noise_share")
        if summary.of_setting("corruption_rate"):
            drawings[f"corrupted_share{setting}"] = partial(_against_ratio, figure="corrupted_share")
        with style.context(["default", STYLE]):
            files += [save_plot(draw(summary), folder / f"{_plain(name)}.png") for name, draw in drawings.items()]
    return sorted(set(files))


def _setting_suffix(summary: Summary, *, with_kind: bool) -> str:
    noise, corruption = (round(100 * summary.of_setting(name)) for name in ("noise_rate", "corruption_rate"))
    kind = f"_{summary.of_setting('noise_kind')}" if with_kind and noise else ""
    return f"_noise_{noise}{kind}_corruption_{corruption}"


def _against_ratio(summary: Summary, figure: str) -> Figure:
    """A panel for each family; the default, random and all rows are in each."""
    families = {family: _methods_of(summary, family) for family in _FAMILIES}
    families = {family: names for family, names in families.items() if names} or {"ours": []}
    longest = max((len(name) for names in families.values() for name in names), default=0)
    num_columns = 1 if longest > _LONG_NAME else 2  # or the legends of two panels would cover each other
    num_rows = -(-len(families) // num_columns)
    drawn = Figure(figsize=(8, 0.4 + 3.7 * num_rows))
    panels = drawn.subplots(num_rows, num_columns, squeeze=False)
    for axes, (family, names) in zip(panels.flat, families.items(), strict=False):
        if DEFAULT in summary.methods:  # under the others, which it would hide
            _line(
                axes, summary, DEFAULT, figure, color=_DEFAULT_COLOR, marker="o", linewidth=3.5, markersize=7, zorder=1
            )
        _line(axes, summary, RANDOM, figure, color=_REFERENCE_COLOR, marker="x", linestyle=":")
        if figure == "accuracy":
            height = 100 * summary.mean(FULL, 1.0, figure)
            axes.axhline(height, color=_REFERENCE_COLOR, linewidth=1, linestyle="--", label="all rows")
        for name, color, marker in zip(names, cycle(_PALETTE), cycle(_MARKERS), strict=False):
            _line(axes, summary, name, figure, color=color, marker=marker)
        axes.set_title(_FAMILIES[family][0])
        axes.set_xticks([100 * ratio for ratio in summary.ratios])
        axes.set_xlabel("rows kept, %")
        axes.set_ylabel(_LABELS[figure])
        axes.legend(ncols=3, columnspacing=1.0, loc="upper center", bbox_to_anchor=(0.5, -0.17))
    for axes in panels.flat[len(families) :]:
        axes.set_visible(False)
    low, high = _shown_range(summary, figure, summary.ratios)
    for axes in panels.flat:
        axes.set_ylim(low, high)
    title = describe(summary)
    if figure == "accuracy":
        cut = any(
            summary.mean(name, ratio, figure) < low / 100 for name in summary.methods for ratio in summary.ratios
        )
        title += f"; {summary.model}" + ("; the axis is cut, the tables have all" if cut else "")
    drawn.suptitle(title, fontsize=10)
    return drawn


def _methods_of(summary: Summary, family: str) -> list[str]:
    return [name for name in summary.methods if METHODS[name].family == family and name != DEFAULT]


def _shown_range(summary: Summary, figure: str, ratios: Sequence[float]) -> tuple[float, float]:
    """Where the axis of a figure starts and ends."""
    low, high = (
        {
            name: 100
            * pick(
                summary.mean(name, ratio, figure) + sign * _spread(summary, name, ratio, figure) for ratio in ratios
            )
            for name in summary.methods
        }
        for pick, sign in ((min, -1), (max, 1))
    )
    margin = 0.04 * (max(high.values()) - min(low.values())) or 1.0
    if figure != "accuracy":
        return min(low.values()) - margin, max(high.values()) + margin
    shown = min(low[name] for name in (DEFAULT, RANDOM) if name in low) - _ACCURACY_BELOW
    return max(shown, min(low.values()) - margin), min(max(high.values()) + 1, 100.5)


def _spread(summary: Summary, method: str, ratio: float, figure: str) -> float:
    return float(np.nan_to_num(summary.deviation(method, ratio, figure)))


def _line(axes: Axes, summary: Summary, method: str, figure: str, **look: Any) -> None:
    means = [100 * summary.mean(method, ratio, figure) for ratio in summary.ratios]
    deviations = [100 * summary.deviation(method, ratio, figure) for ratio in summary.ratios]
    options: dict[str, Any] = {
        "linewidth": 1.3,
        "markersize": 4.5,
        "capsize": 2,
        "elinewidth": 0.8,
        "label": method,
        **look,
    }
    ratios = [100 * ratio for ratio in summary.ratios]
    axes.errorbar(ratios, means, yerr=None if np.isnan(deviations).all() else deviations, **options)


def _against_cost(summary: Summary) -> Figure:
    """Accuracy against the CPU seconds of a selection, one point a method, at the ratio nearest to three tenths."""
    ratio = min(summary.ratios, key=lambda given: abs(given - 0.3))
    low, high = _shown_range(summary, "accuracy", [ratio])
    drawn = Figure(figsize=(8, 5))
    axes = drawn.add_subplot()
    points, below = [], []
    for method in summary.methods:
        family = METHODS[method].family
        accuracy, deviation = (100 * of(method, ratio, "accuracy") for of in (summary.mean, summary.deviation))
        if family == "reference":
            name, dashes = ("random rows", ":") if method == RANDOM else ("all rows", "--")
            axes.axhline(accuracy, color=_REFERENCE_COLOR, linewidth=1, linestyle=dashes, label=name, zorder=1)
            continue
        seconds = float(np.median(summary.of(method, ratio, "cpu_s")))
        if accuracy < low:
            below.append(f"{method} {accuracy:.0f} ({seconds:.1f} s)")
            continue
        _, color, marker = _FAMILIES[family]
        look: dict[str, Any] = {
            "color": color,
            "marker": marker,
            "markersize": 9 if method == DEFAULT else 6,
            "capsize": 2,
        }
        axes.errorbar(seconds, accuracy, yerr=None if np.isnan(deviation) else deviation, elinewidth=0.8, **look)
        points.append((seconds, accuracy, method))
    for family, (name, color, marker) in _FAMILIES.items():
        if any(METHODS[method].family == family for *_, method in points):
            axes.plot([], [], color=color, marker=marker, linestyle="", label=name)
    axes.set_xscale("log")
    if points:
        fastest, slowest = min(point[0] for point in points), max(point[0] for point in points)
        # Room for a name right of the last point.
        axes.set_xlim(fastest / 1.3, slowest * (1.3 * slowest / fastest) ** _NAME_WIDTH * 1.5)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(low, high)
    _name_points(axes, points)
    if below:
        note = "Below the axis: " + ", ".join(below)
        axes.text(0.01, 0.015, fill(note, 60), transform=axes.transAxes, fontsize=8, color="#444444")
    axes.set_xlabel("CPU time of a selection, seconds (log scale), with encoding and proxy training where needed")
    axes.set_ylabel(f"test accuracy with {100 * ratio:g} % of the rows, %")
    axes.set_title(f"{describe(summary)}; {summary.model}")
    axes.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    return drawn


def _name_points(axes: Axes, points: list[tuple[float, float, str]]) -> None:
    """Names right of their points, moved down until none covers another or a point."""
    low, high = axes.get_ylim()
    gap = _NAME_HEIGHT * (high - low)
    left, right = axes.get_xlim()
    width, offset = (right / left) ** _NAME_WIDTH, (right / left) ** _NAME_OFFSET
    placed: list[tuple[float, float]] = []
    for seconds, accuracy, method in sorted(points, key=lambda point: -point[1]):
        names = [other for near, other in placed if 1 / width < near / seconds < width]
        covered = [other for at, other, name in points if 1 < at / seconds < offset * width and name != method]
        height = accuracy
        while taken := [other for other in names + covered if abs(other - height) < gap]:
            height = min(taken) - 1.001 * gap
        placed.append((seconds, height))
        axes.annotate(
            method,
            (seconds, accuracy),
            (offset * seconds, height),
            fontsize=8,
            verticalalignment="center",
            fontweight="bold" if method == DEFAULT else "normal",
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": "#777777", "shrinkA": 0, "shrinkB": 2},
        )


def _plain(name: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "_-" else "_" for sign in name)


def save_plot(drawn: Figure, path: Path) -> Path:
    """Write a PNG of 1,040 pixels a full width.

    Args:
        drawn (`Figure`): 8 inches wide.
        path (`Path`): The file.

    Returns:
        `Path`: The same.
    """
    canvas = FigureCanvasAgg(drawn)
    drawn.set_dpi(_DPI)
    canvas.draw()
    buffer = io.BytesIO()
    # Few colours are a third of the bytes, and nobody sees it.
    image = (
        PILImage.fromarray(np.asarray(canvas.buffer_rgba()))
        .convert("RGB")
        .quantize(_NUM_COLORS, dither=PILImage.Dither.NONE)
    )
    image.save(buffer, format="PNG", optimize=True)
    write_atomically(path, buffer.getvalue())
    return path

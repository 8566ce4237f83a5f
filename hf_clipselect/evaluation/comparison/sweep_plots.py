"""Plots of a sweep as PNG: accuracy and wrong labels against the ratio, accuracy against the share of damaged images,
against what selecting costs, and against the time to select and train.
"""

import io
from collections.abc import Callable, Mapping, Sequence
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
from .sweep_tables import DEFAULT, TRAIN_SECONDS, Summary, describe, summaries


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
    "ablation": ("the paper's loop; parts left out or replaced", "#56b4e9", "v"),
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
# From so many characters on two names, and then one, fill the width of half a plot.
_LONG_NAME, _LONGEST_NAME = 16, 22
_DPI, _NUM_COLORS = 130, 128
# What falls further below random rows and the default is cut off, or all others would lie on one line.
_ACCURACY_BELOW = 8
_LABELS = {
    "accuracy": "test accuracy, %",
    "noise_share": "wrong labels among the kept rows, %",
    "corrupted_share": "damaged images among the kept rows, %",
}

# Where on the x axis, the mean and its standard deviation in percent, which is NaN for one seed.
Point = tuple[float, float, float]


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
        if TRAIN_SECONDS in summary.figures:
            drawings[f"time{setting}{model}"] = _against_time
        if summary.of_setting("noise_rate"):
            drawings[f"noise_share{setting}"] = partial(_against_ratio, figure="noise_share")
        if summary.of_setting("corruption_rate"):
            drawings[f"corrupted_share{setting}"] = partial(_against_ratio, figure="corrupted_share")
        with style.context(["default", STYLE]):
            files += [save_plot(draw(summary), folder / f"{_plain(name)}.png") for name, draw in drawings.items()]
    for same in _but_for_corruption(groups):
        noise = _noise_suffix(same[0], with_kind=several_kinds) if several_settings else ""
        model = f"_{same[0].model}" if several_models else ""
        for ratio in same[0].ratios:
            name = _plain(f"corruption_at_{100 * ratio:g}{noise}{model}")
            with style.context(["default", STYLE]):
                files.append(save_plot(_against_corruption(same, ratio), folder / f"{name}.png"))
    return sorted(set(files))


def _but_for_corruption(groups: Sequence[Summary]) -> list[list[Summary]]:
    """Summaries that differ in the share of damaged images alone, where there are several, rising."""
    found: dict[tuple[Any, ...], list[Summary]] = {}
    for summary in groups:
        others = [summary.of_setting(name) for name in ("data", "noise_kind", "noise_rate", "corruption_severity")]
        found.setdefault((*others, summary.model), []).append(summary)
    several = [of_rates for of_rates in found.values() if len(of_rates) > 1]
    return [sorted(of_rates, key=lambda summary: summary.of_setting("corruption_rate")) for of_rates in several]


def _setting_suffix(summary: Summary, *, with_kind: bool) -> str:
    corruption = round(100 * summary.of_setting("corruption_rate"))
    return f"{_noise_suffix(summary, with_kind=with_kind)}_corruption_{corruption}"


def _noise_suffix(summary: Summary, *, with_kind: bool) -> str:
    noise = round(100 * summary.of_setting("noise_rate"))
    kind = f"_{summary.of_setting('noise_kind')}" if with_kind and noise else ""
    return f"_noise_{noise}{kind}"


def _against_ratio(summary: Summary, figure: str) -> Figure:
    methods = summary.methods if figure == "accuracy" else summary.competitors
    points = {
        name: [(100 * ratio, *_percent(summary, name, ratio, figure)) for ratio in summary.ratios] for name in methods
    }
    title = f"{describe(summary)}; {summary.model}" if figure == "accuracy" else describe(summary)
    labels = ("rows kept, %", _LABELS[figure])
    return _by_family(points, title, labels, _shown_range(points, figure), [100 * ratio for ratio in summary.ratios])


def _against_corruption(same: Sequence[Summary], ratio: float) -> Figure:
    """Figure 5 of the paper: summaries that differ in the share of damaged images alone."""
    rates = [100 * summary.of_setting("corruption_rate") for summary in same]
    points = {
        name: [(rate, *_percent(summary, name, ratio, "accuracy")) for rate, summary in zip(rates, same, strict=True)]
        for name in same[0].methods
    }
    title = f"{describe(same[0], corruption_rate=0.0)}; {same[0].model}"
    labels = ("damaged images, %", f"test accuracy with {100 * ratio:g} % of the rows, %")
    return _by_family(points, title, labels, _shown_range(points, "accuracy"), rates)


def _against_time(summary: Summary) -> Figure:
    """Figure 10 of the paper: a line for each method over the ratios."""
    points = {}
    for name in summary.methods:
        ratios = [1.0] if name == FULL else summary.ratios
        # All rows are selected in no time.
        seconds = [sum(summary.mean(name, ratio, figure) for figure in ("wall_s", TRAIN_SECONDS)) for ratio in ratios]
        points[name] = [
            (time, *_percent(summary, name, ratio, "accuracy")) for time, ratio in zip(seconds, ratios, strict=True)
        ]
    title = f"{describe(summary)}; {summary.model}; a point for each share of the rows"
    labels = ("time to select (all shares at once) and to train, s", _LABELS["accuracy"])
    return _by_family(points, title, labels, _shown_range(points, "accuracy"), None)


def _percent(summary: Summary, method: str, ratio: float, figure: str) -> tuple[float, float]:
    return 100 * summary.mean(method, ratio, figure), 100 * summary.deviation(method, ratio, figure)


def _by_family(
    points: Mapping[str, Sequence[Point]],
    title: str,
    labels: tuple[str, str],
    limits: tuple[float, float],
    ticks: Sequence[float] | None,
) -> Figure:
    """A panel for each family of methods; the default, random and all rows are in each."""
    families = {
        family: [name for name in points if METHODS[name].family == family and name != DEFAULT] for family in _FAMILIES
    }
    families = {family: names for family, names in families.items() if names} or {"ours": []}
    longest = max((len(name) for names in families.values() for name in names), default=0)
    num_columns = 1 if longest > _LONGEST_NAME else 2  # or the legends of two panels would cover each other
    num_names = 2 if longest > _LONG_NAME and num_columns == 2 else 3
    num_rows = -(-len(families) // num_columns)
    drawn = Figure(figsize=(8, 0.4 + 3.7 * num_rows))
    panels = drawn.subplots(num_rows, num_columns, squeeze=False)
    for axes, (family, names) in zip(panels.flat, families.items(), strict=False):
        if DEFAULT in points:  # under the others, which it would hide
            look: dict[str, Any] = {"color": _DEFAULT_COLOR, "marker": "o", "markersize": 7, "linewidth": 3.5}
            _line(axes, points[DEFAULT], label=DEFAULT, zorder=1, **look)
        _line(axes, points[RANDOM], label=RANDOM, color=_REFERENCE_COLOR, marker="x", linestyle=":")
        if FULL in points:
            marker = "*" if len(points[FULL]) == 1 else ""
            heights = [(x, mean, float("nan")) for x, mean, _ in points[FULL]]
            look = {"color": _REFERENCE_COLOR, "marker": marker, "markersize": 9, "linewidth": 1, "linestyle": "--"}
            _line(axes, heights, label="all rows", **look)
        for name, color, marker in zip(names, cycle(_PALETTE), cycle(_MARKERS), strict=False):
            _line(axes, points[name], label=name, color=color, marker=marker)
        axes.set_title(_FAMILIES[family][0])
        if ticks is not None:
            axes.set_xticks(ticks)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.set_ylim(limits)
        axes.legend(ncols=num_names, columnspacing=1.0, loc="upper center", bbox_to_anchor=(0.5, -0.17))
    for axes in panels.flat[len(families) :]:
        axes.set_visible(False)
    is_cut = any(mean < limits[0] for of_method in points.values() for _, mean, _ in of_method)
    drawn.suptitle(fill(title + ("; the axis is cut, the tables have all" if is_cut else ""), 110), fontsize=10)
    return drawn


def _shown_range(points: Mapping[str, Sequence[Point]], figure: str) -> tuple[float, float]:
    """Where the axis of a figure starts and ends."""
    low, high = (
        {
            name: pick(mean + sign * float(np.nan_to_num(deviation)) for _, mean, deviation in of_method)
            for name, of_method in points.items()
        }
        for pick, sign in ((min, -1), (max, 1))
    )
    margin = 0.04 * (max(high.values()) - min(low.values())) or 1.0
    if figure != "accuracy":
        return min(low.values()) - margin, max(high.values()) + margin
    shown = min(low[name] for name in (DEFAULT, RANDOM) if name in low) - _ACCURACY_BELOW
    return max(shown, min(low.values()) - margin), min(max(high.values()) + 1, 100.5)


def _line(axes: Axes, points: Sequence[Point], **look: Any) -> None:
    xs, means, deviations = (list(values) for values in zip(*points, strict=True))
    options: dict[str, Any] = {"linewidth": 1.3, "markersize": 4.5, "capsize": 2, "elinewidth": 0.8, **look}
    axes.errorbar(xs, means, yerr=None if np.isnan(deviations).all() else deviations, **options)


def _against_cost(summary: Summary) -> Figure:
    """Accuracy against the CPU seconds of a selection, one point a method, at the ratio nearest to three tenths."""
    ratio = min(summary.ratios, key=lambda given: abs(given - 0.3))
    shown = {name: [(ratio, *_percent(summary, name, ratio, "accuracy"))] for name in summary.methods}
    low, high = _shown_range(shown, "accuracy")
    drawn = Figure(figsize=(8, 5))
    axes = drawn.add_subplot()
    points, below = [], []
    for method in summary.methods:
        family = METHODS[method].family
        [(_, accuracy, deviation)] = shown[method]
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
    canvas.draw()  # the first one's layout may change the ticks, for which only the second makes room
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

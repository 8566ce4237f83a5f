"""Results of a sweep as files: every run, means and standard deviations, and tables in Markdown."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...runtime.files import write_atomically, write_text_atomically
from ...selection.objective import DEFAULT_PRESET
from .figure_files import csv_of, lines_of_csv, parquet_of
from .known_methods import FULL, METHODS
from .paired_tests import LEVEL, holm, paired_p_values, separated_best
from .setting import Damage, describe_setting
from .sweep import Row


# What tells one setting from another, and within it one line of a summary from another.
SETTING = ("data", "noise_kind", "noise_rate", "corruption_rate", "corruption_severity")
LINE = ("method", "selection_ratio", "model")
FIGURES = (
    "accuracy",
    "num_kept",
    "noise_share",
    "noise_kept",
    "noise_auroc",
    "corrupted_share",
    "class_max_min",
    "class_entropy",
    "wall_s",
    "cpu_s",
    "peak_mb",
)
# Seconds of a training, and of images its accuracy on further test sets and within five classes.
TRAIN_SECONDS, _FURTHER, _TOP_5 = "train_seconds", "accuracy_", "top_5_accuracy"
# Texts of a row: a method's settings with its proxy, and where they come from. Files of earlier versions lack them.
_SETTINGS, _SETTINGS_FROM = "settings", "settings_from"
_PROXY = re.compile(r"(?:^|, )proxy=")
DEFAULT = DEFAULT_PRESET
RESULTS_CSV = "results.csv"
_FLAGGING = "cleanlab_issues"
# Differences of means below this are rounding.
_ROUNDING = 1e-9
_MOST_NAMED = 10


@dataclass(frozen=True)
class Summary:
    """Figures of a setting over its seeds.

    Args:
        setting (`tuple`): Values of `SETTING`.
        model (`str`): What was trained.
        methods (`list[str]`), ratios (`list[float]`): In their order, without all rows and the ratio 1.
        seeds (`list[int]`): Rising.
        figures (`list[str]`): `FIGURES`, and what else was recorded of the trainings.
        values (`dict`): (method, ratio, figure) -> the values of the seeds, in their order.
        settings (`dict`): (method, ratio) -> the method's settings in words, and where they come from.
        num_test_rows (`int`, *optional*): None where it is not recorded.
    """

    setting: tuple[Any, ...]
    model: str
    methods: list[str]
    ratios: list[float]
    seeds: list[int]
    figures: list[str]
    values: dict[tuple[str, float, str], np.ndarray]
    settings: dict[tuple[str, float], tuple[str, str]]
    num_test_rows: int | None

    @property
    def competitors(self) -> list[str]:
        """All methods but all rows, which are a reference."""
        return [name for name in self.methods if name != FULL]

    def mean(self, method: str, ratio: float, figure: str) -> float:
        """Mean over the seeds; of all rows the ratio does not matter."""
        return float(np.mean(self.of(method, ratio, figure)))

    def deviation(self, method: str, ratio: float, figure: str) -> float:
        """Standard deviation over the seeds, with n - 1; NaN for one seed."""
        values = self.of(method, ratio, figure)
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")

    def of(self, method: str, ratio: float, figure: str) -> np.ndarray:
        """Values of the seeds."""
        return self.values[method, 1.0 if method == FULL else ratio, figure]

    def of_competitors(self, ratio: float, figure: str) -> np.ndarray:
        """Values of all competitors, `(methods, seeds)`."""
        return np.stack([self.of(name, ratio, figure) for name in self.competitors])

    def of_setting(self, name: str) -> Any:
        """One value of `SETTING`."""
        return self.setting[SETTING.index(name)]


def summaries(rows: Sequence[Row]) -> list[Summary]:
    """Group the rows of a sweep.

    Args:
        rows (`Sequence[dict]`): From [`run_sweep`].

    Returns:
        `list[Summary]`: One for each setting and model, in their order.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((*(row[name] for name in SETTING), row["model"]), []).append(row)
    return [_summary(key, group) for key, group in groups.items()]


def write_tables(rows: Sequence[Row], folder: Path, *, origin: str) -> None:
    """Write results.parquet, results.csv, summary.csv and tables.md.

    Args:
        rows (`Sequence[dict]`): From [`run_sweep`].
        folder (`Path`): Where to.
        origin (`str`): The command and the version behind the figures, for the head of tables.md.
    """
    table = pa.Table.from_pylist(list(rows))
    for name, content in (
        ("results.parquet", parquet_of(table)),
        (RESULTS_CSV, csv_of(table)),
        ("summary.csv", csv_of(pa.Table.from_pylist(list(_summary_lines(summaries(rows)))))),
    ):
        write_atomically(folder / name, content)
    write_text_atomically(folder / "tables.md", f"{origin}\n\n{markdown(rows)}")


def read_rows(path: Path) -> list[Row]:
    """The rows of a sweep from its results.csv.

    Args:
        path (`Path`): The file.

    Returns:
        `list[dict]`: As [`run_sweep`] gave them. Where a file of an earlier version lacks the columns, `settings` is
            "", `settings_from` is "-" and `train_seconds` is NaN.
    """
    added = {_SETTINGS: "", _SETTINGS_FROM: "-", TRAIN_SECONDS: float("nan")}
    return [{**added, **row} for row in lines_of_csv(path)]


def markdown(rows: Sequence[Row]) -> str:
    """The tables of a sweep.

    Args:
        rows (`Sequence[dict]`): From [`run_sweep`].

    Returns:
        `str`: Markdown, with a heading for each setting; before them the accuracies of all, where there are several.
    """
    groups = summaries(rows)
    settings: dict[tuple[Any, ...], list[Summary]] = {}
    for summary in groups:
        settings.setdefault(summary.setting, []).append(summary)
    parts = [_markdown_of(models) for models in settings.values()]
    return "\n".join([_side_by_side(groups), *parts] if len(settings) > 1 else parts)


def _side_by_side(groups: Sequence[Summary]) -> str:
    """Accuracies of each model in all settings; what is bold is so in its own setting."""
    parts = [f"## {groups[0].of_setting('data')}, all settings\n"]
    for model in dict.fromkeys(summary.model for summary in groups):
        of_model = [summary for summary in groups if summary.model == model]
        columns: list[str] = []
        lines: dict[str, list[str]] = {}
        for summary in of_model:
            words = describe(summary).removeprefix(f"{summary.of_setting('data')}, ")
            columns += [f"{words}, {ratio:g}" for ratio in summary.ratios]
            for line in _by_ratio(summary, "accuracy", highest=True).splitlines()[2:]:
                method, *cells = line.strip("| ").split(" | ")
                lines.setdefault(method, []).extend(cells)
        parts.append(f"Test accuracy in all settings, {model}, %:\n")
        parts.append(f"| method | {' | '.join(columns)} |\n" + "|---" * (1 + len(columns)) + "|")
        parts.append("\n".join(f"| {method} | {' | '.join(cells)} |" for method, cells in lines.items()) + "\n")
    return "\n".join(parts)


def _markdown_of(models: Sequence[Summary]) -> str:
    """One setting; what is kept is the same whatever is trained on it."""
    first = models[0]
    parts = [f"## {describe(first)}\n", _what_it_is_of(first)]
    for summary in models:
        parts += [f"Test accuracy, {summary.model}, %:\n", _by_ratio(summary, "accuracy", highest=True)]
        parts += [_settings(summary)] if summary.settings else []
        parts += [_against_default(summary), _against_all_rows(summary)] if DEFAULT in summary.methods else []
        for figure in summary.figures:
            if caption := _further_caption(figure):
                parts += [f"{caption}, {summary.model}, %:\n", _by_ratio(summary, figure, highest=True)]
    if first.of_setting("noise_rate"):
        parts += ["Wrong labels among the kept rows, %:\n", _by_ratio(first, "noise_share", highest=False)]
    if first.of_setting("corruption_rate"):
        parts += ["Damaged images among the kept rows, %:\n", _by_ratio(first, "corrupted_share", highest=False)]
    parts += [
        "Finding wrong labels (AUROC, %; below 50 they are kept first), and the cost of one selection of all "
        "ratios, the median of the seeds; encoding the images and training a proxy are counted for each method that "
        "needs them:\n",
        _costs(first),
    ]
    if _FLAGGING in first.methods:
        parts.append(
            f"Of `{_FLAGGING}` the rows that are not flagged come in random order, which its AUROC counts; cleanlab's "
            "own scores are those of `cleanlab`.\n"
        )
    return "\n".join(parts)


def _what_it_is_of(summary: Summary) -> str:
    """Rows, seeds, and what is bold."""
    num_rows = summary.of(FULL, 1.0, "num_kept")[0]
    rows = f"{num_rows:,} rows to select from"
    rows += f", {summary.num_test_rows:,} test rows" if summary.num_test_rows is not None else ""
    seeds = f"seeds {', '.join(map(str, summary.seeds))}"
    if len(summary.seeds) == 1:
        return f"{rows}; {seeds}. One seed, so that no test tells what is more than chance, and nothing is bold.\n"
    return (
        f"{rows}; {seeds}. Means and standard deviations over the seeds. Bold is the best of a column where a paired "
        "t-test over the seeds, with Holm's correction over the other methods of the column, separates it from the "
        f"second (p < {LEVEL}); all rows are a reference, and compete with none.\n"
    )


def _further_caption(figure: str) -> str | None:
    """Of a table of accuracies beside the first."""
    if figure.startswith(_TOP_5):
        name = figure.removeprefix(_TOP_5).removeprefix("_")
        return "Top-5 test accuracy" + (f" on {name}" if name else "")
    return f"Test accuracy on {figure.removeprefix(_FURTHER)}" if figure.startswith(_FURTHER) else None


def _settings(summary: Summary) -> str:
    """Methods with their settings, by where these come from, and with the proxies that they look at."""
    knobs: dict[str, list[str]] = {}
    proxies: dict[str, list[str]] = {}
    for method in summary.competitors:
        ratios: dict[str, list[str]] = {}
        for ratio in summary.ratios:
            text, source = summary.settings.get((method, ratio), ("", ""))
            told, *proxy = _PROXY.split(text, maxsplit=1)
            if told:
                ratios.setdefault(told, []).append(f"{ratio:g}")
            if proxy and method_name(method) not in proxies.setdefault(proxy[0], []):
                proxies[proxy[0]].append(method_name(method))
        if ratios:
            found = ", ".join(f"{told} at {', '.join(at)}" for told, at in ratios.items())
            knobs.setdefault(source, []).append(f"{method_name(method)}: {found}")
    lines = [f"Settings ({source}): {'; '.join(words)}." for source, words in knobs.items()]
    lines += [f"Proxy of {', '.join(names)}: {proxy}." for proxy, names in proxies.items()]
    return "\n\n".join(lines) + "\n"


def describe(summary: Summary, **changes: Any) -> str:
    """The setting in words, with other values of `SETTING` where some are given."""
    damage: dict[str, Any] = {**dict(zip(SETTING, summary.setting, strict=True)), **changes}
    return describe_setting(damage.pop("data"), Damage(**damage, seed=0))


def _summary(key: tuple[Any, ...], rows: list[Row]) -> Summary:
    figures = [*FIGURES, *(name for name in rows[0] if _further_caption(name))]
    if not np.isnan([row.get(TRAIN_SECONDS, float("nan")) for row in rows]).any():
        figures.append(TRAIN_SECONDS)
    values: dict[tuple[str, float, str], list[float]] = {}
    settings: dict[tuple[str, float], tuple[str, str]] = {}
    # Seeds in one order for all methods, for they are paired.
    for row in sorted(rows, key=lambda row: row["seed"]):
        for figure in figures:
            values.setdefault((row["method"], row["selection_ratio"], figure), []).append(row[figure])
        if text := row.get(_SETTINGS):
            # One for all seeds: it is tuned on others.
            settings[row["method"], row["selection_ratio"]] = text, row[_SETTINGS_FROM]
    present = {row["method"] for row in rows}
    return Summary(
        setting=key[:-1],
        model=key[-1],
        methods=[name for name in METHODS if name in present],
        ratios=sorted({row["selection_ratio"] for row in rows if row["method"] != FULL}),
        seeds=sorted({row["seed"] for row in rows}),
        figures=figures,
        values={name: np.array(of_seeds) for name, of_seeds in values.items()},
        settings=settings,
        num_test_rows=rows[0].get("num_test_rows"),
    )


def _summary_lines(groups: Sequence[Summary]) -> Iterable[Row]:
    for summary in groups:
        for method in summary.methods:
            for ratio in [1.0] if method == FULL else summary.ratios:
                line = dict(zip(SETTING, summary.setting, strict=True))
                line |= {"model": summary.model, "method": method, "selection_ratio": ratio}
                line["num_seeds"] = len(summary.seeds)
                for figure in summary.figures:
                    line[f"{figure}_mean"] = summary.mean(method, ratio, figure)
                    line[f"{figure}_std"] = summary.deviation(method, ratio, figure)
                yield line


def _by_ratio(summary: Summary, figure: str, *, highest: bool) -> str:
    is_accuracy = figure == "accuracy" or _further_caption(figure) is not None
    digits = 1 if is_accuracy else 2
    lines = [
        f"| method | {' | '.join(f'{ratio:g}' for ratio in summary.ratios)} |",
        "|---" * (1 + len(summary.ratios)) + "|",
    ]
    bold = {ratio: separated_best(summary.of_competitors(ratio, figure), highest=highest) for ratio in summary.ratios}
    for place, method in enumerate([*summary.competitors, *([FULL] if is_accuracy else [])]):
        cells = []
        for ratio in summary.ratios:
            text = f"{100 * summary.mean(method, ratio, figure):.{digits}f}"
            text = f"**{text}**" if place == bold[ratio] else text
            cells.append(text + _deviation(summary, method, ratio, figure, digits))
        lines.append(f"| {method_name(method)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _against_default(summary: Summary) -> str:
    names = [name for name in summary.competitors if name != DEFAULT]
    gains = {
        f"at {ratio:g}": np.stack([summary.of(name, ratio, "accuracy") for name in names])
        - summary.of(DEFAULT, ratio, "accuracy")
        for ratio in summary.ratios
    }
    return better_than_default(names, {column: 100 * of_column for column, of_column in gains.items()})


def _against_all_rows(summary: Summary) -> str:
    """The default objective less all rows: what a user who would train on everything gains or loses."""
    parts = []
    for ratio in summary.ratios:
        differences = 100 * (summary.of(DEFAULT, ratio, "accuracy") - summary.of(FULL, ratio, "accuracy"))
        tested = f" (p = {float(paired_p_values(differences)):.2g})" if len(summary.seeds) > 1 else ""
        parts.append(f"{differences.mean():+.2f} at {ratio:g}{tested}")
    return (
        f"`{DEFAULT}` less all rows, in points, each with its own paired t-test, without correction: "
        f"{', '.join(parts)}.\n"
    )


def better_than_default(names: Sequence[str], gains: Mapping[str, np.ndarray]) -> str:
    """Which methods are better than the default objective: by the paired test, and in the mean alone.

    Args:
        names (`Sequence[str]`): M methods, without the default.
        gains (`Mapping[str, np.ndarray]`): Column, as it stands behind a name, such as "at 0.3" -> points above the
            default of the same seed, `(M, S)`.

    Returns:
        `str`: Two paragraphs of Markdown.
    """
    separated: list[tuple[float, str]] = []
    others: list[tuple[float, str]] = []
    for column, of_column in gains.items():
        corrected = holm(paired_p_values(of_column))
        for name, gain, p_value in zip(names, of_column.mean(axis=1), corrected, strict=True):
            if gain > _ROUNDING:
                found = separated if p_value < LEVEL else others
                found.append((float(gain), f"{method_name(name)} {column} (+{gain:.2f})"))
    num = len(names) * len(gains)
    return (
        f"Better than `{DEFAULT}` by the paired test, with Holm's correction over the others of a column, in points: "
        f"{_named(separated, num)}.\n\n"
        f"Better than `{DEFAULT}` in the mean, not separated by the test: {_named(others, num)}.\n"
    )


def _named(found: Sequence[tuple[float, str]], num: int) -> str:
    """The largest first."""
    words = [text for _, text in sorted(found, key=lambda pair: -pair[0])]
    if len(words) <= _MOST_NAMED:
        return ", ".join(words) or "none"
    return f"{len(words)} of {num}, the largest {', '.join(words[:_MOST_NAMED])}"


def _costs(summary: Summary) -> str:
    lines = ["| method | AUROC | wall, s | CPU, s | memory, MB |", "|---|---|---|---|---|"]
    for method in summary.competitors:
        ratio = summary.ratios[0]
        auroc = summary.mean(method, ratio, "noise_auroc")
        spread = _deviation(summary, method, ratio, "noise_auroc", 1)
        detection = "-" if np.isnan(auroc) else f"{100 * auroc:.1f}{spread}"
        cost = [float(np.median(summary.of(method, ratio, figure))) for figure in ("wall_s", "cpu_s", "peak_mb")]
        lines.append(f"| {method_name(method)} | {detection} | {cost[0]:.2f} | {cost[1]:.2f} | {cost[2]:.0f} |")
    return "\n".join(lines) + "\n"


def _deviation(summary: Summary, method: str, ratio: float, figure: str, digits: int) -> str:
    """In percent; nothing for one seed."""
    deviation = summary.deviation(method, ratio, figure)
    return "" if np.isnan(deviation) else f" ± {100 * deviation:.{digits}f}"


def method_name(method: str) -> str:
    """How tables call a method."""
    return {"full": "all rows", "random": "random rows"}.get(method, f"`{method}`")

"""Results of a sweep as files: every run, means and standard deviations, and tables in Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from ...runtime.files import write_atomically, write_text_atomically
from .known_methods import FULL, METHODS
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
DEFAULT = "diverse"
RESULTS_CSV = "results.csv"


@dataclass(frozen=True)
class Summary:
    """Figures of a setting over its seeds.

    Args:
        setting (`tuple`): Values of `SETTING`.
        model (`str`): What was trained.
        methods (`list[str]`), ratios (`list[float]`): In their order, without all rows and the ratio 1.
        num_seeds (`int`): How many.
        values (`dict`): (method, ratio, figure) -> the values of the seeds.
    """

    setting: tuple[Any, ...]
    model: str
    methods: list[str]
    ratios: list[float]
    num_seeds: int
    values: dict[tuple[str, float, str], np.ndarray]

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
        ("results.parquet", _parquet(table)),
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
        `list[dict]`: As [`run_sweep`] gave them.
    """
    # By default the reader takes the NaN of a figure that does not exist for a missing value.
    return pc.read_csv(path, convert_options=pc.ConvertOptions(null_values=[])).to_pylist()


def markdown(rows: Sequence[Row]) -> str:
    """The tables of a sweep.

    Args:
        rows (`Sequence[dict]`): From [`run_sweep`].

    Returns:
        `str`: Markdown, with a heading for each setting.
    """
    settings: dict[tuple[Any, ...], list[Summary]] = {}
    for summary in summaries(rows):
        settings.setdefault(summary.setting, []).append(summary)
    return "\n".join(_markdown_of(models) for models in settings.values())


def _markdown_of(models: Sequence[Summary]) -> str:
    """One setting; what is kept is the same whatever is trained on it."""
    first = models[0]
    seeds = "One seed" if first.num_seeds == 1 else f"Means and standard deviations of {first.num_seeds} seeds"
    parts = [f"## {describe(first)}\n", f"{seeds}; the best of a column is bold.\n"]
    for summary in models:
        parts += [f"Test accuracy, {summary.model}, %:\n", _by_ratio(summary, "accuracy", best=max)]
        parts += [_above_default(summary)] if DEFAULT in summary.methods else []
    if first.of_setting("noise_rate"):
        parts += ["Wrong labels among the kept rows, %:\n", _by_ratio(first, "noise_share", best=min)]
    if first.of_setting("corruption_rate"):
        parts += ["Damaged images among the kept rows, %:\n", _by_ratio(first, "corrupted_share", best=min)]
    parts += [
        "Finding wrong labels (AUROC, %; below 50 they are kept first), and the cost of one selection of all "
        "ratios, the median of the seeds; encoding the images and training a proxy are counted for each method that "
        "needs them:\n",
        _costs(first),
    ]
    return "\n".join(parts)


def describe(summary: Summary) -> str:
    """The setting in words."""
    damage: dict[str, Any] = dict(zip(SETTING, summary.setting, strict=True))
    return describe_setting(damage.pop("data"), Damage(**damage, seed=0))


def _summary(key: tuple[Any, ...], rows: list[Row]) -> Summary:
    values: dict[tuple[str, float, str], list[float]] = {}
    for row in rows:
        for figure in FIGURES:
            values.setdefault((row["method"], row["selection_ratio"], figure), []).append(row[figure])
    present = {row["method"] for row in rows}
    return Summary(
        setting=key[:-1],
        model=key[-1],
        methods=[name for name in METHODS if name in present],
        ratios=sorted({row["selection_ratio"] for row in rows if row["method"] != FULL}),
        num_seeds=len({row["seed"] for row in rows}),
        values={name: np.array(of_seeds) for name, of_seeds in values.items()},
    )


def _summary_lines(groups: Sequence[Summary]) -> Iterable[Row]:
    for summary in groups:
        for method in summary.methods:
            for ratio in [1.0] if method == FULL else summary.ratios:
                line = dict(zip(SETTING, summary.setting, strict=True))
                line |= {"model": summary.model, "method": method, "selection_ratio": ratio}
                line["num_seeds"] = summary.num_seeds
                for figure in FIGURES:
                    line[f"{figure}_mean"] = summary.mean(method, ratio, figure)
                    line[f"{figure}_std"] = summary.deviation(method, ratio, figure)
                yield line


def _by_ratio(summary: Summary, figure: str, *, best: Any) -> str:
    digits = 1 if figure == "accuracy" else 2
    methods = [name for name in summary.methods if name != FULL or figure == "accuracy"]
    lines = [
        f"| method | {' | '.join(f'{ratio:g}' for ratio in summary.ratios)} |",
        "|---" * (1 + len(summary.ratios)) + "|",
    ]
    for method in methods:
        cells = []
        for ratio in summary.ratios:
            means = {name: round(100 * summary.mean(name, ratio, figure), digits) for name in methods if name != FULL}
            text = f"{100 * summary.mean(method, ratio, figure):.{digits}f}"
            text = f"**{text}**" if means.get(method) == best(means.values()) else text
            cells.append(text + _deviation(summary, method, ratio, figure, digits))
        lines.append(f"| {method_name(method)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _above_default(summary: Summary) -> str:
    """Where a method of others beats the default by more than a standard deviation, the larger one of the two."""
    above = []
    for ratio in summary.ratios:
        for method in summary.methods:
            if method == FULL or METHODS[method].family in ("ours", "ablation"):
                continue
            gain = summary.mean(method, ratio, "accuracy") - summary.mean(DEFAULT, ratio, "accuracy")
            deviation = np.nanmax([summary.deviation(name, ratio, "accuracy") for name in (method, DEFAULT)] + [0.0])
            if gain > deviation:
                above.append(f"{method_name(method)} at {ratio:g} (+{100 * gain:.1f})")
    found = ", ".join(above) if above else "none"
    return f"Above `{DEFAULT}` by more than a standard deviation (the larger one of the two): {found}.\n"


def _costs(summary: Summary) -> str:
    lines = ["| method | AUROC | wall, s | CPU, s | memory, MB |", "|---|---|---|---|---|"]
    for method in summary.methods:
        if method == FULL:
            continue
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


def csv_of(table: pa.Table) -> bytes:
    """A table as the content of a CSV file."""
    sink = pa.BufferOutputStream()
    pc.write_csv(table, sink, pc.WriteOptions(quoting_style="needed"))
    return sink.getvalue().to_pybytes()


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()

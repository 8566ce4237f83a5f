"""Several sweeps in one page: how far each method is from the best one, where it is worse than random rows, and how
well the noise model knows the wrong labels.

A cell is a data set, a noise and a ratio. Legend: K cells, M methods, S seeds, G groups of cells.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...errors import InputError
from ...runtime.files import write_atomically, write_text_atomically
from .figure_files import csv_of, lines_of_csv
from .known_methods import FULL, METHODS, RANDOM
from .noise_estimates import JUDGES
from .paired_tests import LEVEL, holm, paired_p_values, separated_best
from .sweep import Row
from .sweep_tables import DEFAULT, better_than_default, method_name


CELL = ("data", "noise_kind", "noise_rate", "selection_ratio")
_ACCURACY_CSV, _NOISE_CSV = "accuracy.csv", "noise.csv"
# What counts as worse than random rows: by more than so many points.
SMALLEST_LOSS = 0.3
_NUM_WORST = 10

Cell = tuple[str, str, float, float]


@dataclass(frozen=True)
class Accuracies:
    """Test accuracies of several sweeps with the same methods and seeds.

    Args:
        cells (`list[tuple]`): Values of `CELL`, K of them.
        methods (`list[str]`): M names, in the order of `METHODS`; all rows are not among them.
        seeds (`list[int]`): S of them.
        values (`np.ndarray` of shape `(K, M, S)`): In percent.
    """

    cells: list[Cell]
    methods: list[str]
    seeds: list[int]
    values: np.ndarray

    @classmethod
    def of_rows(cls, rows: Sequence[Row]) -> "Accuracies":
        """Put the rows of sweeps together.

        Args:
            rows (`Sequence[dict]`): From [`run_sweep`], of one sweep or several; those of the method
                that keeps all rows are left out.

        Returns:
            [`Accuracies`]

        Raises:
            InputError: A cell lacks a method or a seed that another one has, has one twice, or random rows are not
                among the methods.
        """
        rows = [row for row in rows if row["method"] != FULL]
        values = {(*(row[name] for name in CELL), row["method"], row["seed"]): 100 * row["accuracy"] for row in rows}
        cells = list(dict.fromkeys(tuple(row[name] for name in CELL) for row in rows))
        present = {row["method"] for row in rows}
        methods = [name for name in METHODS if name in present]
        seeds = sorted({row["seed"] for row in rows})
        wanted = {(*cell, method, seed) for cell in cells for method in methods for seed in seeds}
        if missing := sorted(wanted - values.keys()):
            raise InputError(
                f"Regret is taken over the same methods and seeds in every cell, and {len(missing)} results are "
                f"missing, first {missing[0]}; give all sweeps the same methods and seeds."
            )
        if len(values) < len(rows):
            raise InputError(
                f"{len(rows)} results are given for {len(values)} cells, methods and seeds; train one model, with one "
                "value of --probe_c, and name each sweep once."
            )
        if RANDOM not in methods:
            raise InputError(f"Methods are compared with {RANDOM} rows, which are not among {', '.join(methods)}.")
        array = [[[values[(*cell, method, seed)] for seed in seeds] for method in methods] for cell in cells]
        return cls(cells, methods, seeds, np.array(array))

    @property
    def regrets(self) -> np.ndarray:
        """Points behind the method with the best mean in the cell, `(K, M, S)`; below 0 where a seed beats it."""
        best = self.values.mean(axis=2).argmax(axis=1)
        return self.values[np.arange(len(self.cells)), best][:, None, :] - self.values

    def gains(self, method: str) -> np.ndarray:
        """Points above random rows of the same seed, `(K, S)`."""
        return self.values[:, self.methods.index(method)] - self.values[:, self.methods.index(RANDOM)]


@dataclass(frozen=True)
class AgainstRandom:
    """A method beside random rows of the same seeds, in every cell.

    Args:
        gains (`np.ndarray` of shape `(K,)`): Mean points above random rows.
        p_values (`np.ndarray` of shape `(K,)`): Of [`paired_p_values`] over seeds.
    """

    gains: np.ndarray
    p_values: np.ndarray

    @property
    def below(self) -> np.ndarray:
        """Cells that are worse by more than `SMALLEST_LOSS` points at `LEVEL`, without correction, `(K,)`."""
        return (self.gains < -SMALLEST_LOSS) & (self.p_values < LEVEL)

    @property
    def below_by_holm(self) -> np.ndarray:
        """Those of them that stay with Holm's correction over all cells, `(K,)`."""
        return (self.gains < -SMALLEST_LOSS) & (holm(self.p_values) < LEVEL)


def against_random(gains: np.ndarray) -> AgainstRandom:
    """Test a method against random rows.

    Args:
        gains (`np.ndarray` of shape `(K, S)`): Points above random rows of the same seed.

    Returns:
        [`AgainstRandom`]
    """
    return AgainstRandom(gains.mean(axis=1), paired_p_values(gains))


def write_regret_tables(rows: Sequence[Row], noise_rows: Sequence[Row], folder: Path, *, origin: str) -> None:
    """Write accuracy.csv, noise.csv and tables.md.

    Args:
        rows (`Sequence[dict]`): Of the sweeps.
        noise_rows (`Sequence[dict]`): Of [`noise_estimates`] on the same settings.
        folder (`Path`): Where to.
        origin (`str`): The command and the version behind the figures, and what they are of: the head of tables.md.

    Raises:
        InputError: The sweeps don't go together, as in [`Accuracies.of_rows`].
    """
    accuracies = Accuracies.of_rows(rows)
    lines = [
        {**dict(zip(CELL, cell, strict=True)), "seed": seed}
        | {method: accuracies.values[k, m, s] for m, method in enumerate(accuracies.methods)}
        for k, cell in enumerate(accuracies.cells)
        for s, seed in enumerate(accuracies.seeds)
    ]
    for name, content in ((_ACCURACY_CSV, lines), (_NOISE_CSV, list(noise_rows))):
        write_atomically(folder / name, csv_of(pa.Table.from_pylist(content)))
    write_text_atomically(folder / "tables.md", f"{origin}\n\n{regret_markdown(accuracies, noise_rows)}")


def read_regrets(folder: Path) -> tuple[Accuracies, list[Row]]:
    """What [`write_regret_tables`] left: the accuracies, and the rows of the noise model.

    Args:
        folder (`Path`): Holds accuracy.csv and noise.csv.

    Returns:
        `tuple[Accuracies, list[dict]]`
    """
    lines, noise_rows = (lines_of_csv(folder / name) for name in (_ACCURACY_CSV, _NOISE_CSV))
    of_rows = [
        {**{name: line[name] for name in (*CELL, "seed")}, "method": method, "accuracy": line[method] / 100}
        for line in lines
        for method in line.keys() - {*CELL, "seed"}
    ]
    return Accuracies.of_rows(of_rows), noise_rows


def regret_markdown(accuracies: Accuracies, noise_rows: Sequence[Row]) -> str:
    """The page of the tables.

    Args:
        accuracies ([`Accuracies`]): Of the sweeps.
        noise_rows (`Sequence[dict]`): Of [`noise_estimates`] on the same settings.

    Returns:
        `str`: Markdown.
    """
    by_set = _groups(accuracies.cells, lambda cell: cell[0])
    by_noise = _groups(accuracies.cells, lambda cell: cell[1] if cell[2] else "no noise")
    everywhere = {"all": list(range(len(accuracies.cells)))}
    num_cells, num_seeds = len(accuracies.cells), len(accuracies.seeds)
    parts = [
        "## Regret\n",
        f"{num_cells} cells (data set x noise x ratio) of {num_seeds} seeds each. Regret is how many points of test "
        "accuracy a method is behind the one with the best mean in the cell; behind ± stands the standard error over "
        "seeds of the mean over cells. Bold is the best of a column where a paired t-test over the seeds, with Holm's "
        f"correction over the other methods of the column, separates it from the second (p < {LEVEL}). Seeds draw "
        "other noise for the same rows, so that bold tells nothing of other data sets.\n",
        "Mean regret by data set, points:\n",
        _regret_table(accuracies, by_set | everywhere),
        *([_against_default(accuracies, by_set | everywhere)] if DEFAULT in accuracies.methods else []),
        "Mean regret by kind of noise, points:\n",
        _regret_table(accuracies, by_noise),
        *([_against_default(accuracies, by_noise)] if DEFAULT in accuracies.methods else []),
        "Mean regret by share of wrong labels, points:\n",
        _regret_table(accuracies, _groups(accuracies.cells, lambda cell: f"{cell[2]:.0%}")),
        "Mean regret by ratio, points:\n",
        _regret_table(accuracies, _groups(accuracies.cells, lambda cell: f"{cell[3]:g}")),
        *([f"Largest regrets of `{DEFAULT}`:\n", _worst_table(accuracies)] if DEFAULT in accuracies.methods else []),
        "## Random rows\n",
        f"Cells where a method is more than {SMALLEST_LOSS} points below random rows of the same seeds with p < "
        f"{LEVEL} in a paired t-test (two-sided), without correction and with Holm's over its {num_cells} cells:\n",
        _random_table(accuracies),
        "## Accuracy\n",
    ]
    for name, cells in by_set.items():
        parts += [f"Test accuracy, {name}, mean over the ratios, %:\n", _accuracy_table(accuracies, cells)]
    parts += [
        "## Share of wrong labels\n",
        "Means over seeds; the error is the mean of |estimated - true| over all settings and seeds of a data set.\n",
        "Estimated share of wrong labels, %:\n",
        _share_table(noise_rows),
        "Mean absolute error of the share, points:\n",
        _share_error_table(noise_rows),
        "## Which labels are wrong\n",
        "AUROC for wrong labels, %, mean over seeds, and the difference of the noise model to the better of the other "
        "two:\n",
        _auroc_table(noise_rows),
    ]
    return "\n".join(parts)


def _groups(cells: Sequence[Any], key: Callable[[Any], str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for place, cell in enumerate(cells):
        groups.setdefault(key(cell), []).append(place)
    return groups


def _regret_table(accuracies: Accuracies, groups: Mapping[str, Sequence[int]]) -> str:
    per_seed = np.stack([accuracies.regrets[list(cells)].mean(axis=0) for cells in groups.values()], axis=1)
    return _table(accuracies.methods, groups, per_seed, highest=False, digits=2, with_errors=True)


def _against_default(accuracies: Accuracies, groups: Mapping[str, Sequence[int]]) -> str:
    names = [name for name in accuracies.methods if name != DEFAULT]
    places = [accuracies.methods.index(name) for name in names]
    gains = accuracies.values[:, places] - accuracies.values[:, [accuracies.methods.index(DEFAULT)]]
    means = {name: gains[list(cells)].mean(axis=0) for name, cells in groups.items()}
    return better_than_default(names, {f"in {name}": of_group for name, of_group in means.items()})


def _worst_table(accuracies: Accuracies) -> str:
    """The cells where the default objective is farthest behind, with the method that is best there."""
    lines = [f"| data | noise | ratio | `{DEFAULT}`, % | best, % | method |", "|---|---|---|---|---|---|"]
    means = accuracies.values.mean(axis=2)
    own = means[:, accuracies.methods.index(DEFAULT)]
    for place in np.argsort(own - means.max(axis=1), kind="stable")[:_NUM_WORST]:
        data, kind, rate, ratio = accuracies.cells[place]
        best = int(means[place].argmax())
        figures = f"{own[place]:.1f} | {means[place, best]:.1f} | {method_name(accuracies.methods[best])}"
        lines.append(f"| {data} | {_noise(kind, rate)} | {ratio:g} | {figures} |")
    return "\n".join(lines) + "\n"


def _accuracy_table(accuracies: Accuracies, cells: Sequence[int]) -> str:
    noises = {
        noise: [cells[place] for place in places]
        for noise, places in _groups([accuracies.cells[k] for k in cells], lambda cell: _noise(*cell[1:3])).items()
    }
    per_seed = np.stack([accuracies.values[places].mean(axis=0) for places in noises.values()], axis=1)
    return _table(accuracies.methods, noises, per_seed, highest=True, digits=1, with_errors=False)


def _noise(kind: str, rate: float) -> str:
    return f"{kind} {rate:.0%}" if rate else "none"


def _table(
    methods: Sequence[str],
    columns: Mapping[str, Any],
    per_seed: np.ndarray,
    *,
    highest: bool,
    digits: int,
    with_errors: bool,
) -> str:
    """Means over seeds of figures `(M, G, S)`, a column for each group."""
    lines = [f"| method | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    means, num_seeds = per_seed.mean(axis=2), per_seed.shape[2]
    errors = per_seed.std(axis=2, ddof=1) / num_seeds**0.5 if with_errors and num_seeds > 1 else None
    bold = [separated_best(per_seed[:, g], highest=highest) for g in range(len(columns))]
    for m, method in enumerate(methods):
        cells = []
        for g in range(len(columns)):
            text = f"{means[m, g]:.{digits}f}"
            text = f"**{text}**" if bold[g] == m else text
            cells.append(text if errors is None else f"{text} ± {errors[m, g]:.{digits}f}")
        lines.append(f"| {method_name(method)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _random_table(accuracies: Accuracies) -> str:
    lines = [
        "| method | mean gain, points | worst cell | points | below | below with Holm |",
        "|---|---|---|---|---|---|",
    ]
    for method in accuracies.methods:
        if method == RANDOM:
            continue
        tested = against_random(accuracies.gains(method))
        worst = int(tested.gains.argmin())
        cell = accuracies.cells[worst]
        figures = (
            f"{tested.gains.mean():+.2f}",
            f"{cell[0]}, {_noise(*cell[1:3])}, {cell[3]:g}",
            f"{tested.gains[worst]:+.2f}",
            f"{tested.below.sum()}",
            f"{tested.below_by_holm.sum()}",
        )
        lines.append(f"| {method_name(method)} | {' | '.join(figures)} |")
    return "\n".join(lines) + "\n"


def _share_table(noise_rows: Sequence[Row]) -> str:
    lines = ["| data | noise | true | noise model | cleanlab |", "|---|---|---|---|---|"]
    for (data, noise), rows in _by_setting(noise_rows).items():
        means = [100 * _mean(rows, name) for name in ("true_share", "share", "cleanlab_share")]
        lines.append(f"| {data} | {noise} | {' | '.join(map(_figure, means))} |")
    return "\n".join(lines) + "\n"


def _share_error_table(noise_rows: Sequence[Row]) -> str:
    lines = ["| data | noise model | cleanlab |", "|---|---|---|"]
    groups = {**_groups(noise_rows, lambda row: row["data"]), "all": list(range(len(noise_rows)))}
    for data, places in groups.items():
        errors = [
            100 * float(np.mean([abs(noise_rows[place][name] - noise_rows[place]["true_share"]) for place in places]))
            for name in ("share", "cleanlab_share")
        ]
        lines.append(f"| {data} | {' | '.join(map(_figure, errors))} |")
    return "\n".join(lines) + "\n"


def _auroc_table(noise_rows: Sequence[Row]) -> str:
    lines = [
        "| data | noise | noise model | CLIP's margin | out-of-fold regression | difference |",
        "|---|---|---|---|---|---|",
    ]
    for (data, noise), rows in _by_setting([row for row in noise_rows if row["noise_rate"]]).items():
        model, *others = (100 * _mean(rows, name) for name in JUDGES)
        figures = [f"{figure:.2f}" for figure in (model, *others)]
        lines.append(f"| {data} | {noise} | {' | '.join(figures)} | {model - max(others):+.2f} |")
    return "\n".join(lines) + "\n"


def _by_setting(noise_rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    settings: dict[tuple[str, str], list[Row]] = {}
    for row in noise_rows:
        settings.setdefault((row["data"], _noise(row["noise_kind"], row["noise_rate"])), []).append(row)
    return settings


def _mean(rows: Sequence[Row], name: str) -> float:
    return float(np.mean([row[name] for row in rows]))


def _figure(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.1f}"

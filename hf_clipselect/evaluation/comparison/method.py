"""What a method of a sweep is.

Legend: N rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np

from ...results.selection_result import SelectionResult
from ...results.subsets import select_from_table
from ...selection import Candidates, Objective, class_quotas, resolve_objective, select_rows, selection_count
from ..cost import Cost
from .setting import Setting


# Steps that are runs of this package, from the images on.
_SCORED = frozenset({"scored", "adapted_scored", "plain_scored"})


@dataclass(frozen=True)
class Selected:
    """What a method keeps.

    Args:
        rows (`dict[float, np.ndarray]`): Ratio -> kept row numbers, int64, rising.
        scores (`np.ndarray` of shape `(N,)`, *optional*): Higher where a label is right; NaN for a row that had no
            chance.
    """

    rows: dict[float, np.ndarray]
    scores: np.ndarray | None


@dataclass(frozen=True)
class Method:
    """A way to select.

    Args:
        name (`str`): In tables and recipes.
        family (`str`): "ours", "importance", "distribution" or "optimization", as section 2 of
            https://huggingface.co/papers/2410.11215 sorts the others, "control", which ours are held against,
            "ablation" or "reference".
        select (`Callable`): A setting and ratios in, [`Selected`] out; with a grid also a value by its name.
        uses (`frozenset[str]`): Of "embeddings", "proxy", "validated_proxy", "scored", "adapted_scored",
            "plain_scored" and "out_of_fold": steps that it shares with other methods and that its cost counts.
        settings (`dict`): Its knobs.
        package (`str`, *optional*): A package that it needs, as it is installed.
        check (`Callable`, *optional*): Refuses a setting and ratios that it can't serve, before anything is computed.
        grid (`tuple[str, tuple]`, *optional*): A knob and the values that it is tuned over, from its paper: for each
            damage, ratio and model the one whose kept rows train best on the settings that a setting is tuned on.
        told (`str`): What tables say of its knobs, such as "cutoff=0.3"; empty where it has none.
        told_from (`str`): Where these come from, such as "its paper".
    """

    name: str
    family: str
    select: Callable[..., Selected]
    uses: frozenset[str] = frozenset()
    settings: dict[str, Any] = field(default_factory=dict)
    package: str | None = None
    check: Callable[[Setting, Sequence[float]], None] | None = None
    grid: tuple[str, tuple[Any, ...]] | None = None
    told: str = ""
    told_from: str = "-"

    def variants(self) -> list["Method"]:
        """The method with each value of its grid; itself where it has none."""
        if self.grid is None:
            return [self]
        knob, values = self.grid
        return [
            replace(
                self,
                grid=None,
                select=partial(self.select, **{knob: value}),
                settings={**self.settings, knob: value},
                told=f"{knob}={value}",
                told_from="tuned",
            )
            for value in values
        ]

    @property
    def needs_proxy(self) -> bool:
        """Whether what it keeps follows from the training of a proxy."""
        return bool(self.uses & {"proxy", "validated_proxy"})

    def columns(self, setting: Setting) -> dict[str, str]:
        """What tables tell of its knobs in a setting.

        Args:
            setting ([`Setting`]): What it selects from.

        Returns:
            `dict[str, str]`: `settings`, its knobs with their values and the proxy that it looks at, empty where there
                is neither; and `settings_from`, where the values come from.
        """
        parts = [self.told] if self.told else []
        if self.needs_proxy:
            parts.append(f"proxy={setting.proxy_name}")
        source = self.told_from
        if source == "tuned":
            source = f"tuned on seeds {', '.join(str(other.seed) for other in setting.tuning)}"
        return {"settings": ", ".join(parts), "settings_from": source}

    def key(self) -> dict[str, Any]:
        """All that decides what it keeps beside the setting, the ratio and the code."""
        return {"method": self.name, **self.settings, "package": self.package and version(self.package)}

    def shared_cost(self, setting: Setting) -> Cost:
        """Of what other methods use too; it is computed here if it is not there. Scores have encoded the images."""
        cost = setting.embeddings.cost if "embeddings" in self.uses and not self.uses & _SCORED else Cost()
        for step in (*sorted(_SCORED), "out_of_fold", "proxy", "validated_proxy"):
            if step in self.uses:
                cost += getattr(setting, step)[1]
        return cost


def selected_by_ours(result: SelectionResult, ratios: Sequence[float]) -> Selected:
    """What a selection of this package keeps, each ratio from its scores alone.

    Among several sizes quotas are held nested, and a ratio that is added to a sweep later must not change the others.

    Args:
        result ([`SelectionResult`]): Of one size.
        ratios (`Sequence[float]`): Fractions of the rows to keep.

    Returns:
        [`Selected`]: With the alignment as its scores.
    """
    alignment = "sas" if result.objective.alignment == "cosine" else result.objective.alignment
    if alignment == "noise_model":
        scores = 1 - np.array(result.scores["label_error_probability"], dtype=np.float64)
    else:
        scores = np.array(result.scores[alignment], dtype=np.float64)
    return Selected({ratio: result.at(ratio).selected for ratio in ratios}, scores)


def with_objective(result: SelectionResult, objective: Objective, ratio: float) -> SelectionResult:
    """What another objective selects from the scores of a run.

    Args:
        result ([`SelectionResult`]): With the columns that the objective needs.
        objective ([`Objective`]): Without a weight of redundancy, which a table alone does not tell.
        ratio (`float`): Fraction of the rows to keep.

    Returns:
        [`SelectionResult`]: Of this size alone.
    """
    scores = select_from_table(result.scores, objective, (ratio,))
    return replace(result, scores=scores, objective=objective, ratios=(ratio,))


def selected_by_objective(setting: Setting, ratios: Sequence[float], *, scored: str, objective: Objective) -> Selected:
    """What an objective selects from the scores of one of the runs of a setting.

    Args:
        setting ([`Setting`]): What is selected from.
        ratios (`Sequence[float]`): Fractions of the rows to keep.
        scored (`str`): The run: "scored", "adapted_scored" or "plain_scored".
        objective ([`Objective`]): As in [`with_objective`].

    Returns:
        [`Selected`]: With the alignment as its scores.
    """
    result: SelectionResult = getattr(setting, scored)[0]
    return selected_by_ours(with_objective(result, objective, ratios[0]), ratios)


def highest(
    setting: Setting, scores: np.ndarray, ratios: Sequence[float], *, class_balance: str | None = None
) -> Selected:
    """The rows of the highest scores, within quotas.

    Args:
        setting ([`Setting`]): What is selected from.
        scores (`np.ndarray` of shape `(N,)`): Finite, higher is kept first.
        ratios (`Sequence[float]`): Fractions of the rows to keep, each as if it were the only one.
        class_balance (`str`, *optional*): The quotas; default those of the setting.

    Returns:
        [`Selected`]: With these scores.
    """
    objective = resolve_objective("clean", {"class_balance": class_balance or setting.class_balance})
    counts = {ratio: selection_count(ratio, setting.num_rows) for ratio in ratios}
    candidates = Candidates(setting.labels)
    rows = {ratio: select_rows(scores, candidates, count, objective) for ratio, count in counts.items()}
    return Selected(rows, scores)


def quota_groups(setting: Setting, ratios: Sequence[float]) -> list[tuple[np.ndarray, dict[float, int]]]:
    """What a method that picks rows picks from, and how many.

    Args:
        setting ([`Setting`]): What is selected from; its quotas hold.
        ratios (`Sequence[float]`): Fractions of the rows to keep, each as if it were the only one.

    Returns:
        `list[tuple]`: Row numbers `(n,)`, int64, rising, with the number of them to keep for each ratio: of each class
            that has rows, or of all rows where there are no quotas.
    """
    counts = {ratio: selection_count(ratio, setting.num_rows) for ratio in ratios}
    if setting.class_balance == "none":
        return [(np.arange(setting.num_rows), counts)]
    quotas = {
        ratio: class_quotas(setting.labels, count, balance=setting.class_balance, num_classes=setting.num_classes)
        for ratio, count in counts.items()
    }
    return [
        (np.flatnonzero(setting.labels == label), {ratio: int(quotas[ratio][label]) for ratio in ratios})
        for label in np.unique(setting.labels)
    ]

"""The methods of a sweep by name: ours, those of other papers, tools that people use, and controls."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ...errors import InputError
from ...selection import Objective, selection_count
from ...selection.objective import PRESETS
from ..baselines import BASELINES, select_baseline
from ..baselines.cg_score import check_cg_memory
from ..baselines.random import random_scores
from ..baselines.registry import EASIEST, HARDEST
from .ablations import ABLATION, ABLATIONS
from .controls import CONTROLS
from .method import Method, Selected, highest, quota_groups, selected_by_objective
from .noise_methods import select_by_ccs
from .peers import (
    check_facility_location_memory,
    check_installed,
    cleanlab_issue_scores,
    cleanlab_scores,
    facility_location_rows,
    is_installed,
)
from .setting import Setting


logger = logging.getLogger(__name__)

_FAMILIES = {
    "importance": ("el2n", "grand", "forgetting", "moso"),
    "distribution": ("herding", "moderate", "ccs", "k_center", "d2_pruning"),
    "optimization": ("prototypes", "cg_score", "glister"),
}
# What the papers set anew for each dataset and ratio, over values such as they search:
# https://huggingface.co/papers/2210.15809, https://huggingface.co/papers/2310.07931 (of which the number of neighbours
# stays at 10) and https://huggingface.co/papers/2206.14486.
_GRIDS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "ccs": ("cutoff", (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)),
    "d2_pruning": ("gamma", (0.0, 0.1, 0.3, 0.6, 1.0)),
    "prototypes": ("keep", (HARDEST, EASIEST)),
}
ALL = "all"
RANDOM, FULL = "random", "full"


def _ours(name: str, objective: Objective, scored: str) -> Method:
    select = partial(selected_by_objective, scored=scored, objective=objective)
    return Method(name, "ours", select, frozenset({scored}), settings=objective.to_dict())


def _papers(preset: str) -> list[Method]:
    """As its paper has it, with adapters always; and the same within the quotas that all others get."""
    within_quotas = replace(PRESETS[preset], class_balance="proportional")
    return [
        _ours(preset, PRESETS[preset], "adapted_scored"),
        _ours(f"{preset}_quotas", within_quotas, "adapted_scored"),
    ]


def _baseline(name: str) -> Method:
    needs = BASELINES[name].needs

    def select(setting: Setting, ratios: Sequence[float], **settings: Any) -> Selected:
        dynamics = setting.proxy[0] if "dynamics" in needs else None
        result = select_baseline(
            name,
            setting.embeddings.images,
            setting.labels,
            selection_ratio=list(ratios),
            class_balance=setting.class_balance,
            seed=setting.seed,
            dynamics=dynamics,
            settings=settings,
            max_gigabytes=setting.max_gigabytes,
        )
        return Selected({ratio: result.at(ratio) for ratio in ratios}, result.scores)

    def check(setting: Setting, ratios: Sequence[float]) -> None:
        if name == "cg_score":
            check_cg_memory(setting.labels, setting.max_gigabytes)

    [family] = [family for family, names in _FAMILIES.items() if name in names]
    uses = {"embeddings", "proxy"} if "dynamics" in needs else {"embeddings"}
    return Method(name, family, select, frozenset(uses), check=check, grid=_GRIDS.get(name))


def _select_glister(setting: Setting, ratios: Sequence[float]) -> Selected:
    """As many rows as the other methods keep, from all but the validation rows."""
    held, others = setting.validation_rows, setting.rows_to_validate
    counts = {ratio: selection_count(ratio, setting.num_rows) for ratio in ratios}
    result = select_baseline(
        "glister",
        setting.embeddings.images[others],
        setting.labels[others],
        selection_count=sorted(set(counts.values())),
        class_balance=setting.class_balance,
        seed=setting.seed,
        dynamics=setting.validated_proxy[0],
        val_labels=setting.clean_labels[held],
    )
    scores = np.full(setting.num_rows, np.nan)
    scores[others] = result.scores
    return Selected({ratio: others[result.at(count)] for ratio, count in counts.items()}, scores)


def _check_glister(setting: Setting, ratios: Sequence[float]) -> None:
    if setting.num_val_rows == 0:
        raise InputError(
            "glister needs validation rows: set --num_val_rows above 0, or leave glister out of --methods."
        )
    most = max(selection_count(ratio, setting.num_rows) for ratio in ratios)
    if most > setting.num_rows - setting.num_val_rows:
        raise InputError(
            f"glister may not keep its {setting.num_val_rows} validation rows, and the ratio {max(ratios)} asks for "
            f"{most} of {setting.num_rows} rows; lower --num_val_rows or the ratio, or leave glister out of --methods."
        )


def _by_scores(name: str, package: str, scores_of: Callable[..., np.ndarray]) -> Method:
    def select(setting: Setting, ratios: Sequence[float]) -> Selected:
        return highest(setting, scores_of(setting.out_of_fold[0], setting.labels, seed=setting.seed), ratios)

    return Method(name, "optimization", select, frozenset({"embeddings", "out_of_fold"}), package=package)


def _select_by_facility_location(setting: Setting, ratios: Sequence[float]) -> Selected:
    """Class by class where there are quotas."""
    groups = quota_groups(setting, ratios)
    kept: dict[float, list[np.ndarray]] = {ratio: [] for ratio in ratios}
    for members, counts in groups:
        if most := max(counts.values()):
            embeds = setting.embeddings.images[members]
            order = members[facility_location_rows(embeds, most, max_gigabytes=setting.max_gigabytes)]
            for ratio, count in counts.items():
                kept[ratio].append(order[:count])
    return Selected({ratio: np.sort(np.concatenate(rows)) for ratio, rows in kept.items()}, None)


def _check_facility_location(setting: Setting, ratios: Sequence[float]) -> None:
    largest = max(len(members) for members, _ in quota_groups(setting, ratios))
    check_facility_location_memory(largest, setting.max_gigabytes)


def _select_at_random(setting: Setting, ratios: Sequence[float]) -> Selected:
    return highest(setting, random_scores(setting.num_rows, seed=setting.seed), ratios)


def _select_all(setting: Setting, ratios: Sequence[float]) -> Selected:
    return Selected({ratio: np.arange(setting.num_rows) for ratio in ratios}, None)


_LIST = [
    *(_ours(name, PRESETS[name], "scored") for name in ("robust", "diverse", "clean")),
    *_papers("released"),
    *_papers("paper"),
    *(_baseline(name) for names in _FAMILIES.values() for name in names if name != "glister"),
    Method(
        "glister", "optimization", _select_glister, frozenset({"embeddings", "validated_proxy"}), check=_check_glister
    ),
    Method(
        "ccs_cutoff",
        "distribution",
        select_by_ccs,
        frozenset({"embeddings", "proxy", "scored"}),
        told="cutoff=the estimated share of wrong labels",
        told_from="the noise model",
    ),
    _by_scores("cleanlab", "cleanlab", cleanlab_scores),
    _by_scores("cleanlab_issues", "cleanlab", cleanlab_issue_scores),
    Method(
        "apricot",
        "optimization",
        _select_by_facility_location,
        frozenset({"embeddings"}),
        package="apricot-select",
        check=_check_facility_location,
    ),
    *CONTROLS,
    *ABLATIONS,
    Method(RANDOM, "reference", _select_at_random),
    # All rows, whatever the ratio.
    Method(FULL, "reference", _select_all),
]
METHODS: dict[str, Method] = {method.name: method for method in _LIST}


def resolve_methods(names: Sequence[str]) -> list[str]:
    """The methods of a sweep, in the order of the tables.

    Args:
        names (`Sequence[str]`): Names in `METHODS`, or "all": every one whose package is installed, without the
            ablations.

    Returns:
        `list[str]`: Without repetition, random and full always among them.

    Raises:
        InputError: A name is unknown, or the package of a method that is named is not installed.
    """
    if unknown := [name for name in names if name not in METHODS and name != ALL]:
        raise InputError(f"There is no method {unknown[0]!r}; choose from {ALL}, {', '.join(METHODS)}.")
    wanted = {RANDOM, FULL, *names}
    for name in METHODS:
        package = METHODS[name].package
        if METHODS[name].family == ABLATION:
            continue
        if package is None or is_installed(package):
            wanted |= {name} if ALL in names else set()
        elif name in names:
            check_installed(name, package)
        elif ALL in names:
            logger.warning(
                '%s is left out: the package %s is not installed (pip install "hf_clipselect[peers]").', name, package
            )
    return [name for name in METHODS if name in wanted]

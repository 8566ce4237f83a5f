"""The paper's figures for what was trained and tested, where it prints some for exactly that."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...data import LabelledImages
from ...data.source import DatasetSource
from ...runtime.hub_ids import hide_paths
from ...selection import Size, config_name, selection_count
from ...selection.objective import PRESETS, Objective
from ..paper_figures import paper_figure
from .eval_sets import EvalSet
from .training_arguments import ClassifierArguments


_SORTED = PRESETS["paper"]
_LOOP = replace(_SORTED, solver="sgd")
# Its networks start from weights that were trained before.
_FINE_TUNED_TABLE = 3


def figures_of_paper(
    arguments: ClassifierArguments,
    train: LabelledImages,
    eval_sets: Sequence[EvalSet],
    selection: Mapping[str, Any] | None,
) -> dict[str, dict[str, Any]]:
    """Look the paper's figures up.

    A figure is given where the dataset on the Hub, the share that was selected from all of it, the objective with all
    of its knobs, whether adapters were kept and the network, with random weights, are those of a table, no row of
    training or test set is left out, and the set that is tested on belongs to the dataset. "Ours" is the objective
    "paper" with the solver "sgd", which holds the ratio by the paper's loss. The schedules of network and adapters may
    be others.

    Args:
        arguments ([`ClassifierArguments`]): The network, and whether rows are left out.
        train ([`LabelledImages`]): The rows that were learned.
        eval_sets (`Sequence[EvalSet]`): The sets that were tested on.
        selection (`dict`, *optional*): What [`read_selection_behind`] gives; `None` where rows were not selected.

    Returns:
        `dict`: For each set that has one, by its name, the `figure` in percent, its `deviation` (or `None`) and the
        number of the `table`.
    """
    if arguments.architecture is None or arguments.pretrained or arguments.max_eval_samples is not None:
        return {}
    method, ratio, source, tolerance = "full", 1.0, train.source, 0.0
    if selection is not None:
        size = _size(arguments, selection["ratios"])
        if not isinstance(size, float):
            return {}
        objective, ratio, source = selection["objective"], size, selection["source"]
        if objective not in (_SORTED, _LOOP) or selection["report"].get("num_rows") != source.num_rows:
            return {}
        method = _method(objective, adapted=selection["report"]["adaptation"]["kept"])
        tolerance = objective.theta * source.num_rows if objective == _LOOP else 0.0
    if source.split != "train" or source.data_dir or source.data_files:
        return {}
    if abs(len(train.labels) - selection_count(ratio, source.num_rows)) > tolerance:
        return {}
    found = {}
    for tested in eval_sets:
        figure = paper_figure(
            dataset_name=source.name, method=method, selection_ratio=ratio, architecture=arguments.architecture
        )
        if figure is not None and figure.table != _FINE_TUNED_TABLE and _belongs(tested.source, source):
            entry = {"figure": figure.figure, "deviation": figure.deviation, "table": figure.table}
            found[hide_paths(tested.name)] = entry
    return found


def _method(objective: Objective, *, adapted: bool) -> str:
    """The name that a sweep has for it."""
    return "paper" + ("" if adapted else "_without_adapters") + ("_loop" if objective == _LOOP else "")


def _size(arguments: ClassifierArguments, sizes: Sequence[Size]) -> Size | None:
    if arguments.selection_ratio is not None:
        return arguments.selection_ratio
    if arguments.dataset_config_name is None:
        return sizes[0]
    return {config_name(size): size for size in sizes}.get(arguments.dataset_config_name)


def _belongs(tested: DatasetSource, source: DatasetSource) -> bool:
    return tested.name == source.name and tested.split in ("test", "validation", "valid")

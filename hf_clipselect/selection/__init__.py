"""From scores to a subset: pure functions of arrays."""

from .counts import Size, check_ratios, check_sizes, column_suffix, config_name, is_count, selection_count
from .distributed import ProcessGroup, distributed_top_k
from .exact import top_k
from .neighbor_graph import NUM_NEAREST, NeighborGraph, class_graph, joined_graph
from .objective import Objective, resolve_objective, selection_scores
from .quotas import class_quotas
from .redundancy import duplicate_groups, redundancy_scores
from .sgd import ConvergenceVerdict, SgdResult, check_convergence, convergence_verdict, sgd_select
from .solve import select_rows, select_subsets


__all__ = [
    "NUM_NEAREST",
    "ConvergenceVerdict",
    "NeighborGraph",
    "Objective",
    "ProcessGroup",
    "SgdResult",
    "Size",
    "check_convergence",
    "check_ratios",
    "check_sizes",
    "class_graph",
    "class_quotas",
    "column_suffix",
    "config_name",
    "convergence_verdict",
    "distributed_top_k",
    "duplicate_groups",
    "is_count",
    "joined_graph",
    "redundancy_scores",
    "resolve_objective",
    "select_rows",
    "select_subsets",
    "selection_count",
    "selection_scores",
    "sgd_select",
    "top_k",
]

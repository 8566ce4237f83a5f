"""From scores to a subset: pure functions of arrays."""

from .counts import Size, check_ratios, check_sizes, column_suffix, config_name, is_count, selection_count
from .exact import top_k
from .neighbor_graph import NUM_NEAREST, NeighborGraph, class_graph, joined_graph
from .objective import Objective, resolve_objective
from .quotas import class_quotas, largest_remainder, quota_weights
from .ranking import FIRST, LAST, MUST_DROP, MUST_KEEP, RowColumns, passes_gate, quantiles_within, selection_scores
from .reasons import NOT_READABLE, reasons
from .redundancy import duplicate_groups, redundancy_scores
from .sgd import sgd_select
from .solve import Candidates, check_candidates, select_rows, select_subsets


__all__ = [
    "FIRST",
    "LAST",
    "MUST_DROP",
    "MUST_KEEP",
    "NOT_READABLE",
    "NUM_NEAREST",
    "Candidates",
    "NeighborGraph",
    "Objective",
    "RowColumns",
    "Size",
    "check_candidates",
    "check_ratios",
    "check_sizes",
    "class_graph",
    "class_quotas",
    "column_suffix",
    "config_name",
    "duplicate_groups",
    "is_count",
    "joined_graph",
    "largest_remainder",
    "passes_gate",
    "quantiles_within",
    "quota_weights",
    "reasons",
    "redundancy_scores",
    "resolve_objective",
    "select_rows",
    "select_subsets",
    "selection_count",
    "selection_scores",
    "sgd_select",
    "top_k",
]

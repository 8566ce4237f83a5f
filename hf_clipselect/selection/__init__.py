"""From scores to a subset: pure functions of arrays."""

from .auto_size import auto_counts
from .counts import (
    AUTO,
    Size,
    check_numbers,
    check_ratios,
    check_sizes,
    column_suffix,
    config_name,
    is_count,
    selection_count,
)
from .exact import top_k
from .neighbor_graph import NUM_NEAREST, NeighborGraph, class_graph, joined_graph
from .objective import Objective, check_captions, resolve_objective
from .quotas import class_quotas, largest_remainder, quota_weights, quotas_of_sizes
from .ranking import FIRST, LAST, MUST_DROP, MUST_KEEP, RowColumns, passes_gate, quantiles_within, selection_scores
from .reasons import NOT_READABLE, reasons
from .redundancy import duplicate_groups, redundancy_scores
from .safe_pool import class_order, safe_pool
from .sgd import sgd_select
from .solve import Candidates, check_size, resolved_count, select_rows, select_subsets


__all__ = [
    "AUTO",
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
    "auto_counts",
    "check_captions",
    "check_numbers",
    "check_ratios",
    "check_size",
    "check_sizes",
    "class_graph",
    "class_order",
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
    "quotas_of_sizes",
    "reasons",
    "redundancy_scores",
    "resolve_objective",
    "resolved_count",
    "safe_pool",
    "select_rows",
    "select_subsets",
    "selection_count",
    "selection_scores",
    "sgd_select",
    "top_k",
]

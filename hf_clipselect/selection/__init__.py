"""From scores to a subset: pure functions of arrays."""

from .counts import Size, check_ratios, check_sizes, column_suffix, config_name, is_count, selection_count
from .distributed import ProcessGroup, distributed_top_k
from .exact import top_k
from .objective import Objective, resolve_objective, selection_scores
from .quotas import class_quotas
from .sgd import ConvergenceVerdict, SgdResult, check_convergence, convergence_verdict, sgd_select
from .solve import select_rows, select_subsets


__all__ = [
    "ConvergenceVerdict",
    "Objective",
    "ProcessGroup",
    "SgdResult",
    "Size",
    "check_convergence",
    "check_ratios",
    "check_sizes",
    "class_quotas",
    "column_suffix",
    "config_name",
    "convergence_verdict",
    "distributed_top_k",
    "is_count",
    "resolve_objective",
    "select_rows",
    "select_subsets",
    "selection_count",
    "selection_scores",
    "sgd_select",
    "top_k",
]

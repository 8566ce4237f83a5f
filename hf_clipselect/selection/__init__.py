"""From scores to a subset: pure functions of arrays."""

from .counts import check_ratios, ratio_name, selection_count
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
    "check_convergence",
    "check_ratios",
    "class_quotas",
    "convergence_verdict",
    "distributed_top_k",
    "ratio_name",
    "resolve_objective",
    "select_rows",
    "select_subsets",
    "selection_count",
    "selection_scores",
    "sgd_select",
    "top_k",
]

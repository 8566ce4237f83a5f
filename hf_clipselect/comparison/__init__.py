"""Methods x ratios x damage x seeds on the same data: what each keeps, what that is worth, and what it costs."""

from .arguments import SweepArguments, parse_arguments
from .methods import METHODS
from .sweep import run_sweep


__all__ = ["METHODS", "SweepArguments", "parse_arguments", "run_sweep"]

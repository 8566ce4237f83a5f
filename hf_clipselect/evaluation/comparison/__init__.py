"""Methods x ratios x damage x seeds on the same data: what each keeps, what that is worth, and what it costs."""

from .methods import METHODS
from .plots import write_plots
from .sweep import run_sweep
from .sweep_arguments import SweepArguments, parse_sweep_arguments
from .tables import write_tables
from .tsne import write_tsne


__all__ = [
    "METHODS",
    "SweepArguments",
    "parse_sweep_arguments",
    "run_sweep",
    "write_plots",
    "write_tables",
    "write_tsne",
]

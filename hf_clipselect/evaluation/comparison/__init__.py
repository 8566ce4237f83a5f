"""Methods x ratios x damage x seeds on the same data: what each keeps, how well that trains, and what it costs."""

from .known_methods import METHODS
from .rekey import rekey_cells
from .sweep import run_sweep
from .sweep_arguments import SweepArguments, parse_sweep_arguments
from .sweep_plots import write_plots
from .sweep_tables import write_tables
from .tsne import write_tsne


__all__ = [
    "METHODS",
    "SweepArguments",
    "parse_sweep_arguments",
    "rekey_cells",
    "run_sweep",
    "write_plots",
    "write_tables",
    "write_tsne",
]

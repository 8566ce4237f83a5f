"""Methods x ratios x damage x seeds on the same data: what each keeps, how well that trains, and what it costs."""

from .known_methods import METHODS
from .noise_estimates import noise_estimates
from .regret_tables import write_regret_tables
from .rekey import rekey_cells
from .sweep import run_sweep, settings_of
from .sweep_arguments import SweepArguments, parse_sweep_arguments
from .sweep_plots import write_plots
from .sweep_tables import write_tables
from .tsne import write_tsne


__all__ = [
    "METHODS",
    "SweepArguments",
    "noise_estimates",
    "parse_sweep_arguments",
    "rekey_cells",
    "run_sweep",
    "settings_of",
    "write_plots",
    "write_regret_tables",
    "write_tables",
    "write_tsne",
]

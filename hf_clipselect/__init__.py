"""Turn a labelled image dataset into a smaller, cleaner one with CLIP.

Importing the package makes its adapters, the method `MLP_ADAPTER`, known to peft.
"""

from importlib.metadata import version

from .adapters.mlp import MlpAdapterConfig
from .adapters.peft_folder import load_adapters
from .errors import InputError
from .pipeline.dataset import select_dataset
from .pipeline.embeddings import select_embeddings
from .results.pruned import load_pruned
from .results.selection_result import SelectionResult
from .scores.alignment import semantic_alignment_score
from .scores.diversity import sample_diversity_score


__version__ = version("hf_clipselect")

__all__ = [
    "InputError",
    "MlpAdapterConfig",
    "SelectionResult",
    "load_adapters",
    "load_pruned",
    "sample_diversity_score",
    "select_dataset",
    "select_embeddings",
    "semantic_alignment_score",
]

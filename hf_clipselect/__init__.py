"""Turn a labelled image dataset into a smaller, cleaner one with CLIP.

Importing the package makes its adapters, the method `MLP_ADAPTER`, known to peft.
"""

from importlib.metadata import version

from .adaptation import load_adapters
from .dataset import select_dataset
from .diversity import sample_diversity_score
from .embeddings import select_embeddings
from .errors import InputError
from .mlp_adapter import MlpAdapterConfig
from .pruned import load_pruned
from .result import SelectionResult
from .scores import semantic_alignment_score


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

"""Turn a labelled image dataset into a smaller, cleaner one with CLIP.

Names are loaded when they are first used: importing the package takes no time. It makes the adapters, the method
`MLP_ADAPTER`, known to peft, as soon as peft is imported.
"""

from importlib import import_module
from threading import RLock
from typing import TYPE_CHECKING, Any

from .runtime.import_hooks import when_imported


if TYPE_CHECKING:
    from .adapters.mlp import MlpAdapterConfig
    from .adapters.peft_folder import load_adapters
    from .errors import InputError
    from .pipeline.dataset import select_dataset
    from .pipeline.embeddings import select_embeddings
    from .results.pruned import load_pruned
    from .results.selection_result import SelectionResult
    from .scores.alignment import semantic_alignment_score
    from .scores.diversity import sample_diversity_score

    __version__: str


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

# Where the names are, as above; a test compares the two.
_MODULES = {
    "InputError": ".errors",
    "MlpAdapterConfig": ".adapters.mlp",
    "SelectionResult": ".results.selection_result",
    "load_adapters": ".adapters.peft_folder",
    "load_pruned": ".results.pruned",
    "sample_diversity_score": ".scores.diversity",
    "select_dataset": ".pipeline.dataset",
    "select_embeddings": ".pipeline.embeddings",
    "semantic_alignment_score": ".scores.alignment",
}

# transformers and peft can't be imported by two threads at once: one would see modules that are only partly there.
_LOADING = RLock()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value = import_module("importlib.metadata").version("hf_clipselect")  # which takes longer than all the rest
    elif name in _MODULES:
        with _LOADING:
            value = getattr(import_module(_MODULES[name], __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


when_imported("peft", lambda: import_module("hf_clipselect.adapters.mlp"))

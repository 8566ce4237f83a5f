"""Adapters on the two projections: training on cached features, keeping, saving, loading."""

from .adapter_files import AdapterFiles, adapter_files_id, fetch_adapter
from .alignment import TextAlignment, align_rows
from .decision import Adaptation, adapt, check_peft_config
from .folds import out_of_fold_alignment
from .given import check_given, fetch_given
from .loading import load_adapters, load_into, save_adapters
from .peft_configs import read_peft_config
from .projections import IdentityProjections, Projections, embed_prompts, embed_rows


__all__ = [
    "Adaptation",
    "AdapterFiles",
    "IdentityProjections",
    "Projections",
    "TextAlignment",
    "adapt",
    "adapter_files_id",
    "align_rows",
    "check_given",
    "check_peft_config",
    "embed_prompts",
    "embed_rows",
    "fetch_adapter",
    "fetch_given",
    "load_adapters",
    "load_into",
    "out_of_fold_alignment",
    "read_peft_config",
    "save_adapters",
]

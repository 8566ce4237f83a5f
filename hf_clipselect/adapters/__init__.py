"""Adapters on the two projections: training on cached features, keeping, saving, loading."""

from peft import PeftConfig, PeftModel

from .adapter_files import AdapterFiles, adapter_files_id, fetch_adapter
from .decision import Adaptation, adapt, check_peft_config
from .out_of_fold import out_of_fold_alignment
from .peft_configs import read_peft_config
from .peft_folder import load_adapters, load_into, save_adapters
from .pretrained import check_given, fetch_given
from .projections import IdentityProjections, Projections, embed_prompts, embed_rows
from .text_alignment import TextAlignment, align_rows


__all__ = [
    "Adaptation",
    "AdapterFiles",
    "IdentityProjections",
    "PeftConfig",
    "PeftModel",
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

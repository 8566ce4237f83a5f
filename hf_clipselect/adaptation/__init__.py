"""Adapters on the two projections: training on cached features, keeping, saving, loading."""

from .decision import Adaptation, adapt, check_peft_config
from .loading import adapter_files_id, load_adapters, load_into, read_peft_config, save_adapters
from .projections import IdentityProjections, project


__all__ = [
    "Adaptation",
    "IdentityProjections",
    "adapt",
    "adapter_files_id",
    "check_peft_config",
    "load_adapters",
    "load_into",
    "project",
    "read_peft_config",
    "save_adapters",
]

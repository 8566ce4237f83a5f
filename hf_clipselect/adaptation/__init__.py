"""Adapters on the two projections: training on cached features, keeping, saving, loading."""

from .decision import Adaptation, adapt
from .loading import load_adapters, load_into, read_peft_config, save_adapters
from .projections import IdentityProjections, project


__all__ = [
    "Adaptation",
    "IdentityProjections",
    "adapt",
    "load_adapters",
    "load_into",
    "project",
    "read_peft_config",
    "save_adapters",
]

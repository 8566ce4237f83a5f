"""From a folder to a Hub repository: cards, access, pushes."""

from .cards import PREVIEW, adapter_card, license_kept, subset_card
from .publish import Destination, check_is_not_source, check_subset_folder, is_subset_file, planned, publish
from .push import CARD, Changes, Pushed, Repository


__all__ = [
    "CARD",
    "PREVIEW",
    "Changes",
    "Destination",
    "Pushed",
    "Repository",
    "adapter_card",
    "check_is_not_source",
    "check_subset_folder",
    "is_subset_file",
    "license_kept",
    "planned",
    "publish",
    "subset_card",
]

"""From a folder to a Hub repository: cards, access, pushes."""

from .cards import PREVIEW, adapter_card, subset_card
from .publish import Destination, check_subset_folder, is_subset_file, publish
from .push import Pushed, Repository


__all__ = [
    "PREVIEW",
    "Destination",
    "Pushed",
    "Repository",
    "adapter_card",
    "check_subset_folder",
    "is_subset_file",
    "publish",
    "subset_card",
]

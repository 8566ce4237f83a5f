"""From a folder to a Hub repository and back: cards, pushes, downloads."""

from .cards import adapter_card, subset_card
from .fetch import fetch_files
from .publish import Destination, publish
from .push import Pushed, Repository


__all__ = ["Destination", "Pushed", "Repository", "adapter_card", "fetch_files", "publish", "subset_card"]

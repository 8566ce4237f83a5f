"""From a folder to a Hub repository: the cards that go with it."""

from .cards import adapter_card, dataset_card


__all__ = ["adapter_card", "dataset_card"]

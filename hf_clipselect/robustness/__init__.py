"""Noise to test a selection with."""

from .label_noise import add_label_noise


__all__ = ["add_label_noise"]

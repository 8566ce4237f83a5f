"""Measures a selection against the plain ways of doing the same work, both sides in one run."""

from .bench import Bench
from .diversity_speed import diversity
from .encoding_speed import encoding
from .machine import PACKAGES, describe_machine
from .noise_speed import noise
from .ratios import HEAD, cells, markdown, table
from .results_memory import results, whole_run_memory
from .scaling import scaling
from .selection_speed import selection
from .training_speed import adapters


MEASUREMENTS = {
    "encoding": encoding,
    "diversity": diversity,
    "noise": noise,
    "selection": selection,
    "adapters": adapters,
    "results": results,
}

__all__ = [
    "HEAD",
    "MEASUREMENTS",
    "PACKAGES",
    "Bench",
    "cells",
    "describe_machine",
    "markdown",
    "scaling",
    "table",
    "whole_run_memory",
]

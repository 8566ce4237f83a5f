"""Measures a selection against the plain ways of doing the same work, both sides in one run."""

from .bench import Bench
from .diversity_speed import diversity
from .earlier_adapters import adapters
from .embedding_speed import embeddings
from .encoding_speed import encoding
from .large_selection import large_selection
from .machine import PACKAGES, describe_machine
from .noise_speed import noise
from .peer_speed import peers
from .pixel_speed import pixels
from .process_speed import processes
from .ratios import HEAD, cells, markdown, table
from .results_memory import results, whole_run_memory
from .scaling import scaling
from .selection_speed import selection
from .tower_speed import captions, tower
from .training_speed import training


MEASUREMENTS = {
    "tower": tower,
    "captions": captions,
    "pixels": pixels,
    "encoding": encoding,
    "diversity": diversity,
    "noise": noise,
    "selection": selection,
    "embeddings": embeddings,
    "adapters": adapters,
    "training": training,
    "large_selection": large_selection,
    "processes": processes,
    "peers": peers,
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

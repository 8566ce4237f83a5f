"""Selections by other papers' methods, to compare with."""

from .dynamics import TrainingDynamics
from .front_door import BaselineResult, select_baseline
from .image_classifier import train_image_classifier
from .probe import train_probe
from .registry import BASELINES, Baseline


__all__ = [
    "BASELINES",
    "Baseline",
    "BaselineResult",
    "TrainingDynamics",
    "select_baseline",
    "train_image_classifier",
    "train_probe",
]

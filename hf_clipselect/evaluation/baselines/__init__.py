"""Selections by other papers' methods, to compare with."""

from .dynamics import TrainingDynamics
from .image_classifier import train_image_classifier
from .probe import train_probe
from .registry import BASELINES, Baseline
from .select_baseline import BaselineResult, select_baseline


__all__ = [
    "BASELINES",
    "Baseline",
    "BaselineResult",
    "TrainingDynamics",
    "select_baseline",
    "train_image_classifier",
    "train_probe",
]

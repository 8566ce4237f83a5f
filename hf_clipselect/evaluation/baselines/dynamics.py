"""Measures of the training rows, recorded while a proxy is trained.

Memory does not grow with the epochs: N numbers for each measure, and the features at two times.

Legend: N rows, C classes, H hidden size (the input of the last layer).
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TrainingDynamics:
    """What the methods that need a training take from it.

    Args:
        error_norms (`np.ndarray` of shape `(N,)`): EL2N after the early epochs, the mean over several runs, float32.
        gradient_norms (`np.ndarray` of shape `(N,)`): GraNd of the last layer, likewise, float32.
        forgetting_events (`np.ndarray` of shape `(N,)`): As [`ForgettingCounter`] counts them, float32.
        moso (`np.ndarray` of shape `(N,)`): MoSo over the checkpoints, float32.
        margins (`np.ndarray` of shape `(N,)`): Logit of the given class less the largest other one, over all epochs,
            as the rows came up in batches, float32: the area under the margin
            (https://huggingface.co/papers/2001.10528), low for wrong labels.
        features (`np.ndarray` of shape `(N, H)`): Input of the last layer at the end of the training, float32.
        early_features (`np.ndarray` of shape `(N, H)`): The same after the early epochs.
        early_head (`np.ndarray` of shape `(C, H + 1)`): Weights of the last layer after the early epochs and, in the
            last column, bias, float32.
        train_accuracy (`float`): Share of the rows that were classified as labelled in the last epoch.
        early_val_features (`np.ndarray` of shape `(num_val_rows, H)`, *optional*): Of validation rows, after the early
            epochs.
    """

    error_norms: np.ndarray
    gradient_norms: np.ndarray
    forgetting_events: np.ndarray
    moso: np.ndarray
    margins: np.ndarray
    features: np.ndarray
    early_features: np.ndarray
    early_head: np.ndarray
    train_accuracy: float
    early_val_features: np.ndarray | None = None

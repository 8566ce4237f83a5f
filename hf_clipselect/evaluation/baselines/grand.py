"""GraNd: how hard a row pulls at a network early in its training.

Paul, Ganguli and Dziugaite, "Deep Learning on a Data Diet: Finding Important Examples Early in Training", NeurIPS
2021, https://huggingface.co/papers/2107.07075.

GraNd_i = E ||grad_w loss(x_i, y_i; w)||_2 at the weights w of a few epochs, E the mean over networks of different
initial weights (ten in the paper). The rows with the largest gradients are kept, so wrong labels are among the first.

Deviation, a usual one: the gradient is that of the last layer alone, whose norm needs no backward pass. Of a cross
entropy on logits W h + b it is the outer product of p - onehot(y) and (h, 1).
"""

import numpy as np
import torch

from .el2n import prediction_errors


def grand_scores(
    probabilities: torch.Tensor | np.ndarray, labels: torch.Tensor | np.ndarray, features: torch.Tensor | np.ndarray
) -> np.ndarray:
    """Norms of the last layer's gradients in one network; the score of the paper is their mean over several.

    Args:
        probabilities (`torch.Tensor` or `np.ndarray` of shape `(num_rows, num_classes)`): Softmax of the network's
            logits.
        labels (`torch.Tensor` or `np.ndarray` of shape `(num_rows,)`): Given classes, integers in `[0, num_classes)`.
        features (`torch.Tensor` or `np.ndarray` of shape `(num_rows, hidden_size)`): Input h of the last layer.

    Returns:
        `np.ndarray` of shape `(num_rows,)`: `||p - onehot(y)|| * sqrt(||h||^2 + 1)`, float32, at least 0, higher is
        kept first.
    """
    inputs = torch.as_tensor(features).square().sum(dim=1).add(1).sqrt()
    return (prediction_errors(probabilities, labels).norm(dim=1) * inputs).float().cpu().numpy()

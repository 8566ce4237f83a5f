"""MoSo: what the training would lose without a row.

Tan, Wu, Du, Chen, Wang, Wang and Qi, "Data Pruning via Moving-one-Sample-out", NeurIPS 2023,
https://huggingface.co/papers/2310.14664.

The change of the least empirical risk when row z is left out is approximated to first order by T / N * E_t[eta_t *
grad L(S \\ z; w_t) . grad l(z; w_t)], E_t the mean over checkpoints of a training of T steps with learning rates
eta_t, L the mean loss of the other rows. Rows whose gradient agrees with that of all the others are kept.

Deviations: the gradients are those of the last layer (the paper takes all weights), written such that it takes the
features about their mean; and one network is trained on all rows, where the paper splits them among several for speed.
The logits are the same. The features of a network share a direction, along which the mean gradient tells only how well
the classes are balanced; rows with wrong labels, whose errors are large, would lead by it.
"""

import numpy as np
import torch

from .el2n import prediction_errors


def mean_gradient(
    probabilities: torch.Tensor | np.ndarray, labels: torch.Tensor | np.ndarray, features: torch.Tensor | np.ndarray
) -> torch.Tensor:
    """Gradient of the mean loss by the last layer's weights and, in the last column, bias.

    Args:
        probabilities, labels, features: As in [`grand_scores`].

    Returns:
        `torch.Tensor` of shape `(num_classes, hidden_size + 1)`: The mean of the outer products of `p - onehot(y)` and
        `(h, 1)`.
    """
    errors, inputs = prediction_errors(probabilities, labels), torch.as_tensor(features)
    return torch.cat([errors.T @ inputs, errors.sum(dim=0)[:, None]], dim=1) / len(errors)


def moso_scores(
    probabilities: torch.Tensor | np.ndarray,
    labels: torch.Tensor | np.ndarray,
    features: torch.Tensor | np.ndarray,
    gradient: torch.Tensor,
    *,
    num_rows: int,
) -> np.ndarray:
    """Product of each row's gradient with that of all other rows, at one checkpoint.

    The score of the paper is the mean of these products over the checkpoints, each times eta_t T / N.

    Args:
        probabilities, labels, features: As in [`grand_scores`], of some of the rows.
        gradient (`torch.Tensor` of shape `(num_classes, hidden_size + 1)`): [`mean_gradient`] of all of them.
        num_rows (`int`): How many they all are, N; at least 2.

    Returns:
        `np.ndarray` of shape `(rows,)`: Products, float32, higher is kept first.
    """
    errors, inputs = prediction_errors(probabilities, labels), torch.as_tensor(features)
    with_mean = (errors * (inputs @ gradient[:, :-1].T + gradient[:, -1])).sum(dim=1)
    own = errors.square().sum(dim=1) * (inputs.square().sum(dim=1) + 1)
    # N times the mean less the own gradient is what the N - 1 others add up to.
    return ((num_rows * with_mean - own) / (num_rows - 1)).float().cpu().numpy()

"""Glister: the rows whose training lowers the loss on validation data.

Killamsetty, Sivasubramanian, Ramakrishnan and Iyer, "GLISTER: Generalization based Data Subset Selection for Efficient
and Robust Learning", AAAI 2021, https://huggingface.co/papers/2012.10630.

S = argmax over |S| = k of LL_V(theta + eta * sum over i in S of grad LL_T(x_i, y_i; theta)): one step on S raises the
log likelihood of the validation data the most. To first order row i adds
eta * grad LL_V(theta_S) . grad LL_T(x_i, y_i; theta), theta_S the weights after the step on what is in S already; rows
are taken in rounds, greedily, and the validation gradient anew after each.

Deviations: theta is the last layer of a proxy after a few epochs on all rows, once (the paper selects anew every 20
epochs of the training that the subset is for), on features about their mean where the method is called by its name; a
round takes a hundredth of all rows whatever the ratio, so that smaller subsets are parts of larger ones; and eta is
not the proxy's learning rate, which for large datasets overshoots in every round, but makes a round one stable step of
gradient descent on its rows: of the length 1 / mean ||(h, 1)||^2 with h the features, a quarter of where such steps
diverge.
"""

import numpy as np
import torch

from ...scores.arrays import row_blocks
from .el2n import prediction_errors
from .moso import mean_gradient


# Rounds that all rows would be taken in.
_NUM_ROUNDS = 100


def glister_rows(
    features: np.ndarray,
    labels: np.ndarray,
    val_features: np.ndarray,
    val_labels: np.ndarray,
    head: np.ndarray,
    count: int,
) -> np.ndarray:
    """Rows in the order in which they are taken.

    Costs `O(N D C)` for each hundredth of the rows that is taken, and memory for the errors of all rows, N x C.

    Args:
        features (`np.ndarray` of shape `(num_rows, hidden_size)`): Input of the last layer, float32.
        labels (`np.ndarray` of shape `(num_rows,)`): Given classes, integers in `[0, num_classes)`.
        val_features (`np.ndarray` of shape `(num_val_rows, hidden_size)`): The same of the validation rows.
        val_labels (`np.ndarray` of shape `(num_val_rows,)`): Their labels.
        head (`np.ndarray` of shape `(num_classes, hidden_size + 1)`): Weights of the last layer and, in the last
            column, bias.
        count (`int`): Rows to take, in `[1, num_rows]`.

    Returns:
        `np.ndarray` of shape `(count,)`: Row numbers, int64, first taken first.
    """
    inputs, targets = torch.from_numpy(features), torch.from_numpy(labels)
    val_inputs, val_targets = torch.from_numpy(val_features), torch.from_numpy(val_labels)
    weights = torch.from_numpy(head)
    errors = prediction_errors(_probabilities(inputs, weights), targets)
    is_open = np.ones(len(features), dtype=bool)
    taken, step = [], torch.zeros_like(weights)
    per_round, num_taken = -(-len(features) // _NUM_ROUNDS), 0
    eta = 1 / (per_round * (np.einsum("nh,nh->", features, features, dtype=np.float64) / len(features) + 1))
    while num_taken < count:
        stepped = weights - eta * step
        gradient = mean_gradient(_probabilities(val_inputs, stepped), val_targets, val_inputs)
        gains = np.empty(len(features), dtype=np.float32)
        for block in row_blocks(len(features), width=max(head.shape)):
            gains[block] = (errors[block] * (inputs[block] @ gradient[:, :-1].T + gradient[:, -1])).sum(dim=1)
        candidates = np.flatnonzero(is_open)
        best = candidates[np.argsort(-gains[candidates], kind="stable")[: min(per_round, count - num_taken)]]
        taken.append(best)
        is_open[best] = False
        num_taken += len(best)
        step[:, :-1] += errors[best].T @ inputs[best]
        step[:, -1] += errors[best].sum(dim=0)
    return np.concatenate(taken)


def _probabilities(inputs: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    return (inputs @ head[:, :-1].T + head[:, -1]).softmax(dim=1)

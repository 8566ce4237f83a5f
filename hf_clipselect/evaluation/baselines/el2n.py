"""EL2N: the error of a network early in its training.

Paul, Ganguli and Dziugaite, "Deep Learning on a Data Diet: Finding Important Examples Early in Training", NeurIPS
2021, https://huggingface.co/papers/2107.07075.

EL2N_i = E ||p(x_i) - onehot(y_i)||_2, with p the softmax of a network after a few epochs and E the mean over networks
of different initial weights (ten in the paper). The rows with the largest errors are kept, so wrong labels are kept
first.
"""

import numpy as np
import torch


def el2n_scores(probabilities: torch.Tensor | np.ndarray, labels: torch.Tensor | np.ndarray) -> np.ndarray:
    """Error norms of one network; the score of the paper is their mean over several.

    Args:
        probabilities (`torch.Tensor` or `np.ndarray` of shape `(num_rows, num_classes)`): Softmax of the network's
            logits.
        labels (`torch.Tensor` or `np.ndarray` of shape `(num_rows,)`): Given classes, integers in `[0, num_classes)`.

    Returns:
        `np.ndarray` of shape `(num_rows,)`: Norms, float32, in [0, sqrt(2)], higher is kept first.
    """
    return prediction_errors(probabilities, labels).norm(dim=1).float().cpu().numpy()


def prediction_errors(probabilities: torch.Tensor | np.ndarray, labels: torch.Tensor | np.ndarray) -> torch.Tensor:
    """`p - onehot(y)`, which is the gradient of the cross entropy by the logits.

    Args:
        probabilities (`torch.Tensor` or `np.ndarray` of shape `(num_rows, num_classes)`): As in [`el2n_scores`].
        labels (`torch.Tensor` or `np.ndarray` of shape `(num_rows,)`): As in [`el2n_scores`].

    Returns:
        `torch.Tensor` of shape `(num_rows, num_classes)`: A new tensor, where the probabilities are.
    """
    errors = torch.as_tensor(probabilities).clone()
    errors[torch.arange(len(errors), device=errors.device), torch.as_tensor(labels, device=errors.device)] -= 1
    return errors

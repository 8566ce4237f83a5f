"""The contrastive loss of the adapters.

Shapes: B rows of the batch, C classes (one prompt each), D embedding dimension.
"""

import torch
from torch.nn import functional

from ..errors import InputError


def info_nce_loss(
    image_embeds: torch.Tensor, text_embeds: torch.Tensor, labels: torch.Tensor, *, temperature: float = 0.1
) -> torch.Tensor:
    """Symmetric in-batch InfoNCE between images and the prompts of their classes.

    The batch is B pairs of an image and its prompt. Rows of one class share their prompt, so they are positives of
    each other: the target is uniform over the positives, and the loss is the mean of their negative log-softmax,
    averaged over both directions. Equal prompts give equal logits, so the B x B logits collapse to one column per
    class present in the batch, weighted by its count: O(B * C) instead of O(B * B). Computed in float32 whatever the
    embeddings are.

    Section 3.1 of https://huggingface.co/papers/2410.11215.

    Args:
        image_embeds (`torch.Tensor` of shape `(batch_size, embed_dim)`): Unit-norm image embeddings.
        text_embeds (`torch.Tensor` of shape `(num_classes, embed_dim)`): Unit-norm prompt embeddings, one per class.
        labels (`torch.LongTensor` of shape `(batch_size,)`): Class of each image, in `[0, num_classes)`.
        temperature (`float`, *optional*, defaults to `0.1`): Divides the cosines; above 0.

    Returns:
        `torch.Tensor`: Scalar float32 loss, lower is better. Where a class has several rows its minimum is above 0,
        since the target is spread over them.

    Raises:
        InputError: The batch is empty, or the temperature is not above 0.
    """
    if not temperature > 0:
        raise InputError(f"temperature must be above 0, got {temperature}.")
    if len(labels) == 0:
        raise InputError("info_nce_loss needs at least one row, got an empty batch.")
    # Only the classes of the batch take part: with 1,000 classes most would be absent.
    classes, own_text, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    return grouped_info_nce(image_embeds, text_embeds[classes], own_text, counts.log(), temperature=temperature)


def grouped_info_nce(
    image_embeds: torch.Tensor,
    text_embeds: torch.Tensor,
    own_text: torch.Tensor,
    log_counts: torch.Tensor,
    *,
    temperature: float,
) -> torch.Tensor:
    """[`info_nce_loss`] of rows whose texts are grouped already, so that no device is waited for.

    `text_embeds` `(c, D)` are those of the c texts that the batch has, `own_text` `(B,)`, int64 in `[0, c)`, the one
    of each row, and `log_counts` `(c,)` the logarithm of how many rows have each.
    """
    logits = image_embeds.float() @ text_embeds.float().T / temperature  # (B, c)
    # The weight of a column counts its prompt's copies in the denominator; a positive itself is one of them.
    image_to_text = functional.cross_entropy(logits + log_counts, own_text) + log_counts[own_text].mean()
    text_to_image = functional.nll_loss(logits.log_softmax(dim=0), own_text)
    return (image_to_text + text_to_image) / 2

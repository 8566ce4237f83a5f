"""The two projections of a dual encoder, as what adapters attach to and what turns cached features into embeddings.

Legend: N rows, T templates, C classes, H and H' hidden sizes of the towers, D embed_dim.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..errors import InputError


_CHUNK_ROWS = 16384


class Projections(nn.Module):
    """Cached features to unit-norm embeddings, through whatever adapters sit on the two projections.

    Args:
        model (`nn.Module`): Holds `visual_projection` and `text_projection`; adapters replace them in place, so this
            module is made anew after adapters were added or removed.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.visual_projection = model.visual_projection
        self.text_projection = model.text_projection

    def forward(self, image_features: torch.Tensor, text_features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`(B, H)` and `(T, C, H')` to unit-norm image_embeds `(B, D)` and text_embeds `(C, D)`, all float32."""
        return self.embed_images(image_features), self.embed_texts(text_features)

    def embed_images(self, image_features: torch.Tensor) -> torch.Tensor:
        return functional.normalize(self.visual_projection(image_features), dim=-1)

    def embed_texts(self, text_features: torch.Tensor) -> torch.Tensor:
        """Several templates are averaged as unit vectors, as CLIP's own prompt ensembles are."""
        embeds = functional.normalize(self.text_projection(text_features), dim=-1)
        return functional.normalize(embeds.mean(dim=0), dim=-1)


class IdentityProjections(nn.Module):
    """Stands in for a dual encoder when embeddings are at hand: two frozen identity projections for adapters to target."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        # Random weights, to be overwritten, would advance the caller's random state.
        self.visual_projection = nn.utils.skip_init(nn.Linear, embed_dim, embed_dim, bias=False)
        self.text_projection = nn.utils.skip_init(nn.Linear, embed_dim, embed_dim, bias=False)
        for projection in (self.visual_projection, self.text_projection):
            nn.init.eye_(projection.weight)
        self.requires_grad_(False)


@torch.inference_mode()
def project(
    model: nn.Module, image_features: np.ndarray, text_features: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Embed all rows and all classes.

    Args:
        model (`nn.Module`): Dual encoder, with or without adapters.
        image_features (`np.ndarray` of shape `(N, H)`), text_features (`torch.Tensor` of shape `(T, C, H')`): As cached.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: Unit-norm image_embeds `(N, D)` and text_embeds `(C, D)`, float32.
    """
    projections = Projections(model)
    device = next(projections.parameters()).device
    images = [
        projections.embed_images(torch.from_numpy(image_features[start : start + _CHUNK_ROWS]).to(device)).cpu()
        for start in range(0, len(image_features), _CHUNK_ROWS)
    ]
    embeds = torch.cat(images).numpy(), projections.embed_texts(text_features.to(device)).cpu().numpy()
    for of, rows in zip(("images", "prompts"), embeds, strict=True):
        # Normalised rows: anything but a length of about 1 is a NaN, or was a vector of zeros.
        bad = np.flatnonzero(~(np.linalg.norm(rows, axis=1) > 0.5))
        if len(bad):
            raise InputError(
                f"{len(bad)} of {len(rows)} {of} get embeddings of zeros or that are not finite. If this is while adapting, "
                "lower --learning_rate or change --peft_config; else the projections of the model are damaged."
            )
    return embeds

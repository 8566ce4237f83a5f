"""The two heads of a dual encoder, in CLIP two projections: they carry the adapters and turn features into embeddings.

Legend: N rows, T templates, C classes, H and H' hidden sizes of the towers, D embed_dim.
"""

import numpy as np
import torch
from peft import PeftModel
from torch import nn

from ..encoder.dual_encoder import Head, of_model
from ..encoder.feature_rows import FeatureRows
from ..errors import InputError
from .mlp import MlpAdapterLayer


_CHUNK_ROWS = 16384


class Projections(nn.Module):
    """Cached features to unit-norm embeddings, through whatever adapters sit on the two heads of a dual encoder.

    Adapters replace the heads in place, so this module has to be made again after adapters were added or removed.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        model = model.get_base_model() if isinstance(model, PeftModel) else model
        kind = of_model(model)
        self.visual_projection = _from_cache(model, kind.image_head)
        self.text_projection = _from_cache(model, kind.text_head)

    def forward(self, image_features: torch.Tensor, text_features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`(B, H)` and `(T, C, H')` to unit-norm image_embeds `(B, D)` and text_embeds `(C, D)`, all float32."""
        return self.embed_images(image_features), self.embed_texts(text_features)

    def embed_images(self, image_features: torch.Tensor) -> torch.Tensor:
        return _unit_rows(self.visual_projection(image_features))

    def embed_texts(self, text_features: torch.Tensor) -> torch.Tensor:
        """Embeddings of several templates are averaged as unit vectors, as in CLIP's own prompt ensembles."""
        embeds = _unit_rows(self.text_projection(text_features))
        return embeds[0] if len(embeds) == 1 else _unit_rows(embeds.mean(dim=0))


def _from_cache(model: nn.Module, head: Head) -> nn.Module:
    module = model.get_submodule(head.name)
    return module if head.cached == "input" else _AfterHead(module)


class _AfterHead(nn.Module):
    """What follows a head whose outputs are cached: the adapters on it, if there are any."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.head.add_residuals(features) if isinstance(self.head, MlpAdapterLayer) else features


class IdentityProjections(nn.Module):
    """Stands in for a dual encoder where embeddings are given: two frozen identity projections for adapters."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        # Drawing weights only to overwrite them would advance the caller's random state.
        self.visual_projection = nn.utils.skip_init(_Identity, embed_dim, embed_dim, bias=False)
        self.text_projection = nn.utils.skip_init(_Identity, embed_dim, embed_dim, bias=False)
        for projection in (self.visual_projection, self.text_projection):
            nn.init.eye_(projection.weight)
        self.requires_grad_(False)


class _Identity(nn.Linear):
    """A linear layer, as PEFT methods expect it, whose weight is the identity: the product would change no digit."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs


@torch.inference_mode()
def embed_rows(projections: Projections, features: FeatureRows, rows: np.ndarray) -> torch.Tensor:
    """Embed the rows with these numbers: `(count, D)`, unit-norm, float32, on the model's device.

    Raises `InputError` where an embedding is zero or not finite.
    """
    device = next(projections.parameters()).device
    chunks = [
        projections.embed_images(torch.from_numpy(features.take(rows[start : start + _CHUNK_ROWS])).to(device))
        for start in range(0, len(rows), _CHUNK_ROWS)
    ]
    return _checked(chunks[0] if len(chunks) == 1 else torch.cat(chunks), "images")


@torch.inference_mode()
def embed_prompts(projections: Projections, text_features: torch.Tensor) -> torch.Tensor:
    """Embed all classes: `(T, C, H')` to `(C, D)`, as [`embed_rows`] embeds rows, with the same errors."""
    device = next(projections.parameters()).device
    return _checked(projections.embed_texts(text_features.to(device)), "prompts")


def _unit_rows(embeds: torch.Tensor) -> torch.Tensor:
    # A row of zeros becomes NaN, which `_checked` refuses; a guard here would take a twentieth of a small step.
    return embeds / torch.linalg.vector_norm(embeds, dim=-1, keepdim=True)


def _checked(embeds: torch.Tensor, of: str) -> torch.Tensor:
    # Of normalised rows only those that were zero or not finite have another length than 1.
    bad = int((~(embeds.norm(dim=1) > 0.5)).sum())
    if bad:
        raise InputError(
            f"{bad} of {len(embeds)} {of} get embeddings of zeros or that are not finite. If this is while adapting, "
            "lower --learning_rate or change --peft_config; else the projections of the model are damaged."
        )
    return embeds

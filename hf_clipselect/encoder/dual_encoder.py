"""The kinds of dual encoders: which modules end their two towers, and how they take text.

Adapters sit on the two heads, the last modules of the towers. A linear head is cheap: its input is cached, and every
PEFT method can adapt it. The head of SigLIP's image tower pools the patches of an image by attention: its input is
large, so its output is cached, and only what follows it, an MLP adapter, can be trained.
"""

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel
from transformers.models.siglip.modeling_siglip import SiglipMultiheadAttentionPoolingHead
from transformers.models.siglip2.modeling_siglip2 import Siglip2MultiheadAttentionPoolingHead


# The kinds that are tested, for error messages.
KNOWN = "CLIP, MetaCLIP 2, Chinese-CLIP, AltCLIP, CLIPSeg, GroupViT, SigLIP, SigLIP 2, vision-text-dual-encoder"


@dataclass(frozen=True)
class Head:
    """The last module of a tower: its name in the model, and whether its `"input"` or its `"output"` is cached."""

    name: str
    cached: str = "input"

    def __str__(self) -> str:
        return f"{self.cached} of {self.name}"


@dataclass(frozen=True)
class DualEncoder:
    """A kind of dual encoder: its two heads, whose outputs are the embeddings, not normalised."""

    image_head: Head
    text_head: Head
    pads_text: bool = False  # it was trained on texts of one length, whose padding is not masked

    @property
    def heads(self) -> tuple[Head, Head]:
        return self.image_head, self.text_head


WITH_PROJECTIONS = DualEncoder(Head("visual_projection"), Head("text_projection"))
_WITH_POOLER = DualEncoder(Head("vision_model.head", "output"), Head("text_model.head"), pads_text=True)
# Its projections are small networks, which end in a linear layer.
_WITH_NETWORKS = DualEncoder(Head("visual_projection.3"), Head("text_projection.3"))
_BY_MODEL_TYPE: dict[str | None, DualEncoder] = {
    "siglip": _WITH_POOLER,
    "siglip2": _WITH_POOLER,
    "groupvit": _WITH_NETWORKS,
}


def of_model(model: nn.Module) -> DualEncoder:
    """The kind of a model of `transformers`; any other module counts as one with two projections."""
    return of_type(model.config.model_type if isinstance(model, PreTrainedModel) else None)


def of_type(model_type: str | None) -> DualEncoder:
    """The kind that a config's `model_type` stands for; most have two projections."""
    return _BY_MODEL_TYPE.get(model_type, WITH_PROJECTIONS)


def output_size(module: nn.Module) -> int:
    """Size of the vectors that a head gives; 0 for a module that can't be a head."""
    if isinstance(module, nn.Linear):
        return module.out_features
    if isinstance(module, SiglipMultiheadAttentionPoolingHead | Siglip2MultiheadAttentionPoolingHead):
        return module.probe.shape[-1]
    return 0

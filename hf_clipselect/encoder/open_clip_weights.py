"""The tensors of a model of OpenCLIP under the names, and in the shapes, of transformers' CLIP or SigLIP.

OpenCLIP keeps the query, key and value of a layer in one tensor, its projections the other way round, and the text
tower at the top or, in later files, under `text.`.
"""

import re
from collections.abc import Mapping

import torch


# What is not needed for embeddings: the bias of logits, which a CLIP does not have, and the numbers and the mask in
# files that were made of OpenAI's.
_UNUSED = frozenset({"input_resolution", "context_length", "vocab_size", "attn_mask"})

# Names at OpenCLIP and at transformers. One that ends in a dot stands for the weight and the bias of a module.
_CLIP = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.": "vision_model.pre_layrnorm.",
    "visual.ln_post.": "vision_model.post_layernorm.",
    "visual.proj": "visual_projection.weight",
    "text_projection": "text_projection.weight",
}
_SIGLIP = {
    "visual.trunk.patch_embed.proj.": "vision_model.embeddings.patch_embedding.",
    "visual.trunk.pos_embed": "vision_model.embeddings.position_embedding.weight",
    "visual.trunk.norm.": "vision_model.post_layernorm.",
    "visual.trunk.attn_pool.latent": "vision_model.head.probe",
    "visual.trunk.attn_pool.qkv.": "vision_model.head.attention.in_proj_",
    "visual.trunk.attn_pool.proj.": "vision_model.head.attention.out_proj.",
    "visual.trunk.attn_pool.norm.": "vision_model.head.layernorm.",
    "visual.trunk.attn_pool.mlp.fc1.": "vision_model.head.mlp.fc1.",
    "visual.trunk.attn_pool.mlp.fc2.": "vision_model.head.mlp.fc2.",
    "text_projection.": "text_model.head.",
    "logit_bias": "logit_bias",
}
_BOTH = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.": "text_model.final_layer_norm.",
    "logit_scale": "logit_scale",
}
_LAYER = re.compile(r"(visual\.transformer|transformer|visual\.trunk)\.(?:resblocks|blocks)\.(\d+)\.(.+)")
# Inside a layer, of OpenCLIP's towers and of timm's; {} is one of q, k and v.
_IN_LAYER = {
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "attn.in_proj_": "self_attn.{}_proj.",
    "attn.out_proj.": "self_attn.out_proj.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
    "norm1.": "layer_norm1.",
    "norm2.": "layer_norm2.",
    "attn.qkv.": "self_attn.{}_proj.",
    "attn.proj.": "self_attn.out_proj.",
    "mlp.fc1.": "mlp.fc1.",
    "mlp.fc2.": "mlp.fc2.",
}


def to_transformers_weights(tensors: Mapping[str, torch.Tensor], *, is_siglip: bool) -> dict[str, torch.Tensor]:
    """The tensors of a file of OpenCLIP as those of a `SiglipModel` or `CLIPModel`, in their dtype.

    Raises `ValueError` with the names of tensors that neither have a place there nor are known to be of no use.
    """
    plain = {name.removeprefix("text."): value for name, value in tensors.items()}
    for kind in ("weight", "bias"):
        parts = [f"visual.trunk.attn_pool.{part}.{kind}" for part in ("q", "kv")]
        if plain.keys() >= set(parts):
            plain[f"visual.trunk.attn_pool.qkv.{kind}"] = torch.cat([plain.pop(part) for part in parts])
    names = {**_BOTH, **(_SIGLIP if is_siglip else _CLIP)}
    unused = _UNUSED if is_siglip else _UNUSED | {"logit_bias"}
    found: dict[str, torch.Tensor] = {}
    unknown = []
    for name, value in plain.items():
        new = _renamed(name, names)
        if new is not None and "{}" in new:
            found |= {new.format(part): tensor.clone() for part, tensor in zip("qkv", value.chunk(3), strict=True)}
        elif new is not None:
            found[new] = _in_shape(new, value, is_siglip=is_siglip)
        elif name not in unused:
            unknown.append(name)
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise ValueError(
            f"its weights hold {', '.join(sorted(unknown)[:5])}{more}, for which a "
            f"{'SigLIP' if is_siglip else 'CLIP'} of transformers has no place."
        )
    return found


def _renamed(name: str, names: Mapping[str, str]) -> str | None:
    if (layer := _LAYER.fullmatch(name)) is None:
        return _by_start(name, names)
    tower, number, inner = layer.groups()
    within = _by_start(inner, _IN_LAYER)
    side = "text_model" if tower == "transformer" else "vision_model"
    return None if within is None else f"{side}.encoder.layers.{number}.{within}"


def _by_start(name: str, names: Mapping[str, str]) -> str | None:
    if name in names:
        return names[name]
    start = next((start for start in names if start[-1] in "._" and name.startswith(start)), None)
    rest = None if start is None else name.removeprefix(start)
    return names[start] + rest if start is not None and rest in ("weight", "bias") else None


def _in_shape(name: str, value: torch.Tensor, *, is_siglip: bool) -> torch.Tensor:
    if is_siglip:
        if name == "vision_model.embeddings.position_embedding.weight":
            return value.flatten(0, -2)  # timm keeps it with a batch of one
        return value.reshape(1) if name in ("logit_scale", "logit_bias") else value
    if name in ("visual_projection.weight", "text_projection.weight"):
        return value.T.contiguous()
    return value.reshape(()) if name == "logit_scale" else value

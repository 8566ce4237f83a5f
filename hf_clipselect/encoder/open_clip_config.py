"""What OpenCLIP's config describes, as a config of transformers: a CLIP, or a SigLIP whose image tower is timm's.

OpenCLIP builds many other models. They are refused by the first setting that neither kind of transformers has.
Settings that are left out have OpenCLIP's defaults.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from transformers import CLIPConfig, SiglipConfig

from ..errors import InputError
from .model_place import OPEN_CLIP_CONFIG


# The image towers of SigLIP in timm: the heads by size, and the names of those with the approximate GELU.
_SIGLIP = re.compile(r"vit_(base|large|so400m|giantopt)_patch\d+_siglip_\d+")
_SIGLIP_HEADS = {"base": 12, "large": 16, "so400m": 16, "giantopt": 16}
_APPROXIMATE = re.compile(
    r"vit_(base_patch32_siglip_256|large_patch16_siglip_512|so400m_patch16_siglip_\d+|giantopt_patch16_siglip_\d+)"
)

# OpenCLIP's default of a setting, and what it must be.
_CLIP_VISION = {"pool_type": ("tok", "tok")}
_SIGLIP_VISION = {"timm_pool": ("avg", "map"), "timm_proj": ("linear", "none")}
_TEXT = {"proj_type": ("linear", "linear")}
_CLIP_TEXT = {
    **_TEXT,
    "no_causal_mask": (False, False),
    "pool_type": ("argmax", "argmax"),
    "proj_bias": (False, False),
}
_SIGLIP_TEXT = {**_TEXT, "no_causal_mask": (False, True), "pool_type": ("argmax", "last"), "proj_bias": (False, True)}
# What is read below, by this module or that of the inputs, and what changes nothing where the rest is as it must be.
_READ = frozenset(
    "embed_dim vision_cfg text_cfg quick_gelu custom_text image_size layers width head_width heads mlp_ratio "
    "patch_size act_kwargs norm_kwargs context_length vocab_size timm_model_name hf_tokenizer_name "
    "tokenizer_kwargs".split()
)
_WITHOUT_EFFECT = frozenset(
    "init_logit_scale init_logit_bias nonscalar_logit_scale output_dict cast_dtype patch_dropout output_tokens "
    "pos_embed_type final_ln_after_pool attn_pooler_queries attn_pooler_heads timm_model_pretrained timm_drop "
    "timm_drop_path pad_id eos_id hf_model_pretrained hf_proj_type hf_pooler_type".split()
)
_NUMBERS = frozenset("embed_dim image_size layers width head_width heads patch_size context_length vocab_size".split())
_MAPPINGS = frozenset({"act_kwargs", "norm_kwargs", "tokenizer_kwargs"})
# Settings of a timm tower, which say nothing where there is none.
_OF_TIMM = frozenset({"timm_pool", "timm_proj", "timm_proj_bias"})


def read_open_clip_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The `model_cfg` of an `open_clip_config.json`, and its `preprocess_cfg`, empty where it is missing.

    Raises `ValueError` for a file that is damaged or has no such parts.
    """
    try:
        content = json.loads(path.read_bytes())
        model, preprocessing = content["model_cfg"], content.get("preprocess_cfg") or {}
        parts = [model, preprocessing, model["vision_cfg"], model["text_cfg"]]
        is_whole = all(isinstance(part, dict) for part in parts) and isinstance(model["embed_dim"], int)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_whole = False
    if not is_whole:
        raise ValueError(
            f"{OPEN_CLIP_CONFIG} is damaged: it must hold model_cfg with embed_dim, vision_cfg and text_cfg."
        )
    return model, preprocessing


def to_transformers_config(
    model: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], what: str
) -> CLIPConfig | SiglipConfig:
    """The config of transformers for a model of OpenCLIP; of SigLIP's image tower the sizes are those of its tensors.

    `model` is what [`read_open_clip_config`] gives. Raises `InputError`, which begins with `what`, naming the first
    setting that transformers has not.
    """
    vision, text = model["vision_cfg"], model["text_cfg"]
    is_siglip = bool(_SIGLIP.fullmatch(_timm_name(vision)))
    if not is_siglip:
        vision = {name: value for name, value in vision.items() if name not in _OF_TIMM or _timm_name(vision)}
    _check("model_cfg", model, {}, what)
    if _timm_name(vision) and not is_siglip:
        _refuse("vision_cfg.timm_model_name", vision["timm_model_name"], what)
    _check("vision_cfg", vision, _SIGLIP_VISION if is_siglip else _CLIP_VISION, what)
    _check("text_cfg", text, _SIGLIP_TEXT if is_siglip else _CLIP_TEXT, what)
    size = vision.get("image_size", 224)
    texts = {
        # The special tokens are the tokenizer's; the defaults of transformers need not be in the vocabulary.
        "bos_token_id": None,
        "pad_token_id": None,
        # With this number transformers pools a CLIP at the highest token, as OpenCLIP does, whatever number that is.
        "eos_token_id": None if is_siglip else 2,
        "vocab_size": text.get("vocab_size", 49408),
        "hidden_size": text.get("width", 512),
        "num_hidden_layers": text.get("layers", 12),
        "num_attention_heads": text.get("heads", 8),
        "intermediate_size": int(text.get("width", 512) * text.get("mlp_ratio", 4.0)),
        "max_position_embeddings": text.get("context_length", 77),
        "hidden_act": _activation(model, "text_cfg", what),
        "layer_norm_eps": _epsilon(model, "text_cfg", what),
    }
    if is_siglip:
        texts["projection_size"] = model["embed_dim"]
        return SiglipConfig(text_config=texts, vision_config=_siglip_vision(vision, size, tensors))
    width = vision.get("width", 768)
    images = {
        "hidden_size": width,
        "num_hidden_layers": vision.get("layers", 12),
        "num_attention_heads": width // vision.get("head_width", 64),
        "intermediate_size": int(width * vision.get("mlp_ratio", 4.0)),
        "image_size": size,
        "patch_size": vision.get("patch_size", 16),
        "hidden_act": _activation(model, "vision_cfg", what),
        "layer_norm_eps": _epsilon(model, "vision_cfg", what),
    }
    return CLIPConfig(text_config=texts, vision_config=images, projection_dim=model["embed_dim"])


def _siglip_vision(vision: Mapping[str, Any], size: int, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    name = _timm_name(vision)
    blocks = "visual.trunk.blocks."
    try:
        patches = tensors["visual.trunk.patch_embed.proj.weight"]
        inner = tensors[f"{blocks}0.mlp.fc1.weight"]
    except KeyError as error:
        raise ValueError(f"its weights lack {error.args[0]}.") from None
    layers = {key.removeprefix(blocks).partition(".")[0] for key in tensors if key.startswith(blocks)}
    return {
        "hidden_size": patches.shape[0],
        "num_hidden_layers": len(layers),
        "num_attention_heads": _SIGLIP_HEADS[name.split("_")[1]],
        "intermediate_size": inner.shape[0],
        "image_size": size,
        "patch_size": patches.shape[-1],
        "hidden_act": "gelu_pytorch_tanh" if _APPROXIMATE.fullmatch(name) else "gelu",
        "layer_norm_eps": 1e-6,
    }


def _timm_name(vision: Mapping[str, Any]) -> str:
    """The name of an image tower of timm without that of its weights; empty where it is OpenCLIP's own."""
    return str(vision.get("timm_model_name") or "").partition(".")[0]


def _check(part: str, settings: Mapping[str, Any], needed: Mapping[str, tuple[Any, Any]], what: str) -> None:
    for name, value in settings.items():
        # Every setting that is left is off where it is false, empty or null.
        is_known = name in _READ | _WITHOUT_EFFECT | needed.keys() or (name, value) == ("block_type", "default")
        if (value and not is_known) or not _is_of_its_kind(name, value):
            _refuse(f"{part}.{name}", value, what)
    for name, (default, value) in needed.items():
        if settings.get(name, default) != value:
            _refuse(f"{part}.{name}", settings.get(name, default), what)


def _is_of_its_kind(name: str, value: Any) -> bool:
    """Whether a setting can be read; two numbers in place of one are an image that is not square, or a ResNet."""
    if name in _NUMBERS:
        return type(value) is int and value > 0
    if name == "mlp_ratio":
        return type(value) in (int, float) and value > 0
    return name not in _MAPPINGS or value is None or isinstance(value, dict)


def _activation(model: Mapping[str, Any], part: str, what: str) -> str:
    options = model[part].get("act_kwargs") or {}
    if model.get("quick_gelu") and not options:
        return "quick_gelu"
    if options in ({}, {"approximate": "none"}) and not model.get("quick_gelu"):
        return "gelu"
    if options != {"approximate": "tanh"} or model.get("quick_gelu"):
        _refuse(f"{part}.act_kwargs", options, what)
    return "gelu_pytorch_tanh"


def _epsilon(model: Mapping[str, Any], part: str, what: str) -> float:
    options = model[part].get("norm_kwargs") or {}
    epsilon = options.get("eps", 1e-5)
    if options.keys() - {"eps"} or type(epsilon) is not float:
        _refuse(f"{part}.norm_kwargs", options, what)
    return epsilon


def _refuse(setting: str, value: Any, what: str) -> NoReturn:
    raise InputError(
        f"{what} is in OpenCLIP's format, and its {OPEN_CLIP_CONFIG} has {setting} {json.dumps(value)[:100]}, which "
        "is neither of CLIP nor of SigLIP as transformers has them. In this format, CLIPs with OpenCLIP's own ViT and "
        "SigLIPs are read; of another model give a checkpoint that was converted to transformers' format."
    )

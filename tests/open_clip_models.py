"""OpenCLIP's two kinds of models that transformers has too, in plain torch: names of tensors and forward passes.

Nothing here knows of transformers' models. Random weights are large enough to spread the embeddings.
"""

import json
from collections import OrderedDict
from pathlib import Path

import torch
from dual_encoders import siglip_tokenizer
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional


CONTEXT = {"clip": 40, "siglip": 12}
PIXELS = 16
_WIDTH, _TEXT_WIDTH, _EMBED = 24, 20, 10


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """A layer of OpenCLIP's own towers."""

    def __init__(self, width, heads, ratio, act, eps):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=eps)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width, eps=eps)
        inner = int(width * ratio)
        layers = [("c_fc", nn.Linear(width, inner)), ("gelu", act()), ("c_proj", nn.Linear(inner, width))]
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, x, mask):
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width, heads, layers, ratio, act, eps):
        super().__init__()
        self.resblocks = nn.ModuleList([Block(width, heads, ratio, act, eps) for _ in range(layers)])

    def forward(self, x, mask=None):
        for block in self.resblocks:
            x = block(x, mask)
        return x


class ViT(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.conv1 = nn.Conv2d(3, _WIDTH, 8, stride=8, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(_WIDTH))
        self.positional_embedding = nn.Parameter(torch.empty((PIXELS // 8) ** 2 + 1, _WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.transformer = Transformer(_WIDTH, 3, 3, 2.5, act, 1e-5)
        self.proj = nn.Parameter(torch.empty(_WIDTH, _EMBED))

    def forward(self, images):
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(images), 1, -1)
        x = self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)
        return self.ln_post(self.transformer(x))[:, 0] @ self.proj


class TextTower(nn.Module):
    """Causal and pooled at the highest token, or neither, with the last one."""

    def __init__(self, kind, vocab, act):
        super().__init__()
        self.is_causal, width = kind == "clip", _TEXT_WIDTH if kind == "clip" else _WIDTH
        eps = 1e-5 if self.is_causal else 1e-6
        self.token_embedding = nn.Embedding(vocab, width)
        self.positional_embedding = nn.Parameter(torch.empty(CONTEXT[kind], width))
        self.transformer = Transformer(width, 2, 2, 2.0, act, eps)
        self.ln_final = nn.LayerNorm(width, eps=eps)
        self.text_projection = nn.Parameter(torch.empty(width, _EMBED)) if self.is_causal else nn.Linear(width, _WIDTH)

    def forward(self, tokens):
        length = tokens.shape[1]
        x = self.token_embedding(tokens) + self.positional_embedding
        mask = torch.full((length, length), float("-inf")).triu(1) if self.is_causal else None
        x = self.ln_final(self.transformer(x, mask))
        if self.is_causal:
            return x[torch.arange(len(x)), tokens.argmax(dim=-1)] @ self.text_projection
        return self.text_projection(x[:, -1])


class Mlp(nn.Module):
    def __init__(self, width, approximate):
        super().__init__()
        self.fc1, self.fc2, self.approximate = nn.Linear(width, 36), nn.Linear(36, width), approximate

    def forward(self, x):
        return self.fc2(functional.gelu(self.fc1(x), approximate=self.approximate))


def attention(query, key, value, heads):
    """Softmax attention of `(B, N, D)`, written out."""
    parts = [x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (query, key, value)]
    weights = (parts[0] @ parts[1].transpose(-2, -1) / parts[0].shape[-1] ** 0.5).softmax(dim=-1)
    return (weights @ parts[2]).transpose(1, 2).flatten(2)


class TimmAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.qkv, self.proj, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x):
        return self.proj(attention(*self.qkv(x).chunk(3, dim=-1), self.heads))


class TimmBlock(nn.Module):
    def __init__(self, width, heads, approximate):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = TimmAttention(width, heads), Mlp(width, approximate)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class AttentionPool(nn.Module):
    def __init__(self, width, heads, approximate):
        super().__init__()
        self.latent = nn.Parameter(torch.empty(1, 1, width))
        self.q, self.kv, self.proj = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.norm, self.mlp, self.heads = nn.LayerNorm(width, eps=1e-6), Mlp(width, approximate), heads

    def forward(self, x):
        query = self.q(self.latent.expand(len(x), -1, -1))
        x = self.proj(attention(query, *self.kv(x).chunk(2, dim=-1), self.heads))
        return (x + self.mlp(self.norm(x)))[:, 0]


class TimmViT(nn.Module):
    def __init__(self, approximate, heads=12):
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, _WIDTH, 8, stride=8)})
        self.pos_embed = nn.Parameter(torch.empty(1, (PIXELS // 8) ** 2, _WIDTH))
        self.blocks = nn.ModuleList([TimmBlock(_WIDTH, heads, approximate) for _ in range(3)])
        self.norm, self.attn_pool = nn.LayerNorm(_WIDTH, eps=1e-6), AttentionPool(_WIDTH, heads, approximate)

    def forward(self, images):
        x = self.patch_embed["proj"](images).flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.attn_pool(self.norm(x))


class Visual(nn.Module):
    def __init__(self, approximate):
        super().__init__()
        self.trunk = TimmViT(approximate)

    def forward(self, images):
        return self.trunk(images)


class ClipLike(TextTower):
    """The text tower lies at the top of the model."""

    def __init__(self, vocab, act=nn.GELU):
        super().__init__("clip", vocab, act)
        self.visual, self.logit_scale = ViT(act), nn.Parameter(torch.empty([]))

    def encode_text(self, tokens):
        return self(tokens)

    def encode_image(self, images):
        return self.visual(images)


class SiglipLike(nn.Module):
    """The texts have the approximate GELU, the images the one that is asked for."""

    def __init__(self, vocab, approximate="none"):
        super().__init__()
        self.visual = Visual(approximate)
        self.text = TextTower("siglip", vocab, lambda: nn.GELU(approximate="tanh"))
        self.logit_scale, self.logit_bias = nn.Parameter(torch.empty([])), nn.Parameter(torch.empty([]))

    def encode_text(self, tokens):
        return self.text(tokens)

    def encode_image(self, images):
        return self.visual(images)


def clip_config(vocab: int) -> dict:
    """As a repository of OpenCLIP has it in open_clip_config.json; many settings are left to their defaults."""
    vision = {"image_size": PIXELS, "layers": 3, "width": _WIDTH, "head_width": 8, "mlp_ratio": 2.5, "patch_size": 8}
    text = {"context_length": CONTEXT["clip"], "vocab_size": vocab, "width": _TEXT_WIDTH, "heads": 2, "layers": 2}
    model = {"embed_dim": _EMBED, "vision_cfg": vision, "text_cfg": {**text, "mlp_ratio": 2.0}}
    mean, std = [0.5, 0.4, 0.3], [0.3, 0.2, 0.25]
    return {"model_cfg": model, "preprocess_cfg": {"mean": mean, "std": std}}


def siglip_config(vocab: int) -> dict:
    vision = {"image_size": PIXELS, "timm_model_name": "vit_base_patch16_siglip_224", "timm_model_pretrained": False}
    text = {
        "context_length": CONTEXT["siglip"],
        "vocab_size": vocab,
        "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "width": _WIDTH,
        "heads": 2,
        "layers": 2,
        "mlp_ratio": 2.0,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
        "act_kwargs": {"approximate": "tanh"},
    }
    model = {
        "embed_dim": _WIDTH,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {**vision, "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": text,
    }
    preprocessing = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    return {"model_cfg": model, "preprocess_cfg": preprocessing}


def randomized(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return model.eval()


def save_open_clip(kind: str, folder: Path, clip_tokenizer: object, act: type[nn.Module] = nn.GELU) -> nn.Module:
    """Save a `"clip"` or `"siglip"` of random weights as OpenCLIP's repositories have it, and return it."""
    tokenizer = clip_tokenizer if kind == "clip" else siglip_tokenizer()
    vocab = len(tokenizer)
    model = randomized(ClipLike(vocab, act) if kind == "clip" else SiglipLike(vocab))
    config = clip_config(vocab) if kind == "clip" else siglip_config(vocab)
    if act is QuickGELU:
        config["model_cfg"]["quick_gelu"] = True
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    tokenizer.save_pretrained(folder)
    return model

"""Small dual encoders of random weights, each saved as a user would find it."""

import string
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, processors
from transformers import (
    AltCLIPConfig,
    AltCLIPModel,
    BertConfig,
    BertTokenizer,
    ChineseCLIPConfig,
    ChineseCLIPModel,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    GroupViTConfig,
    GroupViTModel,
    MetaClip2Config,
    MetaClip2Model,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaConfig,
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    ViTConfig,
)


# Tokens that a text may have, in every one of them.
POSITIONS = 40
KINDS = (
    "clip",
    "metaclip_2",
    "chinese_clip",
    "altclip",
    "clipseg",
    "groupvit",
    "vision-text-dual-encoder",
    "siglip",
    "siglip2",
)
_LAYERS = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
_SYMBOLS = [*string.ascii_letters, " ", "."]


def save_dual_encoder(kind: str, folder: Path, **changes: object) -> Path:
    """Save one of `KINDS`, or `roberta` for a vision-text dual encoder with that text tower.

    Args:
        kind (`str`): The model type.
        folder (`Path`): Created if missing.
        changes: Settings of the vision tower.

    Returns:
        `Path`: The folder.
    """
    tokenizer = _bert_tokenizer() if kind in ("chinese_clip", "vision-text-dual-encoder") else _tokenizer(kind)
    vision = {"image_size": 16, "patch_size": 8, **_LAYERS, **changes}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = _model(kind, vision, {"vocab_size": len(tokenizer), "max_position_embeddings": POSITIONS, **_LAYERS})
        # Random features of different images hardly differ; larger weights spread them.
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data.normal_(std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _image_processor(kind).save_pretrained(folder)
    return folder


def _model(kind: str, vision: dict, text: dict) -> PreTrainedModel:
    special = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    if kind == "clip":
        return CLIPModel(CLIPConfig(text_config={**text, **special}, vision_config=vision, projection_dim=8))
    if kind == "metaclip_2":
        return MetaClip2Model(MetaClip2Config(text_config={**text, **special}, vision_config=vision, projection_dim=8))
    if kind == "chinese_clip":
        return ChineseCLIPModel(ChineseCLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    if kind == "altclip":
        # Its first two positions, as RoBERTa's, are those of the padding and of none.
        text = {**text, **special, "max_position_embeddings": POSITIONS + 2, "project_dim": 10}
        return AltCLIPModel(AltCLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    if kind == "clipseg":
        config = CLIPSegConfig(
            text_config={**text, **special}, vision_config=vision, projection_dim=8, extract_layers=[0]
        )
        return CLIPSegForImageSegmentation(config)
    if kind == "groupvit":
        groups = {"num_group_tokens": [4, 0], "num_output_groups": [4, 2], "depths": [1, 1], "num_hidden_layers": 2}
        return GroupViTModel(
            GroupViTConfig(
                text_config={**text, **special},
                vision_config={**vision, "patch_size": 4, **groups},
                projection_dim=8,
                projection_intermediate_dim=16,
            )
        )
    if kind == "siglip":
        return SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
    if kind == "siglip2":
        del vision["image_size"]
        return Siglip2Model(Siglip2Config(text_config=text, vision_config={**vision, "num_patches": 9}))
    if kind == "roberta":
        texts = RobertaConfig(**{**text, **special, "max_position_embeddings": POSITIONS + 2})
    else:
        texts = BertConfig(**text)
    config = VisionTextDualEncoderConfig.from_vision_text_configs(ViTConfig(**vision), texts, projection_dim=8)
    return VisionTextDualEncoderModel(config)


def _image_processor(kind: str) -> object:
    if kind == "siglip":
        return SiglipImageProcessor(size={"height": 16, "width": 16})
    if kind == "siglip2":
        return Siglip2ImageProcessor(patch_size=8, max_num_patches=9)
    return CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})


def _bert_tokenizer() -> PreTrainedTokenizerBase:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *string.ascii_letters]
    words += [f"##{letter}" for letter in string.ascii_letters]
    # As many published tokenizers do, it names no maximum length.
    return BertTokenizer(vocab={word: i for i, word in enumerate(words)}, model_max_length=10**30)


def siglip_tokenizer() -> PreTrainedTokenizerBase:
    """Letters, with an end of text and none at the start; it keeps upper case and punctuation."""
    return _tokenizer("siglip")


def _tokenizer(kind: str) -> PreTrainedTokenizerBase:
    symbols = ["<s>", "<pad>", "</s>", "<unk>", *_SYMBOLS]
    tokenizer = Tokenizer(
        models.BPE(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=[], unk_token="<unk>")
    )
    ends = [("<s>", 0), ("</s>", 2)]
    text = "$A </s>" if kind.startswith("siglip") else "<s> $A </s>"
    tokenizer.post_processor = processors.TemplateProcessing(single=text, special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=10**30,
    )

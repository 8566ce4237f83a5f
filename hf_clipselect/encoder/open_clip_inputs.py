"""What a model of OpenCLIP takes: pixels as its config prepares them, and the tokens of its tokenizer.

Nothing repairs broken Unicode or HTML entities in texts, which OpenCLIP does with ftfy; prompts and most captions have
none. Where a centre crop leaves an odd number of pixels over, it may lie one pixel beside OpenCLIP's.
"""

import re
import string
from collections.abc import Mapping
from typing import Any

from tokenizers import Regex, normalizers
from transformers import AutoTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from ..config.arguments import DEFAULT_MODEL
from ..runtime.hub_ids import is_hub_id
from ..runtime.words import cut
from .model_place import OPEN_CLIP_CONFIG, ModelPlace


_MEAN, _STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
# Numbers of PIL. OpenCLIP takes "random" as bicubic when it only encodes.
_RESAMPLE = {"bicubic": 3, "bilinear": 2, "random": 3}
_TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json")
_SPACES = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
_PUNCTUATION = normalizers.Replace(Regex(f"[{re.escape(string.punctuation)}]"), "")
# OpenCLIP's ways to clean a text before it is tokenized.
_CLEAN = {
    "whitespace": _SPACES,
    "lower": [*_SPACES, normalizers.Lowercase()],
    "canonicalize": [normalizers.Replace("_", " "), _PUNCTUATION, normalizers.Lowercase(), *_SPACES],
}


def image_processor_of(preprocessing: Mapping[str, Any], size: int) -> CLIPImageProcessorPil | SiglipImageProcessorPil:
    """The image processor for `preprocess_cfg` and the image size of the model, which has priority at OpenCLIP too.

    Raises `ValueError` for what the processors of transformers do not do.
    """
    mode = preprocessing.get("resize_mode") or "shortest"
    interpolation = preprocessing.get("interpolation") or "bicubic"
    if mode not in ("shortest", "squash") or interpolation not in [*_RESAMPLE]:
        raise ValueError(
            f"its {OPEN_CLIP_CONFIG} prepares images with resize_mode {mode!r} and interpolation {interpolation!r}; "
            f"the modes shortest and squash are read, and {', '.join(_RESAMPLE)}."
        )
    options: dict[str, Any] = {
        "resample": _RESAMPLE[interpolation],
        "image_mean": _three("mean", preprocessing, _MEAN),
        "image_std": _three("std", preprocessing, _STD),
    }
    if 0 in options["image_std"]:
        raise ValueError(f"its {OPEN_CLIP_CONFIG} has the std {preprocessing['std']}, and pixels are divided by it.")
    square = {"height": size, "width": size}
    if mode == "squash":
        return SiglipImageProcessorPil(size=square, **options)
    return CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size=square, **options)


def tokenizer_of(place: ModelPlace, text: Mapping[str, Any]) -> Any:
    """The tokenizer of the model's own files; else what `text_cfg` names, as it is on the Hub now, else CLIP's.

    It cleans texts as OpenCLIP does. Raises `ValueError` for a setting that it can't follow, a tokenizer that can't be
    loaded, a folder of this machine that a repository of the Hub names, or more tokens than the text tower knows.
    """
    settings = {name: value for name, value in (text.get("tokenizer_kwargs") or {}).items() if value}
    clean = settings.pop("clean", "whitespace")
    if settings or clean not in _CLEAN:
        raise ValueError(
            f"its {OPEN_CLIP_CONFIG} has the tokenizer_kwargs {text['tokenizer_kwargs']}; of these only clean is "
            f"read, as {', '.join(_CLEAN)}."
        )
    if any(place.file(name) is not None for name in _TOKENIZER_FILES):
        tokenizer = AutoTokenizer.from_pretrained(place.source, **place.options)
    else:
        tokenizer = _tokenizer_elsewhere(place, text.get("hf_tokenizer_name") or DEFAULT_MODEL)
    if not tokenizer.is_fast:
        raise ValueError("its tokenizer has no tokenizer.json, and no files that one can be made of.")
    backend = tokenizer.backend_tokenizer
    own = [] if backend.normalizer is None else [backend.normalizer]
    backend.normalizer = normalizers.Sequence([*_CLEAN[clean], *own])
    length, known = text.get("context_length", 77), text.get("vocab_size", 49408)
    if len(tokenizer) > known:
        raise ValueError(f"its tokenizer has {len(tokenizer)} tokens, and its text tower knows {known}.")
    tokenizer.model_max_length = length
    return tokenizer


def _tokenizer_elsewhere(place: ModelPlace, name: Any) -> Any:
    """What another repository or folder has; who wrote a repository must not choose files of whoever reads it."""
    # With a revision: some old repositories have a name without an owner.
    is_hub = isinstance(name, str) and is_hub_id(name, revision="main")
    if not (is_hub or (place.is_local and isinstance(name, str))):
        raise ValueError(
            f"its {OPEN_CLIP_CONFIG} has the hf_tokenizer_name {cut(repr(name), 100)}; a model of the Hub may name a "
            "repository of the Hub there, and no folder of this machine, one of the same name included."
        )
    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False, token=place.token)
    except Exception as error:  # as of the model itself
        raise ValueError(f"its tokenizer, {name}, can't be loaded: {error}") from error


def _three(name: str, preprocessing: Mapping[str, Any], default: list[float]) -> list[float]:
    given = preprocessing.get(name)
    values = default if given is None else given if isinstance(given, list) else [given] * 3
    if len(values) != 3 or not all(type(value) in (int, float) for value in values):
        raise ValueError(f"its {OPEN_CLIP_CONFIG} has the {name} {given!r}; a number, or three of them, is read.")
    return values

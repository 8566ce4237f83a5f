"""What the package carries along to run without the network: a tiny CLIP checkpoint and scikit-learn's digits."""

from pathlib import Path

from .digits import load_digits_dataset


__all__ = ["DIGITS", "TINY_CLIP", "load_digits_dataset", "tiny_clip_path"]

DIGITS = "embedded/digits"
TINY_CLIP = "embedded/tiny-clip"


def tiny_clip_path() -> Path:
    """Where the demonstration CLIP checkpoint lies: a folder that `from_pretrained` of transformers takes.

    Returns:
        `Path`: The folder with `config.json`, `model.safetensors` (float16), the tokenizer and the image processor.
    """
    return Path(__file__).resolve().parent / "tiny_clip"

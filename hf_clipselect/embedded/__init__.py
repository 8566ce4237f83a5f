"""What the package holds to run without the network: a tiny CLIP checkpoint and scikit-learn's digits."""

from pathlib import Path

from .digits import load_digits_dataset


__all__ = ["load_digits_dataset", "tiny_clip_path"]


def tiny_clip_path() -> Path:
    """The folder of the demonstration CLIP checkpoint, which `from_pretrained` of transformers takes.

    It holds `config.json`, `model.safetensors` (float16), the tokenizer and the image processor.
    """
    return Path(__file__).resolve().parent / "tiny_clip"

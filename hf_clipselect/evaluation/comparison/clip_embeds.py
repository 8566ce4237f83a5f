"""Embeddings of a dataset of images by CLIP, in one call."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ...adapters.projections import Projections, embed_prompts, embed_rows
from ...data import LabelledImages
from ...data.prompts import class_prompts
from ...encoder.backbone import load_backbone
from ...encoder.features import encode_dataset
from ...encoder.texts import encode_prompts
from ...runtime.launch import make_accelerator
from ...scores.arrays import as_numpy


def clip_embeds(images: LabelledImages, model_name: str) -> tuple[np.ndarray, np.ndarray]:
    """Encode images and class names with a frozen dual encoder.

    Args:
        images (`LabelledImages`): N rows of C classes.
        model_name (`str`): As `--model_name_or_path`.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: Of the images `(N, D)` and of the class names `(C, D)`, float32.

    Raises:
        InputError: The model can't be loaded, or an image can't be read.
    """
    backbone = load_backbone(model_name)
    with TemporaryDirectory() as folder:
        encoded = encode_dataset(images, backbone, Path(folder), accelerator=make_accelerator())
        texts = encode_prompts(backbone, class_prompts(images.class_names), Path(folder))
        projections = Projections(backbone.model)
        embeds = embed_rows(projections, encoded.features, np.arange(len(images.labels)))
        return as_numpy(embeds), as_numpy(embed_prompts(projections, texts))

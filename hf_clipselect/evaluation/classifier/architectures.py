"""Image classifiers by name, with random or pretrained weights, and the image processors that go with them."""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    CLIPImageProcessorPil,
    PretrainedConfig,
    PreTrainedModel,
    ResNetConfig,
    SwinConfig,
    TimmWrapperConfig,
    ViTConfig,
)
from transformers.utils import is_timm_available

from ...errors import InputError
from ...runtime.words import in_one_line
from .small_image_resnet import SmallImageResNetConfig


logger = logging.getLogger(__name__)

# Images up to this side get networks that are built for them; larger ones are resized to LARGE_SIZE.
SMALL_SIZE, LARGE_SIZE = 64, 224
TIMM_PREFIX = "timm/"

_IMAGENET_MEAN, _IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# Part of the image that is kept when it is tested: 224 of 256 pixels, as is usual.
_TESTED_PART = 0.875

_BASIC = {"layer_type": "basic"}
_WIDE, _WIDER = {"hidden_sizes": [64, 128, 256, 512]}, {"hidden_sizes": [256, 512, 1024, 2048]}
_RESNETS: dict[str, dict[str, Any]] = {
    # He et al. (2016), section 4.2: the one of 0.27 million parameters for CIFAR.
    "resnet-20": {"embedding_size": 16, "hidden_sizes": [16, 32, 64], "depths": [3, 3, 3], **_BASIC},
    "resnet-18": {"depths": [2, 2, 2, 2], **_WIDE, **_BASIC},
    "resnet-50": {"depths": [3, 4, 6, 3], **_WIDER},
}
_VITS: dict[str, dict[str, Any]] = {
    name: {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
    }
    for name, width, depth, heads in (("vit-s", 384, 12, 6), ("vit-b", 768, 12, 12), ("vit-l", 1024, 24, 16))
}
_TIMM = {"vgg-16": "timm/vgg16", "densenet-121": "timm/densenet121"}
ARCHITECTURES = (*_RESNETS, *_VITS, "swin-t", *_TIMM)

PRETRAINED = {
    "resnet-18": "microsoft/resnet-18",
    "resnet-50": "microsoft/resnet-50",
    "vit-s": "WinKawaks/vit-small-patch16-224",
    "vit-b": "google/vit-base-patch16-224-in21k",
    "vit-l": "google/vit-large-patch16-224-in21k",
    "swin-t": "microsoft/swin-tiny-patch4-window7-224",
    "vgg-16": "timm/vgg16.tv_in1k",
    "densenet-121": "timm/densenet121.tv_in1k",
}


@dataclass(frozen=True)
class Classifier:
    """A model and how its images are prepared.

    Args:
        model (`PreTrainedModel`): With one output for each class.
        image_processor (`BaseImageProcessor`): What is saved beside the weights.
        image_size (`int`): Side of the square that the model is given.
        pretrained (`str`, *optional*): Where the weights came from.
    """

    model: PreTrainedModel
    image_processor: Any
    image_size: int
    pretrained: str | None = None


def random_classifier(architecture: str, class_names: list[str], *, side: int) -> Classifier:
    """Build an architecture with random weights, drawn from torch's own random state.

    Images of up to 64 pixels stay as large as they are. ResNet then begins with a 3x3 convolution of stride 1 (see
    small_image_resnet.py), ViT has patches of an eighth of the side, and Swin at 32 or 64 pixels patches of a 32nd and
    windows of 4 patches. Larger images become 224 x 224, with the stems and patches of the papers. VGG and DenseNet
    are timm's at either size.

    Args:
        architecture (`str`): One of `ARCHITECTURES`, or `timm/` and any name that timm knows.
        class_names (`list[str]`): One name per class.
        side (`int`): Side of the images of the dataset.

    Returns:
        [`Classifier`]

    Raises:
        InputError: There is no such architecture, or it is timm's and timm is not installed.
    """
    size = side if side <= SMALL_SIZE else LARGE_SIZE
    labels = _labels(class_names)
    config = _config(architecture, size, labels)
    try:
        model = AutoModelForImageClassification.from_config(config)
    except (ImportError, RuntimeError) as error:  # timm knows no such name
        if not architecture.startswith(TIMM_PREFIX):
            raise
        raise InputError(f"--architecture {architecture} can't be built: {in_one_line(error)}") from None
    if config.model_type == TimmWrapperConfig.model_type:
        _check_size(model, architecture, size)
    return Classifier(model, _image_processor(size), size)


def pretrained_classifier(name: str, class_names: list[str], *, revision: str = "main") -> Classifier:
    """Load weights from the Hub or a folder, with a new last layer where the number of classes differs.

    Args:
        name (`str`): Hub id or folder of any model for image classification.
        class_names (`list[str]`): One name per class.
        revision (`str`, *optional*, defaults to `"main"`): Branch, tag or commit.

    Returns:
        [`Classifier`]

    Raises:
        InputError: It can't be loaded, or it is timm's and timm is not installed.
    """
    try:
        config = AutoConfig.from_pretrained(name, revision=revision)
        labels = _labels(class_names)
        if config.model_type == TimmWrapperConfig.model_type:
            _need_timm(name)
            labels["num_labels"] = len(class_names)  # timm's configuration does not count the names
        model = AutoModelForImageClassification.from_pretrained(
            name, revision=revision, ignore_mismatched_sizes=True, **labels
        )
        if timm_config := config.to_dict().get("pretrained_cfg"):
            # timm's own image processor takes no images that are cropped already.
            size = timm_config["input_size"][-1]
            processor = _image_processor(size, mean=timm_config["mean"], std=timm_config["std"])
            return Classifier(model, processor, size, name)
        processor = AutoImageProcessor.from_pretrained(name, revision=revision, backend="pil")
    except (OSError, ValueError, HFValidationError) as error:
        if isinstance(error, InputError):
            raise
        reason = in_one_line(error, 400)
        raise InputError(
            f"--model_name_or_path {name} can't be loaded as an image classifier: {reason} For random weights name an "
            f"--architecture: {', '.join(ARCHITECTURES)}."
        ) from None
    size = processor.crop_size if getattr(processor, "do_center_crop", False) else processor.size
    return Classifier(model, processor, size.get("height") or size["shortest_edge"], name)


def _labels(class_names: list[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(class_names)), "label2id": {name: i for i, name in enumerate(class_names)}}


def _config(architecture: str, size: int, labels: dict[str, Any]) -> PretrainedConfig:
    small = size <= SMALL_SIZE
    if architecture in _RESNETS:
        kind = SmallImageResNetConfig if small else ResNetConfig
        return kind(**_RESNETS[architecture], **labels)
    if architecture in _VITS:
        return ViTConfig(
            image_size=size, patch_size=max(1, size // 8) if small else 16, **_VITS[architecture], **labels
        )
    if architecture == "swin-t":
        patch = max(1, size // 32)
        # transformers' Swin needs windows that fit into the last stage, which has an eighth of the patches a side.
        patches: dict[str, Any] = {"patch_size": patch, "window_size": max(1, size // patch // 8)} if small else {}
        return SwinConfig(image_size=size, **patches, **labels)
    name = _TIMM.get(architecture, architecture)
    if not name.startswith(TIMM_PREFIX):
        raise InputError(
            f"--architecture {architecture} is unknown; choose one of {', '.join(ARCHITECTURES)}, or {TIMM_PREFIX} "
            "and a name that timm knows. Weights from the Hub are named by --model_name_or_path."
        )
    _need_timm(architecture)
    return TimmWrapperConfig(architecture=name.removeprefix(TIMM_PREFIX), **labels)


def needs_timm(architecture: str) -> bool:
    """Whether an architecture is built by timm, which is an extra."""
    return _TIMM.get(architecture, architecture).startswith(TIMM_PREFIX)


def _need_timm(name: str) -> None:
    if not is_timm_available():
        raise InputError(f'{name} is built by timm, which is not installed: pip install "hf_clipselect[timm]".')


@torch.inference_mode()
def _check_size(model: PreTrainedModel, architecture: str, size: int) -> None:
    """timm builds networks that halve the image more often than it can be halved."""
    try:
        model.eval()(pixel_values=torch.zeros(1, 3, size, size))
    except (AssertionError, RuntimeError) as error:
        raise InputError(
            f"--architecture {architecture} does not take images of {size} x {size} pixels: {in_one_line(error, 200)}"
        ) from None
    model.train()


def _image_processor(
    size: int, *, mean: list[float] = _IMAGENET_MEAN, std: list[float] = _IMAGENET_STD
) -> CLIPImageProcessorPil:
    """Resizes the shorter side, to a little more than `size` where that exceeds 64 pixels, and crops the centre."""
    shortest = size if size <= SMALL_SIZE else round(size / _TESTED_PART)
    return CLIPImageProcessorPil(
        size={"shortest_edge": shortest},
        crop_size={"height": size, "width": size},
        image_mean=mean,
        image_std=std,
    )

"""ResNet for images of up to 64 pixels, as a transformers model.

ResNet's own stem, a 7x7 convolution of stride 2 and a pooling, leaves 8x8 positions of an image of 32 pixels before
the first block. What work on CIFAR means by ResNet begins with a 3x3 convolution of stride 1 and no pooling instead,
which `ResNetConfig` can't say. This file imports transformers and torch alone: it is saved beside the weights, so that
`AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True)` works where this package is not
installed.
"""

from torch import nn
from transformers import AutoConfig, AutoModelForImageClassification, ResNetConfig, ResNetForImageClassification


class SmallImageResNetConfig(ResNetConfig):
    """As `ResNetConfig`."""

    model_type = "small_image_resnet"


class SmallImageResNetForImageClassification(ResNetForImageClassification):
    """ResNet whose stem is a 3x3 convolution of stride 1, with batch normalisation and activation, and no pooling."""

    config_class = SmallImageResNetConfig

    def __init__(self, config: SmallImageResNetConfig) -> None:
        super().__init__(config)
        self.resnet.embedder.embedder.convolution = nn.Conv2d(
            config.num_channels, config.embedding_size, kernel_size=3, stride=1, padding=1, bias=False
        )
        self.resnet.embedder.pooler = nn.Identity()  # type: ignore[assignment]
        self.post_init()


AutoConfig.register("small_image_resnet", SmallImageResNetConfig, exist_ok=True)
AutoModelForImageClassification.register(SmallImageResNetConfig, SmallImageResNetForImageClassification, exist_ok=True)
SmallImageResNetConfig.register_for_auto_class()
SmallImageResNetForImageClassification.register_for_auto_class("AutoModelForImageClassification")

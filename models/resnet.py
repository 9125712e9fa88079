"""ResNet-18, -50 and -101 (He et al. 2016) for images of 32x32 and less.

The bottleneck has its stride on the 3x3 convolution, as in torchvision; He et al. have it on the first 1x1.
"""

from collections.abc import Callable

import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from models.residual import place_dropout, small_stem


def _small(
    constructor: Callable[..., ResNet],
    block: type[nn.Module],
    input_shape: tuple[int, int, int],
    outputs: int,
    dropout: float,
    placement: str,
) -> ResNet:
    network = constructor(num_classes=outputs)
    network.conv1 = small_stem(input_shape[0], 64)
    network.maxpool = nn.Identity()
    place_dropout(network, "fc", block, placement, dropout)
    return network


def resnet18(
    input_shape: tuple[int, int, int],
    outputs: int,
    *,
    dropout: float = 0.5,
    placement: str = "before_classifier",
) -> ResNet:
    """Build torchvision's ResNet-18 with a 3x3 stem of stride 1 and no max-pool.

    11,173,962 parameters on CIFAR-10.

    Args:
        input_shape: (C, H, W) of any size.
        outputs: Number of classes.
        dropout: Rate; see :func:`models.residual.place_dropout`.
        placement: See :func:`models.residual.place_dropout`.

    Raises:
        ValueError: An unknown placement.
    """
    return _small(torchvision.models.resnet18, BasicBlock, input_shape, outputs, dropout, placement)


def resnet50(
    input_shape: tuple[int, int, int],
    outputs: int,
    *,
    dropout: float = 0.5,
    placement: str = "before_classifier",
) -> ResNet:
    """Build ResNet-50 like :func:`resnet18`: 23,520,842 parameters on CIFAR-10."""
    return _small(torchvision.models.resnet50, Bottleneck, input_shape, outputs, dropout, placement)


def resnet101(
    input_shape: tuple[int, int, int],
    outputs: int,
    *,
    dropout: float = 0.5,
    placement: str = "before_classifier",
) -> ResNet:
    """Build ResNet-101 like :func:`resnet18`: 42,512,970 parameters on CIFAR-10."""
    return _small(torchvision.models.resnet101, Bottleneck, input_shape, outputs, dropout, placement)

"""RegNetX-200MF (Radosavovic et al. 2020) for images of 32x32 and less."""

from collections.abc import Callable

from torch import nn
from torchvision.models.regnet import BlockParams, RegNet, ResBottleneckBlock

from models.residual import place_dropout, small_stem

STEM_WIDTH = 64


def regnetx(
    input_shape: tuple[int, int, int],
    outputs: int,
    *,
    dropout: float = 0.5,
    placement: str = "before_classifier",
) -> RegNet:
    """Build torchvision's RegNet with the blocks of RegNetX-200MF: 2,321,946 parameters on CIFAR-10.

    The stem is 3x3 with stride 1 and 64 channels (32 on ImageNet; the published number of parameters for
    CIFAR needs 64). The first two stages keep the resolution, so that the last map of a 32x32 image is 8x8.

    Args:
        input_shape: (C, H, W) of any size.
        outputs: Number of classes.
        dropout: Rate; see :func:`models.residual.place_dropout`.
        placement: See :func:`models.residual.place_dropout`.

    Raises:
        ValueError: An unknown placement.
    """

    def stem(
        _: int, width: int, norm: Callable[..., nn.Module], activation: Callable[..., nn.Module]
    ) -> nn.Sequential:
        return nn.Sequential(small_stem(input_shape[0], width), norm(width), activation(inplace=True))

    blocks = BlockParams(
        depths=[1, 1, 4, 7],
        widths=[24, 56, 152, 368],
        group_widths=[8] * 4,
        bottleneck_multipliers=[1.0] * 4,
        strides=[1, 1, 2, 2],
    )
    network = RegNet(blocks, num_classes=outputs, stem_width=STEM_WIDTH, stem_type=stem)
    place_dropout(network, "fc", ResBottleneckBlock, placement, dropout)
    return network

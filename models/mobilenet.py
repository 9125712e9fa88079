"""MobileNetV2 (Sandler et al. 2018) for images of 32x32 and less."""

from collections.abc import Callable

from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual, MobileNetV2
from torchvision.ops import Conv2dNormActivation

from models.residual import place_dropout, small_stem

# expansion, channels, blocks, stride of the first block; on ImageNet the second stride is 2
STAGES = [
    [1, 16, 1, 1],
    [6, 24, 2, 1],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
]


class ProjectedResidual(InvertedResidual):
    """An inverted residual with a shortcut in every block of stride 1.

    The shortcut is a 1x1 convolution if the width changes. A block of expansion 1 keeps its expanding
    convolution. The published number of parameters for CIFAR includes both.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        expand_ratio: int,
        norm_layer: Callable[..., nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__(inputs, outputs, stride, expand_ratio, norm_layer)
        if expand_ratio == 1:
            expansion = Conv2dNormActivation(
                inputs, inputs, 1, norm_layer=norm_layer, activation_layer=nn.ReLU6
            )
            self.conv.insert(0, expansion)
        self.shortcut: nn.Module | None = None
        if stride == 1:
            projection = Conv2dNormActivation(
                inputs, outputs, 1, norm_layer=norm_layer, activation_layer=None
            )
            self.shortcut = nn.Identity() if inputs == outputs else projection

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, ceil(H/stride), ceil(W/stride))."""
        return self.conv(x) if self.shortcut is None else self.conv(x) + self.shortcut(x)


def mobilenetv2(
    input_shape: tuple[int, int, int],
    outputs: int,
    *,
    dropout: float = 0.5,
    placement: str = "before_classifier",
) -> MobileNetV2:
    """Build torchvision's MobileNetV2 with stem and one early stage of stride 1.

    2,296,922 parameters on CIFAR-10. The last map of a 32x32 image is 4x4.

    Args:
        input_shape: (C, H, W) of any size.
        outputs: Number of classes.
        dropout: Rate; see :func:`models.residual.place_dropout`.
        placement: See :func:`models.residual.place_dropout`.

    Raises:
        ValueError: An unknown placement.
    """
    network = MobileNetV2(num_classes=outputs, inverted_residual_setting=STAGES, block=ProjectedResidual)
    network.features[0][0] = small_stem(input_shape[0], 32)
    network.classifier = network.classifier[1]
    place_dropout(network, "classifier", ProjectedResidual, placement, dropout)
    return network

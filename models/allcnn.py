"""All-CNN-BN, the all-convolutional network of Entropy-SGD (E) on CIFAR."""

from torch import nn

from models.dropout import Dropout

PLACEMENTS = ("input_and_stride", "after_each_layer")


def allcnn_bn(
    input_shape: tuple[int, int, int],
    outputs: int,
    *,
    dropout: float = 0.5,
    input_dropout: float = 0.2,
    placement: str = "input_and_stride",
) -> nn.Sequential:
    """Build All-CNN-BN: 1,667,166 parameters on CIFAR-10.

    Nine convolutions of 96 (three), 192 (five) and ``outputs`` (one) filters, each with BN and ReLU, then
    the mean over the map. The last one is 1x1, the others 3x3; the third and the sixth have stride 2. The
    last one has BN and ReLU as well (E), so that scores are never negative.

    Args:
        input_shape: (C, H, W) of any size.
        outputs: Number of classes.
        dropout: Rate of the dropout that ``placement`` places (0.5: E, P).
        input_dropout: Rate on the image (0.2: E), only for ``input_and_stride``.
        placement: ``input_and_stride``: on the image and after each convolution of stride 2 (E, whose
            published error is the paper's baseline). ``after_each_layer``: after each of the eight hidden
            convolutions (P, taken literally).

    Raises:
        ValueError: An unknown placement.
    """
    if placement not in PLACEMENTS:
        raise ValueError(f"placement {placement!r} is not known: expected one of {', '.join(PLACEMENTS)}")
    everywhere = placement == "after_each_layer"
    layers: list[nn.Module] = [] if everywhere else [Dropout(input_dropout)]
    inputs = input_shape[0]
    for filters, stride in [(96, 1), (96, 1), (96, 2), (192, 1), (192, 1), (192, 2), (192, 1), (192, 1)]:
        layers += [
            nn.Conv2d(inputs, filters, 3, stride, padding=1),
            nn.BatchNorm2d(filters),
            nn.ReLU(inplace=True),
        ]
        if stride == 2 or everywhere:
            layers.append(Dropout(dropout))
        inputs = filters
    layers += [nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())

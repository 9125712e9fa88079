"""DenseNet-BC (Huang et al. 2017) for images of 32x32 and less."""

from collections import OrderedDict

from torch import nn
from torchvision.models.densenet import DenseNet, _DenseLayer

from models.residual import place_dropout, small_stem

GROWTH = 12
LAYERS = 16  # (100 - 4) / 3 blocks / 2 convolutions


def densenet(
    input_shape: tuple[int, int, int],
    outputs: int,
    *,
    dropout: float = 0.5,
    placement: str = "before_classifier",
) -> DenseNet:
    """Build torchvision's DenseNet as DenseNet-BC of 100 layers, growth 12: 769,162 parameters on CIFAR-10.

    The paper only says "DenseNet". This is the network of DenseNet's authors for CIFAR whose number of
    parameters is nearest to the other networks (O). The stem is one 3x3 convolution of stride 1 without BN,
    ReLU and pool, since each dense layer begins with its own.

    Args:
        input_shape: (C, H, W), H and W at least 4 (two transitions halve them).
        outputs: Number of classes.
        dropout: Rate; see :func:`models.residual.place_dropout`.
        placement: See :func:`models.residual.place_dropout`. A block is a dense layer, as in Huang et al.

    Raises:
        ValueError: The images are too small, or an unknown placement.
    """
    channels, height, width = input_shape
    if min(height, width) < 4:
        raise ValueError(f"densenet needs images of 4x4 at least, not {height}x{width}")
    network = DenseNet(GROWTH, (LAYERS,) * 3, num_init_features=2 * GROWTH, num_classes=outputs)
    body = {name: layer for name, layer in network.features.named_children() if not name.endswith("0")}
    network.features = nn.Sequential(OrderedDict(conv0=small_stem(channels, 2 * GROWTH), **body))
    place_dropout(network, "classifier", _DenseLayer, placement, dropout)
    return network

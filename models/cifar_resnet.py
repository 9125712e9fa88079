"""The narrow ResNets of He et al. 2016, section 4.2, for CIFAR: three stages of 16, 32 and 64 channels."""

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from models.residual import place_dropout, small_stem

SHORTCUTS = ("A", "B")


class PaddedShortcut(nn.Module):
    """Option A of He et al.: every second pixel, and zeros for the channels that the block adds.

    It has no parameters.

    Args:
        added: How many channels the block adds.
    """

    def __init__(self, added: int) -> None:
        super().__init__()
        self.added = added

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C + added, ceil(H/2), ceil(W/2))."""
        before = self.added // 2
        return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.added - before))


def _shortcut(kind: str, inputs: int, width: int) -> nn.Module:
    if kind == "A":
        return PaddedShortcut(width - inputs)
    return nn.Sequential(nn.Conv2d(inputs, width, 1, stride=2, bias=False), nn.BatchNorm2d(width))


def _cifar_resnet(
    blocks: int,
    input_shape: tuple[int, int, int],
    outputs: int,
    dropout: float,
    placement: str,
    shortcut: str,
) -> nn.Sequential:
    if shortcut not in SHORTCUTS:
        raise ValueError(f"shortcut {shortcut!r} is not known: expected one of {', '.join(SHORTCUTS)}")
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=small_stem(input_shape[0], 16), norm=nn.BatchNorm2d(16), relu=nn.ReLU(inplace=True)
    )
    inputs = 16
    for number, width in enumerate((16, 32, 64), start=1):
        first = (
            BasicBlock(16, 16)
            if width == 16
            else BasicBlock(inputs, width, 2, _shortcut(shortcut, inputs, width))
        )
        layers[f"stage{number}"] = nn.Sequential(
            first, *(BasicBlock(width, width) for _ in range(blocks - 1))
        )
        inputs = width
    layers.update(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(64, outputs))
    network = nn.Sequential(layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    place_dropout(network, "fc", BasicBlock, placement, dropout)
    return network


def resnet44(
    input_shape: tuple[int, int, int],
    outputs: int,
    *,
    dropout: float = 0.5,
    placement: str = "before_classifier",
    shortcut: str = "A",
) -> nn.Sequential:
    """Build the network of 44 layers, 7 blocks per stage: 658,586 parameters on CIFAR-10 (661,338 with B).

    Args:
        input_shape: (C, H, W) of any size.
        outputs: Number of classes.
        dropout: Rate; see :func:`models.residual.place_dropout`.
        placement: See :func:`models.residual.place_dropout`.
        shortcut: What joins two shapes: ``A`` subsamples and pads with zeros (He et al. on CIFAR), ``B`` is
            a 1x1 convolution and BN.

    Raises:
        ValueError: An unknown placement or shortcut.
    """
    return _cifar_resnet(7, input_shape, outputs, dropout, placement, shortcut)


def resnet56(
    input_shape: tuple[int, int, int],
    outputs: int,
    *,
    dropout: float = 0.5,
    placement: str = "before_classifier",
    shortcut: str = "A",
) -> nn.Sequential:
    """Build the network of 56 layers, 9 blocks per stage: 853,018 parameters on CIFAR-10 (855,770 with B).

    See :func:`resnet44` for arguments and errors.
    """
    return _cifar_resnet(9, input_shape, outputs, dropout, placement, shortcut)

"""The networks by name."""

import inspect
from collections.abc import Callable

from torch import nn

from models.allcnn import allcnn_bn
from models.cifar_resnet import resnet44, resnet56
from models.densenet import densenet
from models.lenet import lenet
from models.lstm import lstm_char, lstm_ptb, lstm_ptb_small
from models.mnistfc import mnistfc
from models.mobilenet import mobilenetv2
from models.regnet import regnetx
from models.resnet import resnet18, resnet50, resnet101
from models.timm_network import timm_network

Constructor = Callable[..., nn.Module]


def _by_name(*constructors: Constructor) -> dict[str, Constructor]:
    return {constructor.__name__: constructor for constructor in constructors}


IMAGES: dict[str, Constructor] = {
    **_by_name(lenet, mnistfc, allcnn_bn, resnet18, resnet50, resnet101, resnet44, resnet56),
    **_by_name(regnetx, mobilenetv2, densenet),
    "timm": timm_network,
}
TOKENS: dict[str, Constructor] = _by_name(lstm_ptb, lstm_ptb_small, lstm_char)


def names() -> list[str]:
    """Return the names that :func:`build` knows."""
    return [*IMAGES, *TOKENS]


def build(name: str, input_shape: tuple[int, ...], outputs: int, **options: object) -> nn.Module:
    """Return a newly initialised network. Initial values are drawn only from torch's default generator.

    Args:
        name: One of :func:`names`.
        input_shape: (C, H, W) for images, () for tokens.
        outputs: Number of classes, or the vocabulary.
        options: The network's own options; the docstring of its constructor lists them.

    Raises:
        ValueError: An unknown name or option, a value out of range, or inputs that the network cannot take.

    Example:
        >>> network = build("lenet", (1, 28, 28), 10, dropout=0.2)
        >>> sum(parameter.numel() for parameter in network.parameters())
        132220
    """
    constructor = IMAGES.get(name) or TOKENS.get(name)
    if constructor is None:
        raise ValueError(f"model {name!r} is not known: expected one of {', '.join(names())}")
    parameters = inspect.signature(constructor).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}: expected one of {', '.join(known)}")
    if outputs < 1:
        raise ValueError(f"{name} has {outputs} outputs: expected 1 or more")
    if name in TOKENS:
        if input_shape:
            raise ValueError(f"{name} takes tokens, not images of shape {tuple(input_shape)}")
        return constructor(outputs, **options)
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(f"{name} takes images of shape (channels, height, width), not {tuple(input_shape)}")
    return constructor(tuple(input_shape), outputs, **options)

"""What the residual networks share: the stem for small images, and the placement of dropout."""

from torch import nn

from models.dropout import Dropout

PLACEMENTS = ("before_classifier", "after_block", "none")


def small_stem(channels: int, width: int) -> nn.Conv2d:
    """Return a 3x3 convolution of stride 1, in place of the 7x7 or strided one for large images."""
    convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution


def place_dropout(network: nn.Module, head: str, block: type[nn.Module], placement: str, p: float) -> None:
    """Put dropout of rate ``p`` into a network, in place.

    Args:
        network: The network.
        head: Name of the classifier, a child of ``network``.
        block: Type of the residual blocks.
        placement: ``before_classifier`` (O), ``after_block`` (nearest to P's "after each layer") or ``none``.
        p: The rate.

    Raises:
        ValueError: An unknown placement.
    """
    if placement not in PLACEMENTS:
        raise ValueError(f"placement {placement!r} is not known: expected one of {', '.join(PLACEMENTS)}")
    if placement == "before_classifier":
        setattr(network, head, nn.Sequential(Dropout(p), getattr(network, head)))
    elif placement == "after_block":
        for parent in list(network.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, block):
                    setattr(parent, name, nn.Sequential(child, Dropout(p)))

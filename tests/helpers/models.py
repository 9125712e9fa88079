"""Helpers for the tests of the networks: small instances, their inputs, and the order of their modules."""

import torch
from torch import Tensor, nn

import models
from models.lstm import LSTMLanguageModel
from models.registry import TOKENS

GREY, COLOUR, DIGITS = (1, 28, 28), (3, 32, 32), (1, 8, 8)
OWN = [name for name in models.names() if name != "timm"]
ARCHITECTURES = ["resnet10t", "convnext_atto", "test_vit"]  # of timm: a ResNet, a ConvNeXt, a ViT
SMALL = {"lstm_ptb": {"embedding": 12, "hidden": 16}}  # the real size only makes tests slower


def small(name: str, outputs: int = 7, **chosen: object) -> nn.Module:
    """Build a network for 8x8 images, for few tokens, or of timm for 32x32 images."""
    if name in ARCHITECTURES:
        return models.build("timm", COLOUR, outputs, arch=name, **chosen)
    return models.build(name, () if name in TOKENS else DIGITS, outputs, **SMALL.get(name, {}) | chosen)


def sample(name: str, outputs: int = 7, batch: int = 2) -> Tensor:
    """Return inputs for the network that :func:`small` builds."""
    if name in TOKENS:
        return torch.randint(outputs, (batch, 5))
    return torch.randn(batch, *(COLOUR if name in ARCHITECTURES else DIGITS))


def count(network: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def train_once(network: nn.Module, inputs: Tensor) -> Tensor:
    """Run forward and backward through the network's loss. Every parameter gets a finite gradient."""
    output = network(inputs)
    targets = torch.arange(output.shape[:-1].numel()) % output.shape[-1]
    nn.functional.cross_entropy(output.flatten(0, -2).float(), targets).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    return output


def evaluate(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return the outputs in evaluation mode, from a fresh state."""
    network.eval()
    if isinstance(network, LSTMLanguageModel):
        network.reset_state()
    with torch.no_grad():
        return network(inputs)


def kinds(network: nn.Module, inputs: Tensor) -> list[str]:
    """Return the types of the modules without children, in the order in which a forward calls them."""
    order: list[str] = []
    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda module, inputs, output: order.append(type(module).__name__))
    network(inputs)
    return order

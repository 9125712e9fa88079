"""What the tests of the networks share: small instances, their inputs, and what a forward goes through."""

import torch
from torch import Tensor, nn

import models
from models.lstm import LSTMLanguageModel
from models.registry import TOKENS

GREY, COLOUR, DIGITS = (1, 28, 28), (3, 32, 32), (1, 8, 8)
SMALL = {
    "lstm_ptb": {"embedding": 12, "hidden": 16}
}  # for tests that the size of the real one would only slow down


def small(name: str, outputs: int = 7, **chosen: object) -> nn.Module:
    """The network for 8x8 images, or for few tokens."""
    return models.build(name, () if name in TOKENS else DIGITS, outputs, **SMALL.get(name, {}) | chosen)


def sample(name: str, outputs: int = 7, batch: int = 2) -> Tensor:
    return torch.randint(outputs, (batch, 5)) if name in TOKENS else torch.randn(batch, *DIGITS)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def train_once(network: nn.Module, inputs: Tensor) -> Tensor:
    """Forward and backward through the loss that the network is for; every parameter gets a finite gradient."""
    output = network(inputs)
    targets = torch.arange(output.shape[:-1].numel()) % output.shape[-1]
    nn.functional.cross_entropy(output.flatten(0, -2).float(), targets).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    return output


def evaluate(network: nn.Module, inputs: Tensor) -> Tensor:
    network.eval()
    if isinstance(network, LSTMLanguageModel):
        network.reset_state()
    with torch.no_grad():
        return network(inputs)


def kinds(network: nn.Module, inputs: Tensor) -> list[str]:
    """The types of the modules without children in the order in which a forward calls them."""
    order: list[str] = []
    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda module, inputs, output: order.append(type(module).__name__))
    network(inputs)
    return order

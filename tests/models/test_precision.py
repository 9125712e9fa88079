"""Every network's gradient on each device, in float32 and under bfloat16 autocast, beside float64."""

import copy

import pytest
import torch
from torch import Tensor, nn

from models.dropout import Dropout
from tests.helpers.models import ARCHITECTURES, OWN, sample, small

TOLERANCES = {torch.float32: 5e-3, torch.bfloat16: 0.25}
"""Of the gradient's relative error. GPUs may round the inputs of float32 convolutions to 10 bits (TF32)."""


def well_conditioned(network: nn.Module) -> nn.Module:
    """Draw no masks, and divide by no deviation of a few numbers, which magnifies every rounding."""
    for module in network.modules():
        if isinstance(module, Dropout | nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
    return network


def differentiate(network: nn.Module, inputs: Tensor) -> None:
    output = network(inputs).flatten(0, -2)
    targets = torch.arange(len(output), device=output.device) % output.shape[-1]
    nn.functional.cross_entropy(output, targets).backward()


def gradient(network: nn.Module) -> Tensor:
    parts = [parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None]
    return torch.cat(parts).to("cpu", torch.float64)


@pytest.mark.parametrize("precision", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", [*OWN, *ARCHITECTURES])
def test_a_gradient_is_that_of_float64(name: str, precision: torch.dtype, device: torch.device) -> None:
    reference = well_conditioned(small(name)).double()
    network = copy.deepcopy(reference).float().to(device)
    inputs = sample(name, batch=16)
    differentiate(reference, inputs.double() if inputs.is_floating_point() else inputs)
    with torch.autocast(device.type, torch.bfloat16, enabled=precision is torch.bfloat16):
        differentiate(network, inputs.to(device))
    expected = gradient(reference)
    error = float((gradient(network) - expected).norm() / expected.norm())
    assert error < TOLERANCES[precision]

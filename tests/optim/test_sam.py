"""SAM and ASAM: against a plain twin, and what its second gradient sees."""

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

from salr.optim import SAM
from tests.helpers.optim import Flat, assert_same

pytestmark = pytest.mark.usefixtures("default_device")


@pytest.mark.parametrize("base", [SGD, Adam])
@pytest.mark.parametrize("adaptive", [False, True])
def test_a_trajectory_is_the_twins(adaptive: bool, base: type[SGD | Adam]) -> None:
    fast, slow = Flat(), Flat()
    rho, rate = 0.1, 0.1
    optimizer = SAM(base(fast.model.parameters(), lr=rate), rho, adaptive)
    held = nn.Parameter(slow.theta)
    twin_base = base([held], lr=rate)
    for _ in range(15):
        optimizer.step(fast.loss)
        fast.advance()
        theta = held.detach().clone()
        gradient = slow.gradient_at(theta)
        size = theta.abs() if adaptive else torch.ones_like(theta)
        perturbation = rho * size**2 * gradient / (size * gradient).norm()
        held.grad = slow.gradient_at(theta + perturbation)
        slow.advance()
        twin_base.step()
        assert_same(fast, held.detach())


def test_a_zero_gradient_perturbs_nothing() -> None:
    weight = nn.Parameter(torch.zeros(3))
    SAM(SGD([weight], lr=0.1)).step(lambda: (weight**2).sum())
    assert torch.equal(weight, torch.zeros(3))


def test_sam_keeps_the_first_pass_statistics_and_shares_the_masks() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3))
    inputs, targets = torch.randn(16, 4), torch.randint(3, (16,))
    masks: list[Tensor] = []
    model[2].register_forward_hook(lambda _module, _inputs, output: masks.append(output == 0))
    with torch.no_grad():
        expected = 0.9 * model[1].running_mean + 0.1 * model[0](inputs).mean(0)
    SAM(SGD(model.parameters(), lr=0.1), 0.5).step(
        lambda: nn.functional.cross_entropy(model(inputs), targets)
    )
    torch.testing.assert_close(model[1].running_mean, expected)
    assert int(model[1].num_batches_tracked) == 1
    assert torch.equal(masks[0], masks[1])

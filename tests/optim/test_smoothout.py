"""SmoothOut and AdaSmoothOut: against a plain twin, and which parameters the noise moves."""

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

from salr.optim import SmoothOut
from tests.helpers.optim import Flat, assert_same

pytestmark = pytest.mark.usefixtures("default_device")


@pytest.mark.parametrize("base", [SGD, Adam])
@pytest.mark.parametrize("adaptive", [False, True])
def test_a_trajectory_is_the_twins(adaptive: bool, base: type[SGD | Adam]) -> None:
    """The gradient is that at θ + u, and the noise is what the generator gives, tensor by tensor."""
    fast, slow = Flat(), Flat()
    radius, rate = 0.2, 0.1
    optimizer = SmoothOut(base(fast.model.parameters(), lr=rate), radius, adaptive)
    held = nn.Parameter(slow.theta)
    twin_base = base([held], lr=rate)
    for iteration in range(15):
        torch.manual_seed(iteration)
        optimizer.step(fast.loss)
        fast.advance()
        torch.manual_seed(iteration)
        slow.theta = held.detach().clone()
        noise = []
        for parameter in slow.model.parameters():
            drawn = torch.empty_like(parameter).uniform_(-radius, radius)
            if adaptive:
                for place in range(len(parameter)):
                    drawn[place] *= radius * parameter.detach()[place].norm() / drawn[place].norm()
            noise.append(drawn.flatten())
        held.grad = slow.gradient_at(slow.theta + torch.cat(noise))
        slow.advance()
        twin_base.step()
        assert_same(fast, held.detach())


def test_the_noise_fills_its_interval_evenly() -> None:
    weight, seen = nn.Parameter(torch.ones(100_000)), []

    def closure() -> Tensor:
        seen.append(weight.detach().clone() - 1)
        return weight.sum()

    SmoothOut(SGD([weight], lr=0.0), 0.3).step(closure)
    assert seen[-1].abs().max() <= 0.3
    histogram = torch.histc(seen[-1], bins=10, min=-0.3, max=0.3) / len(weight)
    torch.testing.assert_close(histogram, torch.full((10,), 0.1), atol=0.005, rtol=0)


def test_the_noise_moves_all_but_batch_normalisation() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    inputs, targets = torch.randn(16, 4), torch.randint(3, (16,))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    moved: list[list[bool]] = []

    def closure() -> Tensor:
        if torch.is_grad_enabled():
            moved.append([not torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True)])
        return nn.functional.cross_entropy(model(inputs), targets)

    SmoothOut(SGD(model.parameters(), lr=0.0), 0.1).step(closure)
    assert moved == [[True, True, False, False, True, True]]
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert int(model[1].num_batches_tracked) == 1


def test_the_noise_of_a_scalar_is_in_proportion_to_it() -> None:
    scale, seen = nn.Parameter(torch.tensor(4.0)), []
    optimizer = SmoothOut(SGD([scale], lr=0.0), 0.1, adaptive=True)

    def closure() -> Tensor:
        seen.append(abs(float(scale.detach()) - 4))
        return scale**2

    optimizer.step(closure)
    assert seen[-1] == pytest.approx(0.4)


@pytest.mark.parametrize("adaptive", [False, True])
def test_what_the_forward_pass_does_to_a_parameter_is_kept(adaptive: bool) -> None:
    """An embedding's max_norm shortens its rows when they are looked up."""
    ends = []
    for smooth in (False, True):
        table = nn.Embedding(3, 4, max_norm=1.0, dtype=torch.float64)
        with torch.no_grad():
            table.weight.fill_(3.0)
        base: SGD | SmoothOut = SGD(table.parameters(), lr=0.1)
        optimizer = SmoothOut(base, 1e-9, adaptive) if smooth else base
        for row in range(3):

            def closure(row: int = row, table: nn.Embedding = table, optimizer: object = optimizer) -> Tensor:
                optimizer.zero_grad()  # type: ignore[attr-defined]
                loss = table(torch.tensor([row])).sum()
                loss.backward()
                return loss

            optimizer.step(closure)
        ends.append(table.weight.detach().clone())
    torch.testing.assert_close(*ends, rtol=1e-7, atol=1e-7)
    assert float(ends[0].norm(dim=1).max()) < 3

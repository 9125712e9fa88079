"""Each optimizer against a slow twin in float64 that does what its source says, in plain loops over flat vectors."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from salr.optim import SAM, LocalEntropy, ReleasedSALR, SmoothOut, WeightAverage, cyclic_rate, recompute_batch_statistics


class Flat:
    """A network on several batches, its parameters as one vector."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
        self.batches = [(torch.randn(8, 4).double(), torch.randint(3, (8,))) for _ in range(50)]
        self.place = 0

    def loss(self) -> Tensor:
        inputs, targets = self.batches[self.place % len(self.batches)]
        return nn.functional.cross_entropy(self.model(inputs), targets)

    def advance(self) -> None:
        self.place += 1

    @property
    def theta(self) -> Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in self.model.parameters()])

    @theta.setter
    def theta(self, values: Tensor) -> None:
        nn.utils.vector_to_parameters(values, self.model.parameters())

    def gradient_at(self, values: Tensor) -> Tensor:
        self.theta = values
        return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(self.loss(), list(self.model.parameters()))])

    def loss_at(self, values: Tensor) -> float:
        self.theta = values
        return float(self.loss().detach())


def assert_same(problem: Flat, theta: Tensor) -> None:
    torch.testing.assert_close(problem.theta, theta, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("base_is_adam", [False, True])
def test_local_entropy(base_is_adam: bool) -> None:
    """Langevin steps on fresh batches, Nesterov on the loss alone, the old mean weighs α, then the base steps along x − μ."""
    fast, slow = Flat(), Flat()
    steps, inner_lr, momentum, scope, growth, averaging = 4, 0.1, 0.9, 0.5, 0.2, 0.75
    parameters = fast.model.parameters()
    base = torch.optim.Adam(parameters, lr=0.05) if base_is_adam else torch.optim.SGD(parameters, lr=1.0)
    optimizer = LocalEntropy(base, steps, inner_lr, momentum, scope, growth, noise=0.0, averaging=averaging)
    held = nn.Parameter(slow.theta.clone())
    twin_base = torch.optim.Adam([held], lr=0.05) if base_is_adam else torch.optim.SGD([held], lr=1.0)
    for k in range(20):
        optimizer.step(fast.loss, fast.advance)
        fast.advance()
        x = held.detach().clone()
        inner, mean, velocity = x.clone(), x.clone(), torch.zeros_like(x)
        gamma = min(scope * (1 + growth) ** k, 1 / inner_lr)
        for _ in range(steps):
            gradient = slow.gradient_at(inner)
            velocity = momentum * velocity + gradient
            inner = inner - inner_lr * (gradient + momentum * velocity - gamma * (x - inner))
            mean = averaging * mean + (1 - averaging) * inner
            slow.advance()
        held.grad = x - mean
        twin_base.step()
        assert fast.place == slow.place
        assert_same(fast, held.detach())


def test_the_scope_grows_and_is_capped_where_it_would_diverge() -> None:
    problem = Flat()
    optimizer = LocalEntropy(torch.optim.SGD(problem.model.parameters(), lr=1.0))
    assert optimizer.current_scope == pytest.approx(0.03)
    optimizer.step(problem.loss)
    assert optimizer.current_scope == pytest.approx(0.03 * 1.001)
    for iterations, scope in ((5811, 0.03 * 1.001**5811), (5813, 10.0), (10**7, 10.0)):
        optimizer._iterations = iterations
        assert optimizer.current_scope == pytest.approx(scope)


def test_langevin_noise_has_the_stated_scale() -> None:
    """One step with no gradient moves x' by ε √(2 η') N(0, 1); μ takes (1 − α) of it."""
    weight = nn.Parameter(torch.zeros(200_000))
    optimizer = LocalEntropy(torch.optim.SGD([weight], lr=1.0), steps=1, noise=1e-2, scope=0.0, averaging=0.75)
    optimizer.step(lambda: (weight * 0).sum())
    assert float(weight.detach().std()) == pytest.approx(0.25 * 1e-2 * math.sqrt(0.2), rel=0.02)


def test_a_closure_that_takes_its_next_batch_by_itself_is_enough() -> None:
    fast, slow = Flat(), Flat()

    def taking() -> Tensor:
        loss = fast.loss()
        fast.advance()
        return loss

    ours = LocalEntropy(torch.optim.SGD(fast.model.parameters(), lr=1.0), noise=0.0)
    theirs = LocalEntropy(torch.optim.SGD(slow.model.parameters(), lr=1.0), noise=0.0)
    for _ in range(3):
        ours.step(taking)
        theirs.step(slow.loss, slow.advance)
        slow.advance()
        assert fast.place == slow.place
        assert torch.equal(fast.theta, slow.theta)


@pytest.mark.parametrize("adaptive", [False, True])
def test_sam(adaptive: bool) -> None:
    fast, slow = Flat(), Flat()
    rho = 0.1
    optimizer = SAM(torch.optim.SGD(fast.model.parameters(), lr=0.3), rho, adaptive)
    theta = slow.theta
    for _ in range(10):
        optimizer.step(fast.loss)
        gradient = slow.gradient_at(theta)
        size = theta.abs() if adaptive else torch.ones_like(theta)
        perturbation = rho * size**2 * gradient / (size * gradient).norm()
        theta = theta - 0.3 * slow.gradient_at(theta + perturbation)
        assert_same(fast, theta)


def test_sam_keeps_the_first_pass_statistics_and_shares_the_masks() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3))
    inputs, targets = torch.randn(16, 4), torch.randint(3, (16,))
    masks: list[Tensor] = []
    model[2].register_forward_hook(lambda _module, _inputs, output: masks.append(output == 0))
    with torch.no_grad():
        expected = 0.9 * model[1].running_mean + 0.1 * model[0](inputs).mean(0)
    SAM(torch.optim.SGD(model.parameters(), lr=0.1), 0.5).step(lambda: nn.functional.cross_entropy(model(inputs), targets))
    torch.testing.assert_close(model[1].running_mean, expected)
    assert int(model[1].num_batches_tracked) == 1
    assert torch.equal(masks[0], masks[1])


@pytest.mark.parametrize("adaptive", [False, True])
def test_smoothout(adaptive: bool) -> None:
    """The gradient is taken at θ + u, θ itself is not moved by u, and the noise is what the generator gives, tensor by tensor."""
    fast, slow = Flat(), Flat()
    radius = 0.2
    optimizer = SmoothOut(torch.optim.SGD(fast.model.parameters(), lr=0.3), radius, adaptive)
    theta = slow.theta
    for iteration in range(8):
        torch.manual_seed(iteration)
        optimizer.step(fast.loss)
        torch.manual_seed(iteration)
        slow.theta = theta
        noise = []
        for parameter in slow.model.parameters():
            drawn = torch.empty_like(parameter).uniform_(-radius, radius)
            if adaptive:
                for place in range(len(parameter)):
                    drawn[place] *= radius * parameter.detach()[place].norm() / drawn[place].norm()
            noise.append(drawn.flatten())
        theta = theta - 0.3 * slow.gradient_at(theta + torch.cat(noise))
        assert_same(fast, theta)


def test_smoothout_perturbs_all_but_batch_normalisation() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    inputs, targets = torch.randn(16, 4), torch.randint(3, (16,))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    moved: list[list[bool]] = []

    def closure() -> Tensor:
        if torch.is_grad_enabled():
            moved.append([not torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True)])
        return nn.functional.cross_entropy(model(inputs), targets)

    SmoothOut(torch.optim.SGD(model.parameters(), lr=0.0), 0.1).step(closure)
    assert moved == [[True, True, False, False, True, True]]
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert int(model[1].num_batches_tracked) == 1


def test_the_noise_of_a_scalar_is_in_proportion_to_it() -> None:
    scale, seen = nn.Parameter(torch.tensor(4.0)), []
    optimizer = SmoothOut(torch.optim.SGD([scale], lr=0.0), 0.1, adaptive=True)

    def closure() -> Tensor:
        seen.append(abs(float(scale.detach()) - 4))
        return scale**2

    optimizer.step(closure)
    assert seen[-1] == pytest.approx(0.4)


def test_released_salr() -> None:
    """Measured after the update: five clipped ascent steps, then five descent steps from there; capped, and 1 near the median."""
    import numpy as np

    fast, slow = Flat(), Flat()
    scale, limit, cap, rate = 0.5, 0.01, 1.2, 0.4
    optimizer = ReleasedSALR(torch.optim.SGD(fast.model.parameters(), lr=rate), scale, limit, interval=1, cap=cap)
    theta, factor, history = slow.theta, 1.0, []
    for _ in range(12):
        optimizer.step(fast.loss)
        fast.advance()
        theta = theta - rate * factor * slow.gradient_at(theta)
        point = theta.clone()
        for _ in range(5):
            point = point + (scale * slow.gradient_at(point)).clamp(-limit, limit)
        ascended = slow.loss_at(point)
        for _ in range(5):
            point = point - (scale * slow.gradient_at(point)).clamp(-limit, limit)
        sharpness = ascended - slow.loss_at(point)
        slow.advance()
        history.append(sharpness)
        low, high = np.quantile(history, (0.49, 0.51))
        factor = 1.0 if low <= sharpness <= high else min(cap, sharpness / float(np.median(history)))
        assert_same(fast, theta)
        assert float(optimizer.lr_factor) == pytest.approx(factor)


def test_an_average_is_the_mean_of_what_it_was_shown() -> None:
    model = nn.Linear(3, 2)
    average = WeightAverage(model)
    shown = []
    for _ in range(4):
        with torch.no_grad():
            model.weight.normal_()
        average.update()
        shown.append(model.weight.detach().clone())
    other = WeightAverage(nn.Linear(3, 2))
    other.load_state_dict(average.state_dict())
    torch.testing.assert_close(other.model.weight.detach(), torch.stack(shown).mean(0))


def test_recomputed_statistics_are_those_of_the_data_with_dropout_off() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    model[1].momentum = 0.3
    data = torch.randn(60, 3) * 2 + 1
    model(data * 9)  # what has been recorded before does not count
    recompute_batch_statistics(model, ({"x": part} for part in data.split(20)), lambda m, batch: m(batch["x"]))
    torch.testing.assert_close(model[1].running_mean, data.mean(0))
    spread = torch.stack([part.var(0) for part in data.split(20)]).mean(0)
    torch.testing.assert_close(model[1].running_var, spread)
    assert model[1].momentum == 0.3
    assert model.training
    assert model[0].training


def test_statistics_are_recomputed_where_there_are_none_without_reading_a_batch() -> None:
    def unread() -> Tensor:
        raise AssertionError

    recompute_batch_statistics(nn.Linear(2, 2), (unread() for _ in range(1)))


def test_a_cycle_is_linear() -> None:
    assert [cyclic_rate(place, 5e-3, 1e-4) for place in (0.0, 0.5, 1.0)] == pytest.approx([5e-3, 2.55e-3, 1e-4])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda base: LocalEntropy(base, steps=0), "steps = 0"),
        (lambda base: LocalEntropy(base, inner_lr=0.0), "inner_lr = 0.0"),
        (lambda base: LocalEntropy(base, averaging=1.0), "averaging = 1.0"),
        (lambda base: LocalEntropy(base, scope=-1.0), "scope = -1.0"),
        (lambda base: SAM(base, rho=0.0), "rho = 0.0"),
        (lambda base: SmoothOut(base, radius=math.inf), "radius = inf"),
        (lambda base: ReleasedSALR(base, cap=0.0), "cap = 0.0"),
        (lambda base: ReleasedSALR(base, step_limit=-1.0), "step_limit = -1.0"),
    ],
)
def test_values_out_of_range(build: Callable[[torch.optim.Optimizer], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1))


@pytest.mark.parametrize("outer", [SAM, lambda base: SmoothOut(base, 0.1)])
def test_methods_that_choose_where_the_gradient_is_taken_refuse_a_wrapper(outer: Callable[..., object]) -> None:
    base = LocalEntropy(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1))
    with pytest.raises(TypeError, match="expected an optimizer that is not a wrapper"):
        outer(base)

"""What an iteration of each optimizer leaves beside its update.

It leaves as much as its plain gradients leave, and nothing waits for a device.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

from salr.closures import SideState
from tests.helpers.devices import no_waiting
from tests.helpers.optim import METHODS, Problem, build, same

every_method = pytest.mark.parametrize("method", METHODS)


@every_method
def test_with_a_zero_rate_nothing_moves_and_statistics_see_each_batch_once(method: str) -> None:
    problem = Problem()
    optimizer = build(method, problem, lr=0.0)
    before = [parameter.clone() for parameter in problem.parameters]
    problem.train(optimizer, 3)
    assert same(problem.parameters, before)
    assert int(problem.model[1].num_batches_tracked) == 3 * METHODS[method].batches


@pytest.mark.parametrize("method", ["salr", "released", "sam", "salr+sam"])
def test_another_optimizers_parameters_get_the_gradient_of_one_evaluation(method: str) -> None:
    """Two optimizers of one network.

    The second steps with what the closure's gradient has left, once and not eleven times.
    """
    problem, reference = Problem(noise=False), Problem(noise=False)
    optimizer = METHODS[method].wrap(SGD(problem.parameters[:2], lr=0.0))
    reference.loss().backward()
    optimizer.step(problem.loss)
    mine, expected = problem.model[2].weight.grad, reference.model[2].weight.grad
    assert mine is not None
    assert expected is not None
    torch.testing.assert_close(mine, expected, rtol=0, atol=0)


@every_method
def test_the_generator_of_an_accelerator_ends_where_plain_steps_leave_it(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a pretended accelerator whose generator is a count of draws.

    The network draws once per evaluation.
    """

    class Accelerator:
        drawn = torch.zeros(())

        def get_rng_state(self, device: torch.device) -> Tensor:
            assert device.type == "cuda"
            return self.drawn

        def set_rng_state(self, state: Tensor, device: torch.device) -> None:
            assert device.type == "cuda"
            self.drawn = state

    accelerator, problem, seen = Accelerator(), Problem(), []
    monkeypatch.setattr(torch, "get_device_module", lambda _: accelerator)
    # as if the parameters were there
    monkeypatch.setattr(SideState, "_devices", lambda _: {torch.device("cuda", 0)})

    def closure() -> Tensor:
        accelerator.drawn = accelerator.drawn + 1
        seen.append(float(accelerator.drawn))
        return problem.loss()

    optimizer = build(method, problem)
    for iteration in range(1, 5):
        seen.clear()
        optimizer.step(closure)
        assert float(accelerator.drawn) == iteration * METHODS[method].batches
        if method in ("salr", "sam", "salr+sam"):
            assert set(seen) == {iteration}  # all evaluations of an iteration see the same noise


@every_method
def test_noise_that_only_a_loss_draws_is_given_back(method: str) -> None:
    """A forward pass may draw less or more if no gradient is taken.

    The generator still ends where gradients leave it.
    """
    problem, drawn = Problem(noise=False), Problem(noise=False)

    def closure(problem: Problem = problem) -> Tensor:
        return problem.loss() + 0 * torch.rand(1 if torch.is_grad_enabled() else 3).sum()

    torch.manual_seed(0)
    build(method, problem).step(closure)
    torch.manual_seed(0)
    if "smoothout" in method:
        for parameter in problem.parameters:
            torch.empty_like(parameter).uniform_()
    for _ in range(METHODS[method].batches):
        torch.rand(1)
        if "local_entropy" in method:
            for parameter in problem.parameters:
                torch.randn_like(parameter)
    after = torch.rand(1)
    torch.manual_seed(0)
    build(method, drawn).step(lambda: closure(drawn))
    assert torch.equal(torch.rand(1), after)


@pytest.mark.parametrize("method", ["salr", "sam", "salr+sam"])
def test_all_evaluations_of_an_iteration_start_from_the_same_carried_state(method: str) -> None:
    class Carrying(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))
            self.register_buffer("state", torch.zeros(()))
            self.seen: list[float] = []

        def forward(self) -> Tensor:
            self.seen.append(float(self.state))
            self.state = self.state + 1
            return (self.weight - self.state) ** 2

    model = Carrying()
    optimizer = METHODS[method].wrap(SGD(model.parameters(), lr=0.01))
    for iteration in range(3):
        model.seen.clear()
        optimizer.step(model)
        assert set(model.seen) == {iteration}
    assert float(model.state) == 3


@pytest.mark.usefixtures("default_device")
@every_method
@pytest.mark.parametrize("base", [SGD, Adam])
def test_no_value_is_read_by_the_host(method: str, base: type[SGD | Adam]) -> None:
    """With a rate held in a tensor and a fused base, as on an accelerator."""
    problem = Problem(dtype=torch.float32)
    optimizer = METHODS[method].wrap(base(problem.parameters, lr=torch.tensor(0.1), fused=True))
    with no_waiting():
        problem.train(optimizer, 3)
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(0.1)


@pytest.mark.parametrize("method", ["salr", "sam", "salr+sam"])
def test_modules_that_are_called_later_are_found_when_their_parameters_are_used(method: str) -> None:
    """Heads that the closure calls by itself, in turn.

    Each is left as plain steps leave it, from the first one on.
    """
    torch.manual_seed(0)
    body, heads = nn.Linear(3, 4), [nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1)) for _ in range(3)]
    parameters = [parameter for module in (body, *heads) for parameter in module.parameters()]
    optimizer = METHODS[method].wrap(SGD(parameters, lr=0.01))
    inputs = torch.randn(8, 3)
    for turn in range(1, 4):
        for head in heads:
            for _ in range(2):
                optimizer.step(lambda head=head: head(body(inputs)).square().mean())
            assert int(head[0].num_batches_tracked) == 2 * turn

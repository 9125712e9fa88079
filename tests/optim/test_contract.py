"""What every optimizer of the library keeps, whatever its method and its base."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR, StepLR

from salr.optim import SALR, ReleasedSALR, Wrapper
from tests.helpers.devices import random_state, set_random_state
from tests.helpers.optim import BASES, METHODS, Problem, build, same

pytestmark = pytest.mark.usefixtures("default_device")

every_method = pytest.mark.parametrize("method", METHODS)
every_base = pytest.mark.parametrize("base", BASES)


@every_method
@every_base
def test_converges(method: str, base: str) -> None:
    problem = Problem()
    optimizer = build(method, problem, base)
    before = float(problem.loss().detach())
    problem.train(optimizer, 80)
    problem.model.eval()
    assert float(problem.loss().detach()) < before / 2


def saved(optimizer: Wrapper) -> bytes:
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    return file.getvalue()


@every_method
@every_base
def test_a_state_goes_through_a_file_and_the_run_goes_on_exactly(method: str, base: str) -> None:
    problem = Problem()
    optimizer = build(method, problem, base)
    problem.train(optimizer, 5)
    file = io.BytesIO()
    torch.save([problem.model.state_dict(), optimizer.state_dict(), random_state()], file)
    file.seek(0)
    model, state, noise = torch.load(file, weights_only=True)
    other = Problem()
    other.model.load_state_dict(model)
    other.place = problem.place
    resumed = build(method, other, base, lr=7.0)
    resumed.load_state_dict(state)
    assert saved(resumed) == saved(optimizer)
    set_random_state(noise)
    expected = problem.train(optimizer, 5)
    set_random_state(noise)
    assert same(other.train(resumed, 5), expected)
    assert saved(resumed) == saved(optimizer)


@every_method
def test_a_state_of_another_optimizer_is_refused(method: str) -> None:
    problem = Problem()
    optimizer = build(method, problem)
    with pytest.raises(
        ValueError, match=rf"\A.*expected the state_dict\(\) of a {type(optimizer).__name__}.*\Z"
    ):
        optimizer.load_state_dict(SGD(problem.parameters, lr=0.1).state_dict())


@every_method
@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_a_copy_goes_its_own_way(method: str, way: str) -> None:
    problem = Problem()
    optimizer = build(method, problem, "adam")
    StepLR(optimizer, 3)  # puts a method of its own over step
    problem.train(optimizer, 3)
    pair = (problem, optimizer)
    other, its = copy.deepcopy(pair) if way == "deepcopy" else pickle.loads(pickle.dumps(pair))  # noqa: S301 - our own bytes
    noise, untouched = random_state(), other.values()
    trained = problem.train(optimizer, 4)
    assert same(other.values(), untouched)
    set_random_state(noise)
    assert same(other.train(its, 4), trained)


@every_method
def test_an_optimizer_is_pickled_without_its_hooks_and_the_network_that_it_has_seen(method: str) -> None:
    problem = Problem()
    problem.model.register_forward_hook(lambda *_: None)  # cannot be pickled
    optimizer = build(method, problem)
    fired: list[int] = []
    for one in (optimizer, optimizer.base):
        one.register_step_post_hook(lambda *_: fired.append(1))
    problem.train(optimizer, 2)
    other = pickle.loads(pickle.dumps(optimizer))  # noqa: S301 - our own bytes
    assert same(other.parameters, problem.parameters)
    fired.clear()
    other.step(lambda: sum(parameter.square().sum() for parameter in other.parameters))
    other.register_step_post_hook(lambda *_: fired.append(2))
    other.step(lambda: sum(parameter.square().sum() for parameter in other.parameters))
    assert fired == [2]  # hooks stay behind, as torch's do


@every_method
def test_a_scheduler_owns_the_base_rate(method: str) -> None:
    problem = Problem()
    optimizer = build(method, problem)
    used: list[float] = []
    innermost: Optimizer = optimizer
    while isinstance(innermost, Wrapper):
        innermost = innermost.base
    innermost.register_step_pre_hook(lambda base, *_: used.append(float(base.param_groups[0]["lr"])))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a scheduler warns where it does not see the optimizer's steps
        scheduler = StepLR(optimizer, 2, 0.1)
        for iteration in range(6):
            rate = optimizer.param_groups[0]["lr"]
            assert rate == pytest.approx(0.3 * 0.1 ** (iteration // 2))
            factor = (
                optimizer.lr_factor if isinstance(optimizer, ReleasedSALR) else None
            )  # the one of before the step
            problem.train(optimizer, 1)
            factor = optimizer.lr_factor if isinstance(optimizer, SALR) and factor is None else factor
            assert used[-1] == pytest.approx(rate * (1.0 if factor is None else float(factor)))
            assert optimizer.param_groups[0]["lr"] == rate
            scheduler.step()


@every_method
def test_groups_have_their_own_rates(method: str) -> None:
    moves = []
    for rates in ((0.1, 0.1), (0.1, 0.3)):
        problem = Problem(noise=False)
        groups = [
            {"params": problem.parameters[:2], "lr": rates[0]},
            {"params": problem.parameters[2:], "lr": rates[1]},
        ]
        before = [parameter.clone() for parameter in problem.parameters]
        torch.manual_seed(0)
        METHODS[method].wrap(SGD(groups)).step(problem.loss)
        moves.append([parameter - old for parameter, old in zip(problem.parameters, before, strict=True)])
    torch.testing.assert_close(moves[1], [*moves[0][:2], *(3 * move for move in moves[0][2:])])


@every_method
@pytest.mark.parametrize("as_tensor", [False, True])
def test_rates_shared_by_groups_come_out_as_they_were(method: str, as_tensor: bool) -> None:
    """torch hands one and the same rate tensor to all groups, which must then be scaled once."""
    ends = []
    for grouped in (False, True):
        problem = Problem(noise=False)
        groups = (
            [{"params": [parameter]} for parameter in problem.parameters] if grouped else problem.parameters
        )
        torch.manual_seed(0)
        optimizer = METHODS[method].wrap(
            SGD(groups, lr=torch.tensor(0.3, dtype=torch.float64) if as_tensor else 0.3)
        )
        tensors = [group["lr"] for group in optimizer.param_groups]
        ends.append(problem.train(optimizer, 4))
        assert all(
            group["lr"] is rate or not as_tensor
            for group, rate in zip(optimizer.param_groups, tensors, strict=True)
        )
        assert all(float(group["lr"]) == 0.3 for group in optimizer.param_groups)
    assert same(*ends)


@every_method
def test_an_added_group_is_trained(method: str) -> None:
    problem = Problem()
    optimizer = METHODS[method].wrap(SGD(problem.parameters, lr=0.1))
    problem.train(optimizer, 2)
    head = nn.Sequential(nn.BatchNorm1d(3, affine=False), nn.Linear(3, 3)).double()
    optimizer.add_param_group({"params": list(head.parameters())})
    before = head[1].weight.detach().clone()
    inputs, targets = problem.batches[0]
    for _ in range(2):
        optimizer.step(lambda: nn.functional.cross_entropy(head(problem.model(inputs)), targets))
    assert not torch.equal(head[1].weight, before)
    assert int(head[0].num_batches_tracked) == 2 * METHODS[method].batches


@every_method
def test_frozen_and_unused_parameters_stay(method: str) -> None:
    problem = Problem()
    unused, frozen = nn.Parameter(torch.ones(2).double()), problem.model[0].weight
    optimizer = METHODS[method].wrap(SGD([*problem.parameters, unused], lr=0.3, weight_decay=0.1))
    problem.train(optimizer, 2)
    frozen.requires_grad_(False)  # it keeps the gradient of the last step
    before = frozen.clone()
    problem.train(optimizer, 2)
    assert torch.equal(frozen, before)
    assert torch.equal(unused, torch.ones(2).double())
    assert unused.grad is None


@every_method
def test_hooks_fire(method: str) -> None:
    problem, fired = Problem(), []
    optimizer = build(method, problem)
    optimizer.register_step_pre_hook(lambda *_: fired.append("before"))
    optimizer.register_step_post_hook(lambda *_: fired.append("after"))
    optimizer.register_state_dict_post_hook(lambda _, state: state | {"mine": 1})
    optimizer.register_load_state_dict_pre_hook(
        lambda _, state: {k: v for k, v in state.items() if k != "mine"}
    )
    problem.train(optimizer, 1)
    assert fired == ["before", "after"]
    state = optimizer.state_dict()
    assert state["mine"] == 1
    optimizer.load_state_dict(state)


@every_method
def test_a_base_that_needs_a_closure(method: str) -> None:
    problem = Problem(noise=False)
    problem.batches = problem.batches[:1]
    optimizer = METHODS[method].wrap(torch.optim.LBFGS(problem.parameters, lr=0.3, max_iter=4))
    first = float(problem.loss().detach())
    problem.train(optimizer, 15)
    assert float(problem.loss().detach()) < first / 10


def test_a_schedule_may_differ_by_group() -> None:
    problem = Problem()
    optimizer = SALR(SGD([{"params": [parameter]} for parameter in problem.parameters], lr=0.1))
    scheduler = LambdaLR(
        optimizer, [lambda _, rank=rank: 1.0 + rank for rank in range(len(problem.parameters))]
    )
    problem.train(optimizer, 2)
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
        [0.1 * (1 + rank) for rank in range(6)]
    )

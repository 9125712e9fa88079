"""SALR's bound and state, and the bases, measures and states that it refuses."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.optim import ASGD, SGD, Adam, Optimizer, Rprop

from salr.optim import SALR
from salr.sharpness import AscentDescent, GradientNorm, TopEigenvalue
from tests.helpers.devices import random_state, set_random_state
from tests.helpers.optim import Problem, same

pytestmark = pytest.mark.usefixtures("default_device")


def test_the_factor_stays_below_its_bound() -> None:
    problem = Problem(noise=False)
    scale = [1.0]
    optimizer = SALR(SGD(problem.parameters, lr=1e-3), GradientNorm(), interval=1, max_factor=1.5)
    factors = []
    for size in (1, 1, 100, 1, 1, 0.1):
        scale[0] = size
        optimizer.step(lambda: scale[0] * problem.loss())
        factors.append(float(optimizer.lr_factor))
    assert factors[2] == 1.5
    assert factors[5] < 0.2


def test_an_eigenvector_goes_through_a_file_and_the_base_never_sees_it() -> None:
    problem = Problem()
    optimizer = SALR(Adam(problem.parameters, lr=0.1), TopEigenvalue())
    fresh = optimizer.state_dict()["state"]
    assert {key for entry in fresh.values() for key in entry} == {"SALR.direction"}
    problem.train(optimizer, 3)
    assert all("SALR.direction" not in entry for entry in optimizer.state.values())
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    other = problem.copy()
    resumed = SALR(Adam(other.parameters, lr=7.0), TopEigenvalue())
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert all("SALR.direction" not in entry for entry in resumed.state.values())
    noise = random_state()
    expected = problem.train(optimizer, 4)
    set_random_state(noise)
    assert same(other.train(resumed, 4), expected)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("base", [SGD, Adam])
def test_an_eigenvector_goes_through_a_distributed_checkpoint(base: type[Optimizer], tmp_path: Path) -> None:
    problem = Problem()
    optimizer = SALR(base(problem.parameters, lr=0.1), TopEigenvalue())
    problem.train(optimizer, 3)
    checkpoint.save({"optimizer": get_optimizer_state_dict(problem.model, optimizer)}, checkpoint_id=tmp_path)
    other = problem.copy()
    resumed = SALR(base(other.parameters, lr=0.5), TopEigenvalue())
    state = {"optimizer": get_optimizer_state_dict(other.model, resumed)}
    checkpoint.load(state, checkpoint_id=tmp_path)
    set_optimizer_state_dict(other.model, resumed, state["optimizer"])
    noise = random_state()
    expected = problem.train(optimizer, 4)
    set_random_state(noise)
    assert same(other.train(resumed, 4), expected)
    assert torch.equal(resumed.last_sharpness, optimizer.last_sharpness)


def test_a_state_before_the_first_step_can_be_loaded_by_a_base_with_a_state_of_its_own() -> None:
    problem, other = Problem(), Problem()
    optimizer = SALR(Adam(problem.parameters, lr=0.1), TopEigenvalue())
    resumed = SALR(Adam(other.parameters, lr=0.1), TopEigenvalue())
    resumed.load_state_dict(optimizer.state_dict())
    torch.manual_seed(0)
    expected = problem.train(optimizer, 2)
    torch.manual_seed(0)
    assert same(other.train(resumed, 2), expected)


def test_a_state_of_another_measure_is_refused_and_nothing_changes() -> None:
    problem = Problem()
    optimizer = SALR(Adam(problem.parameters, lr=0.1), TopEigenvalue())
    problem.train(optimizer, 2)
    other = SALR(Adam(problem.parameters, lr=0.3), GradientNorm())
    before = repr(other.state_dict())
    with pytest.raises(ValueError, match=r"it is of the measure TopEigenvalue; expected GradientNorm"):
        other.load_state_dict(optimizer.state_dict())
    assert repr(other.state_dict()) == before


def test_a_step_that_fails_after_the_measurement_can_be_tried_again() -> None:
    """The eigenvector and the median are as before the failed step."""
    problem, twin, failing = Problem(), Problem(), [False]

    def loss(problem: Problem) -> Tensor:
        if failing[0]:
            raise RuntimeError("out of memory")
        return problem.loss()

    class Fails(SGD):
        def step(self, closure=None):  # type: ignore[no-untyped-def, override]
            if failing[0]:
                raise RuntimeError("out of memory")
            return super().step(closure)

    pair = [
        (one, SALR(Fails(one.parameters, lr=0.1), TopEigenvalue(), interval=1)) for one in (problem, twin)
    ]
    (_, optimizer), (_, reference) = pair
    for one, its in pair:
        torch.manual_seed(0)
        one.train(its, 2)
    noise, failing[0] = random_state(), True
    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step(problem.loss)
    failing[0] = False
    set_random_state(noise)
    expected = twin.train(reference, 1)
    set_random_state(noise)
    assert same(problem.train(optimizer, 1), expected)
    assert torch.equal(optimizer.last_sharpness, reference.last_sharpness)


@pytest.mark.parametrize("base", [ASGD, Rprop])
def test_a_base_that_reads_its_rate_once_is_refused(base: type[Optimizer]) -> None:
    with pytest.raises(
        ValueError, match=rf"\Abase = {base.__name__}: it reads its lr only at its first step"
    ):
        SALR(base([torch.ones(1, requires_grad=True)], lr=0.1))


def test_a_base_without_a_rate_is_refused() -> None:
    base = SGD([torch.ones(1, requires_grad=True)], lr=0.1)
    base.param_groups[0]["lr"] = None
    with pytest.raises(ValueError, match=r"\Abase = SGD has no lr, which SALR scales; expected a number\Z"):
        SALR(base)


def test_what_is_no_measure_is_refused() -> None:
    base = SGD([torch.ones(1, requires_grad=True)], lr=0.1)
    with pytest.raises(
        TypeError, match=r"\Ameasure = 0\.002; expected a measure of salr\.sharpness, as in SALR"
    ):
        SALR(base, 0.002)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="gamma"):
        SALR(base, gamma=0.002)  # type: ignore[call-arg]


@pytest.mark.parametrize("tensor", [False, True])
def test_a_rate_that_the_base_changes_in_its_step_stays_changed(tensor: bool) -> None:
    class Decaying(SGD):
        def step(self, closure=None):  # type: ignore[no-untyped-def, override]
            loss = super().step(closure)
            for group in self.param_groups:
                group["lr"] = group["lr"] * 0.5
            return loss

    problem = Problem(noise=False)
    rate = torch.tensor(0.1, dtype=torch.float64) if tensor else 0.1
    optimizer = SALR(Decaying(problem.parameters, lr=rate), GradientNorm(), interval=1)
    problem.train(optimizer, 4)
    assert float(optimizer.lr_factor) != 1
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(0.1 / 2**4)


def test_an_eigenvector_of_a_parameter_that_is_frozen_meanwhile_is_kept() -> None:
    problem = Problem(noise=False)
    optimizer = SALR(SGD(problem.parameters, lr=1e-3), TopEigenvalue(), interval=1)
    problem.train(optimizer, 20)
    for frozen in (problem.parameters[:1], problem.parameters):
        other = problem.copy()
        for parameter in frozen:
            parameter.requires_grad_(False)
        resumed = SALR(SGD(other.parameters, lr=1e-3), TopEigenvalue(), interval=1)
        resumed.load_state_dict(optimizer.state_dict())
        for parameter in frozen:
            parameter.requires_grad_(True)
        assert same(other.train(resumed, 2), problem.train(optimizer, 2))
        assert torch.equal(resumed.last_sharpness, optimizer.last_sharpness)
        assert torch.equal(resumed.lr_factor, optimizer.lr_factor)


def test_one_measure_serves_two_optimizers() -> None:
    measure = TopEigenvalue()
    together = [Problem(noise=False) for _ in range(2)]
    with torch.no_grad():
        together[1].parameters[0].mul_(3)
    apart = [problem.copy() for problem in together]
    ends = []
    for problems in (together, apart):
        optimizers = [
            SALR(SGD(each.parameters, lr=0.1), measure if problems is together else TopEigenvalue())
            for each in problems
        ]
        for _ in range(6):
            for problem, optimizer in zip(problems, optimizers, strict=True):
                problem.train(optimizer, 1)
        ends.append([value for problem in problems for value in problem.values()])
    assert same(*ends)


def test_a_group_that_maximises_is_refused_later_too() -> None:
    x, y = (torch.ones(2, requires_grad=True) for _ in range(2))
    optimizer = SALR(SGD([x], lr=0.1))
    optimizer.add_param_group({"params": [y], "lr": 0.3})
    other = SALR(SGD([x], lr=0.1), TopEigenvalue())
    with pytest.raises(ValueError, match="maximize=True with TopEigenvalue"):
        other.add_param_group({"params": [y], "maximize": True})
    assert [len(each.param_groups) for each in (optimizer, other)] == [2, 1]


def test_a_group_in_half_precision_is_named() -> None:
    x, y = torch.ones(2, requires_grad=True), torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    optimizer = SALR(SGD([x], lr=0.1))
    with pytest.warns(UserWarning, match="SALR moves parameters by less than"):
        optimizer.add_param_group({"params": [y]})


def test_a_value_of_numpy_goes_through_a_file() -> None:
    optimizer = SALR(SGD(Problem().parameters, lr=0.1), AscentDescent(gamma=np.float64(2e-3)))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    optimizer.load_state_dict(torch.load(file, weights_only=True))


def test_a_state_can_be_saved_after_a_group_has_gone() -> None:
    x, y = (torch.ones(2, requires_grad=True) for _ in range(2))
    optimizer = SALR(SGD([{"params": [x]}, {"params": [y]}], lr=0.1), TopEigenvalue())
    optimizer.step(lambda: (x * y).square().sum())
    del optimizer.param_groups[1]
    fresh = SALR(SGD([x], lr=0.1), TopEigenvalue())
    fresh.load_state_dict(optimizer.state_dict())
    for each in (optimizer, fresh):
        each.step(lambda: x.square().sum())
    assert torch.equal(fresh.last_sharpness, optimizer.last_sharpness)

"""torch.distributed.checkpoint keeps every wrapper's state exactly, through files."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from salr.optim import Wrapper
from tests.helpers.optim import METHODS, Problem, build, same

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def numbers(optimizer: Wrapper) -> list[Tensor]:
    """What SALR shows of itself."""
    names = ("last_sharpness", "median_sharpness", "lr_factor")
    return [getattr(optimizer, name).clone() for name in names if hasattr(optimizer, name)]


def saved_and_loaded(problem: Problem, optimizer: Wrapper, method: str, base: str, folder: Path) -> Any:
    """Return a fresh model and optimizer with the state from the files."""
    state = {"model": problem.model.state_dict(), "optim": get_optimizer_state_dict(problem.model, optimizer)}
    checkpoint.save(state, checkpoint_id=folder, no_dist=True)
    fresh = Problem()
    fresh.place = problem.place
    other = build(method, fresh, base)
    state = {"model": fresh.model.state_dict(), "optim": get_optimizer_state_dict(fresh.model, other)}
    checkpoint.load(state, checkpoint_id=folder, no_dist=True)
    fresh.model.load_state_dict(state["model"])
    set_optimizer_state_dict(fresh.model, other, state["optim"])
    return fresh, other


@pytest.mark.parametrize("base", ["sgd", "adam"])
@pytest.mark.parametrize("method", METHODS)
def test_a_run_from_the_files_is_one_that_never_stopped(method: str, base: str, tmp_path: Path) -> None:
    problem = Problem()
    optimizer = build(method, problem, base)
    problem.train(optimizer, 3)  # between two measurements
    fresh, other = saved_and_loaded(problem, optimizer, method, base, tmp_path)
    assert [group["lr"] for group in other.param_groups] == [group["lr"] for group in optimizer.param_groups]
    assert same(numbers(optimizer), numbers(other))
    ends = []
    for one, of in ((problem, optimizer), (fresh, other)):
        torch.manual_seed(7)
        ends.append([*one.train(of, 4), *numbers(of)])
    assert same(*ends)


@pytest.mark.parametrize("method", METHODS)
def test_asking_for_the_state_of_a_new_optimizer_is_no_iteration(method: str) -> None:
    """torch fills an empty state by a step without a closure at rate 0."""
    ends = []
    for asked in (False, True):
        problem = Problem()
        optimizer = build(method, problem, "sgd")
        if asked:
            get_optimizer_state_dict(problem.model, optimizer)
        torch.manual_seed(7)
        ends.append([*problem.train(optimizer, 3), *numbers(optimizer)])
    assert same(*ends)

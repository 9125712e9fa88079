"""Where a wrapper's own state goes, through which doors it comes back exactly, and what is refused."""

import copy
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.optim import SGD, Adam, Optimizer

from salr.optim import SALR, SAM, LocalEntropy, SmoothOut, Wrapper
from salr.sharpness import AscentDescent, GradientNorm, TopEigenvalue
from tests.helpers.devices import random_state, set_random_state
from tests.helpers.optim import METHODS, Problem, build, equal, same

pytestmark = pytest.mark.usefixtures("default_device")

every_method = pytest.mark.parametrize("method", METHODS)


def plain(value: Any) -> bool:
    """Whether a value is made of plain numbers, strings and lists."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return all(plain(each) for each in value)
    return value is None or isinstance(value, bool | int | float | str)


@every_method
def test_own_state_is_plain_and_in_the_first_group_only(method: str) -> None:
    problem = Problem()
    optimizer = build(method, problem, "adam")
    problem.train(optimizer, 3)
    base: Any = optimizer
    while isinstance(base, Wrapper):
        base = base.base
    theirs, ours = base.state_dict(), optimizer.state_dict()
    assert set(ours) == set(theirs)
    extra = {
        name: value
        for name, value in ours["param_groups"][0].items()
        if name not in theirs["param_groups"][0]
    }
    names = [type(optimizer).__name__] + (
        [type(optimizer.base).__name__] if isinstance(optimizer.base, Wrapper) else []
    )
    assert sorted(extra) == sorted(names)
    assert all(isinstance(value, dict) and plain(value) for value in extra.values())


def saved(state: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def ways(
    problem: Problem, optimizer: Wrapper, other: Problem, fresh: Wrapper, folder: Path, way: str
) -> None:
    """Carry the state over to the fresh optimizer."""
    if way == "file":
        torch.save(optimizer.state_dict(), folder / "state.pt")
        fresh.load_state_dict(torch.load(folder / "state.pt", weights_only=True))
    elif way == "distributed":
        state = copy.deepcopy(get_optimizer_state_dict(problem.model, optimizer))  # it shares the tensors
        set_optimizer_state_dict(other.model, fresh, state)
    else:
        dcp.save({"optimizer": get_optimizer_state_dict(problem.model, optimizer)}, checkpoint_id=folder)
        state = {"optimizer": get_optimizer_state_dict(other.model, fresh)}
        dcp.load(state, checkpoint_id=folder)
        set_optimizer_state_dict(other.model, fresh, state["optimizer"])


@every_method
@pytest.mark.parametrize("base", ["sgd", "adam"])
@pytest.mark.parametrize("way", ["file", "distributed", "distributed files"])
@pytest.mark.filterwarnings(
    "ignore:torch.distributed is:UserWarning", "ignore:.*_get_pg_default_device:UserWarning"
)
def test_a_state_comes_back_exactly(method: str, base: str, way: str, tmp_path: Path) -> None:
    problem, other = Problem(), Problem()
    optimizer, fresh = build(method, problem, base), build(method, other, base)
    problem.train(optimizer, 5)
    optimizer.zero_grad()
    other.model.load_state_dict(problem.model.state_dict())
    other.place = problem.place
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torch.distributed")
        ways(problem, optimizer, other, fresh, tmp_path, way)
    assert fresh.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] != 0
    assert equal(fresh.state_dict(), optimizer.state_dict())
    noise = random_state()
    expected = problem.train(optimizer, 4)
    set_random_state(noise)
    assert same(other.train(fresh, 4), expected)


@every_method
@pytest.mark.parametrize("base", ["sgd", "adam"])
def test_the_step_that_fills_a_state_does_not_count(method: str, base: str) -> None:
    """torch.distributed.checkpoint steps without a closure, with zero rates and gradients."""
    asked, never = Problem(), Problem()
    ends = []
    for problem in (asked, never):
        optimizer = build(method, problem, base)
        if problem is asked:
            before = problem.values()
            get_optimizer_state_dict(problem.model, optimizer)
            assert same(problem.values(), before)
            assert all(group["lr"] == (0.3 if base == "sgd" else 0.02) for group in optimizer.param_groups)
        own = optimizer.state_dict()["param_groups"][0][type(optimizer).__name__]
        torch.manual_seed(0)
        ends.append((saved(own), problem.train(optimizer, 3) if base == "sgd" else []))
    assert ends[0][0] == ends[1][0]
    assert same(ends[0][1], ends[1][1])


def test_a_rate_that_is_warmed_up_from_zero_counts() -> None:
    problem = Problem()
    optimizer = SALR(SGD(problem.parameters, lr=0.0))
    problem.loss().backward()
    with pytest.warns(UserWarning, match="a measurement was due"):
        optimizer.step()
    assert optimizer.state_dict()["param_groups"][0]["SALR"]["iterations"] == 1


@every_method
def test_the_form_of_earlier_versions_is_read(method: str) -> None:
    """An entry named after the class at the top."""
    problem, other = Problem(), Problem()
    optimizer, fresh = build(method, problem, "adam"), build(method, other, "adam")
    problem.train(optimizer, 3)
    state = optimizer.state_dict()
    first = dict(state["param_groups"][0])
    old = {name: first.pop(name) for name in list(first) if isinstance(first[name], dict)}
    fresh.load_state_dict({**state, "param_groups": [first], **old})
    assert saved(fresh.state_dict()) == saved(state)


COMPOSITIONS = {
    "SALR": lambda base: SALR(base),
    "LocalEntropy": lambda base: LocalEntropy(base),
    "SALR(LocalEntropy)": lambda base: SALR(LocalEntropy(base)),
    "SALR(SAM)": lambda base: SALR(SAM(base)),
    "SAM": lambda base: SAM(base),
    "SmoothOut": lambda base: SmoothOut(base, 0.1),
    "base": lambda base: base,
}


@pytest.mark.parametrize("into", [name for name in COMPOSITIONS if name != "base"])
@pytest.mark.parametrize("source", COMPOSITIONS)
def test_the_state_of_another_composition_is_refused_and_nothing_changes(source: str, into: str) -> None:
    problem, other = Problem(), Problem()
    optimizer = COMPOSITIONS[source](Adam(problem.parameters, lr=0.1))
    if source == "base":
        problem.loss().backward()
        optimizer.step()
    else:
        problem.train(optimizer, 2)
    fresh = COMPOSITIONS[into](Adam(other.parameters, lr=0.2))
    other.train(fresh, 1)
    before = saved(fresh.state_dict())
    if source == into:
        fresh.load_state_dict(optimizer.state_dict())
        assert saved(fresh.state_dict()) == saved(optimizer.state_dict())
        return
    with pytest.raises(ValueError, match=r"\A[^\n]*expected the state_dict\(\) of a \w+[^\n]*\Z"):
        fresh.load_state_dict(optimizer.state_dict())
    assert saved(fresh.state_dict()) == before


def damaged(state: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The state, each time with one thing less or another in the wrapper's entry."""
    variants: list[Any] = [None, 3, []]
    entry = state["param_groups"][0][name]
    for key in entry:
        variants.append({other: value for other, value in entry.items() if other != key})
        variants.append({**entry, key: object()})
    damage = []
    for variant in variants:
        bad = copy.deepcopy({**state, "param_groups": [dict(group) for group in state["param_groups"]]})
        bad["param_groups"][0][name] = variant
        damage.append(bad)
    return [
        *damage,
        {**state, "param_groups": None},
        {"state": state["state"]},
        {**state, "param_groups": []},
    ]


# What SALR's own entry may lack has a meaning: states of earlier versions have fewer entries.
@pytest.mark.parametrize("into", ["LocalEntropy", "SmoothOut", "SAM", "SALR(LocalEntropy)"])
def test_a_damaged_state_is_refused_and_nothing_changes(into: str) -> None:
    problem = Problem()
    optimizer = COMPOSITIONS[into](Adam(problem.parameters, lr=0.1))
    problem.train(optimizer, 2)
    name = "LocalEntropy" if "LocalEntropy" in into else into
    for bad in damaged(optimizer.state_dict(), name):
        before = saved(optimizer.state_dict())
        with pytest.raises(ValueError, match=r"\A[^\n]*expected[^\n]*\Z"):
            optimizer.load_state_dict(bad)
        assert saved(optimizer.state_dict()) == before


@pytest.mark.parametrize("lost", ["iterations", "history", "last_sharpness", "lr_factor"])
def test_a_damaged_state_of_salr_is_refused_and_nothing_changes(lost: str) -> None:
    problem = Problem()
    optimizer = SALR(Adam(problem.parameters, lr=0.1))
    problem.train(optimizer, 3)
    before = saved(optimizer.state_dict())
    for change in (lambda entry: entry.pop(lost), lambda entry: entry.update({lost: "x"})):
        bad = copy.deepcopy(optimizer.state_dict())
        change(bad["param_groups"][0]["SALR"])
        with pytest.raises(ValueError, match=r"the state of SALR is damaged .*expected what state_dict"):
            optimizer.load_state_dict(bad)
        assert saved(optimizer.state_dict()) == before


@every_method
def test_the_bases_own_refusal_changes_nothing_either(method: str) -> None:
    problem = Problem()
    optimizer = build(method, problem, "adam")
    problem.train(optimizer, 2)
    before = saved(optimizer.state_dict())
    bad = copy.deepcopy(optimizer.state_dict())
    bad["param_groups"].append(dict(bad["param_groups"][0]))
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict(bad)
    assert saved(optimizer.state_dict()) == before


def test_groups_and_state_can_be_assigned() -> None:
    """As Lightning's BaseFinetuning does."""
    problem = Problem()
    optimizer = SALR(SAM(Adam(problem.parameters[:2], lr=0.1)))
    problem.train(optimizer, 2)
    groups = copy.copy(optimizer.param_groups)
    groups.append({**groups[0], "params": problem.parameters[2:]})
    optimizer.param_groups, optimizer.state = groups, optimizer.state
    assert optimizer.base.base.param_groups is groups  # type: ignore[attr-defined]
    before = problem.values()
    problem.train(optimizer, 2)
    assert not torch.equal(problem.values()[2], before[2])
    assert int(problem.model[1].num_batches_tracked) == 4


def test_the_modes_of_a_base_are_forwarded() -> None:
    class TwoModes(SGD):
        mode = "train"

        def train(self) -> None:
            self.mode = "train"

        def eval(self) -> None:
            self.mode = "eval"

    problem = Problem()
    base = TwoModes(problem.parameters, lr=0.1)
    optimizer: Any = SALR(SAM(base))
    optimizer.eval()
    assert base.mode == "eval"
    optimizer.train()
    assert base.mode == "train"
    assert not hasattr(SALR(SGD(problem.parameters, lr=0.1)), "eval")


@every_method
def test_repr_shows_the_values_and_the_base(method: str) -> None:
    text = repr(build(method, Problem()))
    assert text.startswith(f"{type(build(method, Problem())).__name__}(")
    assert "around SGD (" in text
    assert "lr: 0.3" in text
    assert repr(SAM(SGD(Problem().parameters, lr=0.1), 0.2)).startswith(
        "SAM(rho=0.2, adaptive=False) around SGD ("
    )


def test_repr_of_salr_shows_its_measure_and_what_it_goes_around() -> None:
    base = SGD(Problem().parameters, lr=0.1)
    text = repr(SALR(LocalEntropy(base, steps=3), AscentDescent(gamma=0.1), interval=3))
    assert text.startswith(
        "SALR(measure=AscentDescent(gamma=0.1, descent_steps=5, ascent_steps=5), interval=3, "
        "shared_noise=True, max_factor=inf) around LocalEntropy(steps=3, inner_lr=0.1, "
    )
    assert text.endswith(repr(base))
    assert repr(SALR(base, GradientNorm())).startswith("SALR(measure=GradientNorm(), interval=2, ")


@pytest.mark.parametrize(
    ("saved", "loading", "advice"),
    [
        (lambda base: base, SALR, "optimizer.base.load_state_dict(state)"),
        (lambda base: base, SAM, "optimizer.base.load_state_dict(state)"),
        (lambda base: base, lambda base: SALR(SAM(base)), "optimizer.base.base.load_state_dict(state)"),
        (SAM, lambda base: SALR(SAM(base)), "optimizer.base.load_state_dict(state)"),
        (SAM, SALR, None),  # there is no place for SAM's entry
    ],
)
def test_the_state_of_a_base_is_answered_with_how_to_load_it(
    saved: Callable[[SGD], Optimizer], loading: Callable[[SGD], Wrapper], advice: str | None
) -> None:
    problem = Problem()
    state = saved(SGD(problem.parameters, lr=0.1, momentum=0.5)).state_dict()
    optimizer = loading(SGD(problem.parameters, lr=0.2))
    name = type(optimizer).__name__
    with pytest.raises(ValueError) as caught:
        optimizer.load_state_dict(state)
    line = (
        f"the state has no entry {name!r} in its first parameter group; expected the state_dict() of a {name}"
    )
    assert str(caught.value) == line + (f"; for that of its base, call {advice}" if advice else "")
    if advice:
        exec(advice, {"optimizer": optimizer, "state": state})
        assert optimizer.param_groups[0]["momentum"] == 0.5
    assert optimizer.param_groups[0]["lr"] == (0.1 if advice else 0.2)


def test_another_packages_form_is_answered() -> None:
    for call in (
        lambda: SAM(Problem().model.parameters(), SGD, lr=0.1),  # type: ignore[arg-type, call-arg]
        lambda: SAM(Problem().parameters, base_optimizer=SGD, lr=0.1, momentum=0.9),  # type: ignore[arg-type, call-arg]
    ):
        with pytest.raises(
            TypeError,
            match=r"\ASAM got \w+; expected a torch\.optim\.Optimizer to wrap, as in SAM\(torch.*\Z",
        ):
            call()


@pytest.mark.parametrize("before", [AscentDescent(0.1), AscentDescent(0.001, ascent_steps=4)])
def test_a_state_of_the_same_measure_with_other_values_is_refused(before: AscentDescent) -> None:
    """Its measurements are on another scale, and one median would hold both."""
    problem = Problem()
    optimizer = SALR(SGD(problem.parameters, lr=0.1), before)
    problem.train(optimizer, 2)
    other = SALR(SGD(problem.parameters, lr=0.3), AscentDescent(0.001))
    name, value = ("gamma", 0.1) if before.gamma == 0.1 else ("ascent_steps", 4)
    with pytest.raises(ValueError, match=rf"it is of AscentDescent with {name} = {value}; expected "):
        other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["lr"] == 0.3
    state = optimizer.state_dict()
    del state["param_groups"][0]["SALR"]["measure_options"]  # as earlier versions saved
    other.load_state_dict(state)
    assert float(other.last_sharpness) == float(optimizer.last_sharpness)


def test_a_damaged_tensor_of_the_measure_is_refused_and_nothing_changes() -> None:
    problem = Problem(noise=False)
    optimizer = SALR(SGD(problem.parameters, lr=0.1), TopEigenvalue())
    problem.train(optimizer, 3)
    state = optimizer.state_dict()
    state["state"] = {index: dict(entry) for index, entry in state["state"].items()}
    state["state"][0]["SALR.direction"] = "lost"
    other = SALR(SGD(problem.parameters, lr=0.7), TopEigenvalue())
    before = repr(other.state_dict())
    with pytest.raises(ValueError, match=r"\Athe state of SALR is damaged"):
        other.load_state_dict(state)
    assert repr(other.state_dict()) == before

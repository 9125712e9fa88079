"""What the optimizers' constructors refuse, and how they say it."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adafactor, Optimizer

from salr.optim import SALR, SAM, LocalEntropy, ReleasedSALR, SmoothOut, Wrapper
from salr.sharpness import (
    AscentDescent,
    DirectionalCurvature,
    GradientNorm,
    Measure,
    ReleasedMeasure,
    SAMSharpness,
    TopEigenvalue,
)


def base() -> Optimizer:
    return SGD([nn.Parameter(torch.tensor([0.5, -2.0], dtype=torch.float64))], lr=0.1)


COUNT, POSITIVE, FRACTION, SIZE = "a whole number", "> 0", "from 0 to below 1", "finite number >= 0"
BOUND = "a number > 0, or infinity"
WRONG: dict[str, tuple[Any, ...]] = {
    COUNT: (-1, 1.5, math.nan, math.inf, True, "2", None),
    POSITIVE: (0.0, -1.0, math.nan, math.inf, -math.inf),
    FRACTION: (-0.1, 1.0, 2.0, math.nan, math.inf),
    SIZE: (-0.1, math.nan, math.inf),
    BOUND: (0.0, -1.0, math.nan, -math.inf),
}
EXPECTED: dict[type[Wrapper], dict[str, str]] = {
    SALR: {"interval": COUNT, "max_factor": BOUND},
    ReleasedSALR: {"interval": COUNT, "max_factor": BOUND},
    LocalEntropy: {"steps": COUNT, "inner_lr": POSITIVE, "inner_momentum": FRACTION, "averaging": FRACTION}
    | {"scope": SIZE, "scope_growth": SIZE, "noise": SIZE},
    SmoothOut: {"radius": POSITIVE},
    SAM: {"rho": POSITIVE},
}
NEEDED: dict[type[Wrapper], dict[str, Any]] = {SmoothOut: {"radius": 0.1}}
CASES = [
    (kind, name, wrong)
    for kind, names in EXPECTED.items()
    for name, what in names.items()
    for wrong in WRONG[what]
]


@pytest.mark.parametrize(
    ("kind", "name", "wrong"), CASES, ids=lambda case: getattr(case, "__name__", str(case))
)
def test_a_value_out_of_range_is_named_with_what_was_expected(
    kind: type[Wrapper], name: str, wrong: Any
) -> None:
    with pytest.raises(ValueError) as caught:
        kind(base(), **NEEDED.get(kind, {}) | {name: wrong})
    assert str(caught.value).startswith(f"{name} = {wrong!r}; expected ")
    assert EXPECTED[kind][name] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [SALR, ReleasedSALR])
def test_no_interval(kind: type[SALR]) -> None:
    with pytest.raises(ValueError, match=r"interval = 0; expected a whole number >= 1"):
        kind(base(), interval=0)


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 6),
    st.floats(-1e100, 1e100),
    st.sampled_from([math.nan, math.inf, -math.inf, 0.1, 0.5, 1.0, 1e-300]),
    st.text(max_size=3),
    st.lists(st.floats(), max_size=2),
    st.complex_numbers(),
)


@pytest.mark.parametrize("kind", EXPECTED)
@settings(max_examples=150)
@given(data=st.data())
def test_whatever_the_arguments_they_are_refused_or_they_work(
    kind: type[Wrapper], data: st.DataObject
) -> None:
    """Refused is a ValueError or a TypeError; works is an iteration."""
    names = [name for name in inspect.signature(kind).parameters if name != "base"]
    chosen = data.draw(st.sets(st.sampled_from(names), max_size=3))
    arguments = NEEDED.get(kind, {}) | {name: data.draw(anything, label=name) for name in sorted(chosen)}
    try:
        optimizer = kind(base(), **arguments)
    except (ValueError, TypeError):
        return
    optimizer.step(lambda: (optimizer.parameters[0] ** 2).sum())


def test_what_a_fuzz_would_find_at_the_defaults_works() -> None:
    for kind in EXPECTED:
        optimizer = kind(base(), **NEEDED.get(kind, {}))
        before = optimizer.parameters[0].clone()
        optimizer.step(lambda optimizer=optimizer: (optimizer.parameters[0] ** 2).sum())
        assert not torch.equal(optimizer.parameters[0], before)


@pytest.mark.parametrize("outer", [SALR, ReleasedSALR, SAM, LocalEntropy, lambda base: SmoothOut(base, 0.1)])
def test_only_salr_goes_around_another_wrapper_and_not_around_itself(
    outer: Callable[[Optimizer], Wrapper],
) -> None:
    with pytest.raises(TypeError, match="got SALR; expected an optimizer that is not a wrapper"):
        outer(SALR(base()))
    if outer not in (SALR, ReleasedSALR):
        with pytest.raises(TypeError, match="got LocalEntropy; expected an optimizer that is not a wrapper"):
            outer(LocalEntropy(base()))
    with pytest.raises(TypeError, match=r"got list; expected a torch\.optim\.Optimizer to wrap"):
        outer([nn.Parameter(torch.ones(1))])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "measure",
    [
        AscentDescent(ascent_steps=3),
        DirectionalCurvature(),
        SAMSharpness(),
        TopEigenvalue(),
        ReleasedMeasure(),
    ],
)
def test_a_measure_of_what_is_minimised_is_refused_for_what_is_maximised(measure: Measure) -> None:
    with pytest.raises(ValueError, match=r"\Amaximize=True with \w+\(.*expected a base that minimises"):
        SALR(SGD([nn.Parameter(torch.ones(1))], lr=0.1, maximize=True), measure)


@pytest.mark.parametrize("measure", [AscentDescent(0.05), GradientNorm()])
def test_a_symmetric_measure_is_the_same_for_the_negative_loss(measure: Measure) -> None:
    x = torch.tensor([0.7, -0.4], dtype=torch.float64, requires_grad=True)

    def loss() -> torch.Tensor:
        return x.pow(4).sum() + x.prod()

    assert measure.symmetric
    torch.testing.assert_close(measure(loss, [x]), measure(lambda: -loss(), [x]))
    SALR(SGD([x], lr=0.1, maximize=True), measure)


def test_a_base_that_bounds_its_rate_by_itself_is_named() -> None:
    with pytest.warns(UserWarning, match=r"\AAdafactor steps at the smaller of lr and 1/√t"):
        SALR(Adafactor([nn.Parameter(torch.ones(1))], lr=1.0))


@pytest.mark.parametrize(
    ("kind", "option", "expected"),
    [
        (SALR, {"gamma": 1e-3}, r"gamma is .* measure; expected SALR\(base, AscentDescent\(gamma=\.\.\.\)\)"),
        (ReleasedSALR, {"step_limit": 1.0}, r"ReleasedSALR\(base, ReleasedMeasure\(step_limit=\.\.\.\)\)"),
    ],
)
def test_an_option_of_the_measure_is_explained(
    kind: type[Wrapper], option: dict[str, float], expected: str
) -> None:
    with pytest.raises(TypeError, match=expected):
        kind(base(), **option)

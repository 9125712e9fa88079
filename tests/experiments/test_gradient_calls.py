"""The gradient calls that a configuration states, which decide its epochs, are those that are counted."""

from dataclasses import asdict, replace
from typing import Any

import pytest

from experiments.build import build_optimizer
from experiments.schema import ConfigError, load
from experiments.schema.optimizer import (
    BaseConfig,
    BaseName,
    OptimizerConfig,
    SAMConfig,
    SmoothOutConfig,
    check_optimizer,
)
from experiments.schema.overrides import choices
from salr.closures import Evaluation
from salr.optim import SALR, LocalEntropy, ReleasedSALR, Wrapper
from salr.sharpness import AscentDescent, DirectionalCurvature, GradientNorm, SAMSharpness, TopEigenvalue
from tests.helpers.optim import Problem

ITERATIONS = 4  # two cycles of the paper's interval
PAPER = {
    name: getattr(load([f"optimizer={choice}"]).optimizer, name)
    for name, choice in (
        ("salr", "sgd_salr"),
        ("released", "sgd_salr_released"),
        ("local_entropy", "entropy_sgd"),
    )
}
SAM = SAMConfig(rho=0.05, adaptive=False)
SMOOTHOUT = SmoothOutConfig(radius=0.01, adaptive=False)


def part(name: str, **changes: Any) -> dict[str, Any]:
    """Return a part with the paper's values, but for the changes."""
    return {name: replace(PAPER[name], **changes)}


PARTS: dict[str, dict[str, Any]] = {
    "salr, descent alone": {**part("salr", ascent_steps=0)},
    "salr, one step each": {**part("salr", descent_steps=1, ascent_steps=1, interval=1)},
    "salr, rarely": {**part("salr", descent_steps=2, ascent_steps=3, interval=4)},
    "salr, sam": {**part("salr"), "sam": SAM},
    "salr, smoothout": {**part("salr"), "smoothout": SMOOTHOUT},
    "released, descent alone": {**part("released", ascent_steps=0)},
    "released, smoothout": {**part("released"), "smoothout": SMOOTHOUT},
    "released, local entropy": {
        **part("released"),
        **part("local_entropy", steps=2),
    },
}


@pytest.mark.parametrize("name", choices("optimizer"))
def test_each_configuration_takes_as_many_gradients_as_it_states(name: str) -> None:
    count(load([f"optimizer={name}"]).optimizer)


@pytest.mark.parametrize("name", PARTS)
def test_parts_put_together_take_as_many_gradients_as_stated(name: str) -> None:
    config = OptimizerConfig(name=name, base=BaseConfig(name=BaseName.sgd, lr=0.1), **PARTS[name])
    check_optimizer(config)
    count(config)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"smoothout": SMOOTHOUT, "sam": SAM},
            r"smoothout \+ sam; expected at most one of smoothout, sam",
        ),
        (
            {"sam": SAM, **part("local_entropy")},
            r"sam \+ local_entropy; expected at most one",
        ),
        (
            {**part("salr"), **part("released")},
            r"salr \+ released; expected at most one of salr, released",
        ),
        (
            {**part("released", descent_steps=0)},
            "released.descent_steps = 0; expected a whole number >= 1",
        ),
    ],
)
def test_parts_that_cannot_be_put_together(parts: dict[str, Any], message: str) -> None:
    config = OptimizerConfig(name="mine", base=BaseConfig(name=BaseName.sgd, lr=0.1), **parts)
    with pytest.raises(ValueError, match=message):
        check_optimizer(config)


def count(config: OptimizerConfig) -> None:
    problem, backward = Problem(), []
    problem.parameters[0].register_hook(lambda _: backward.append(1))
    optimizer = build_optimizer(config, problem.model.parameters())
    for _ in range(ITERATIONS):
        if isinstance(optimizer, Wrapper):
            optimizer.step(problem.loss, problem.advance)
        else:
            optimizer.step(Evaluation(problem.loss, problem.parameters))
        problem.advance()
    assert len(backward) == ITERATIONS * config.gradient_calls
    assert problem.place == ITERATIONS * config.batches


MEASURES: dict[str, tuple[type, dict[str, float], float]] = {
    "ascent_descent": (AscentDescent, {"gamma": 0.002, "descent_steps": 5, "ascent_steps": 5}, 5),
    "gradient_norm": (GradientNorm, {}, 1),
    "directional_curvature": (DirectionalCurvature, {"radius": 0.05}, 1),
    "sam": (SAMSharpness, {"rho": 0.05}, 1),
    "top_eigenvalue": (TopEigenvalue, {"radius": 0.01}, 1.5),
}


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_by_name_has_the_values_that_it_takes_and_no_others(name: str) -> None:
    kind, values, calls = MEASURES[name]
    config = load(["dataset=mnist", "optimizer=sgd_salr", f"optimizer.salr.measure={name}"])
    part = config.optimizer.salr
    assert part is not None
    given = {key: value for key, value in asdict(part).items() if value is not None}
    assert {key: given.get(key) for key in ("gamma", "descent_steps", "ascent_steps", "radius", "rho")} == {
        key: values.get(key) for key in ("gamma", "descent_steps", "ascent_steps", "radius", "rho")
    }
    assert config.optimizer.gradient_calls == calls
    assert config.epochs == round(100 / calls)
    optimizer = build_optimizer(config.optimizer, Problem().model.parameters())
    assert isinstance(optimizer, SALR)
    assert type(optimizer.sharpness_measure) is kind
    assert all(getattr(optimizer.sharpness_measure, key) == value for key, value in values.items())
    assert optimizer.max_factor == float("inf")
    count(config.optimizer)


@pytest.mark.parametrize(
    ("name", "measure", "epochs"),
    [
        ("sgd_salr_first_order", GradientNorm, 100),
        ("adam_salr_first_order", GradientNorm, 100),
        ("sgd_salr_curvature", DirectionalCurvature, 100),
    ],
)
def test_ready_made_choices_have_the_budget_of_their_cost(name: str, measure: type, epochs: int) -> None:
    config = load(["dataset=mnist", f"optimizer={name}"])
    assert config.epochs == epochs
    optimizer = build_optimizer(config.optimizer, Problem().model.parameters())
    assert isinstance(optimizer, SALR)
    assert type(optimizer.sharpness_measure) is measure


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            "measure=gradient_norm gamma=0.1",
            "optimizer.salr.gamma = 0.1: measure=gradient_norm does not take it; expected null",
        ),
        ("rho=0.1", "optimizer.salr.rho = 0.1: measure=ascent_descent does not take it; expected null"),
        ("gamma=null", "optimizer.salr.gamma = null; expected a number, for measure=ascent_descent takes it"),
        ("measure=sam rho=-1", "optimizer.salr.rho = -1.0; expected a finite number > 0"),
        ("measure=top_eigenvalue radius=0", "optimizer.salr.radius = 0.0; expected a finite number > 0"),
        (
            "max_factor=0",
            "optimizer.salr.max_factor = 0.0; expected a finite number > 0, or null for no bound",
        ),
        (
            "max_factor=inf",
            "optimizer.salr.max_factor = inf; expected a finite number > 0, or null for no bound",
        ),
        ("descent_steps=-1", "optimizer.salr.descent_steps = -1; expected a whole number >= 0"),
        (
            "measure=flatness",
            "optimizer.salr.measure: Invalid value 'flatness', expected one of [ascent_descent, ",
        ),
    ],
)
def test_a_value_that_does_not_fit_the_measure_is_refused(words: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(["optimizer=sgd_salr", *(f"optimizer.salr.{word}" for word in words.split())])
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_bounds_reach_the_optimizer() -> None:
    bounded = load(["optimizer=sgd_salr", "optimizer.salr.max_factor=3"]).optimizer
    optimizer = build_optimizer(bounded, Problem().model.parameters())
    assert isinstance(optimizer, SALR)
    assert optimizer.max_factor == 3
    released = load(["optimizer=sgd_salr_released", "optimizer.released.cap=4"]).optimizer
    optimizer = build_optimizer(released, Problem().model.parameters())
    assert isinstance(optimizer, ReleasedSALR)
    assert optimizer.max_factor == 4


@pytest.mark.parametrize(
    ("word", "law"), [("null", "normal"), ("normal", "normal"), ("two_point", "two_point")]
)
def test_the_law_of_the_noise_reaches_the_optimizer(word: str, law: str) -> None:
    config = load(["optimizer=entropy_sgd", f"optimizer.local_entropy.noise_law={word}"]).optimizer
    optimizer = build_optimizer(config, Problem().model.parameters())
    assert isinstance(optimizer, LocalEntropy)
    assert optimizer.noise_law == law


def test_a_law_of_noise_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        load(["optimizer=entropy_sgd", "optimizer.local_entropy.noise_law=uniform"])
    assert str(caught.value).startswith(
        "optimizer.local_entropy.noise_law: Invalid value 'uniform', expected one of [normal, two_point]"
    )

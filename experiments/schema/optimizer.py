"""The ``optimizer`` group. Its values are in ``configs/optimizer/``.

The classes of ``salr.optim`` and ``salr.sharpness`` document them.
"""

import math
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from experiments.schema.dataset import ScheduleConfig, check_schedule
from salr.checks import (
    check_ascent_descent,
    check_at_least,
    check_count,
    check_fraction,
    check_local_entropy,
    check_positive,
    check_released,
    expect,
    within,
)
from salr.costs import (
    DIRECTIONAL_CURVATURE,
    GRADIENT_NORM,
    SAM_SHARPNESS,
    TOP_EIGENVALUE,
    MeasurementCost,
    ascent_descent_cost,
    released_cost,
)
from salr.costs import gradient_calls as average_gradient_calls


class BaseName(Enum):
    sgd = "sgd"
    adam = "adam"


@dataclass
class BaseConfig:
    """The ``torch.optim`` optimizer that makes the update."""

    name: BaseName = MISSING
    lr: float = MISSING
    weight_decay: float = 0.0
    momentum: float | None = None  # only for sgd
    betas: list[float] | None = None  # only for adam


class MeasureName(Enum):
    """What SALR measures: the classes of ``salr.sharpness``."""

    ascent_descent = "ascent_descent"
    gradient_norm = "gradient_norm"
    directional_curvature = "directional_curvature"
    sam = "sam"
    top_eigenvalue = "top_eigenvalue"


MEASURE_VALUES: dict[MeasureName, tuple[str, ...]] = {
    MeasureName.ascent_descent: ("gamma", "descent_steps", "ascent_steps"),
    MeasureName.gradient_norm: (),
    MeasureName.directional_curvature: ("radius",),
    MeasureName.sam: ("rho",),
    MeasureName.top_eigenvalue: ("radius",),
}
"""By measure: the values of :class:`SALRConfig` that it takes."""


def _for_measure(values: DictConfig, *, _parent_: DictConfig) -> object:
    """Return the value for the part's measure, null if there is none: ``${for_measure:{sam:0.05}}``."""
    chosen = _parent_.measure or MeasureName.ascent_descent
    return values.get(chosen.name)


OmegaConf.register_new_resolver("for_measure", _for_measure, replace=True)


@dataclass
class SALRConfig:
    measure: MeasureName | None = None  # null: ascent_descent, which is Definition 1
    gamma: float | None = None  # only for ascent_descent, as are both numbers of steps
    descent_steps: int | None = None
    ascent_steps: int | None = None
    radius: float | None = None  # only for directional_curvature and top_eigenvalue
    rho: float | None = None  # only for sam
    interval: int = MISSING
    shared_noise: bool = MISSING
    max_factor: float | None = None  # the largest factor on the rate; null: no bound

    def __post_init__(self) -> None:
        if self.measure is MeasureName.ascent_descent:
            self.measure = None  # one configuration, one run key

    @property
    def chosen(self) -> MeasureName:
        return self.measure or MeasureName.ascent_descent

    @property
    def values(self) -> dict[str, float]:
        """The arguments of the measure."""
        return {name: getattr(self, name) for name in MEASURE_VALUES[self.chosen]}

    def cost(self) -> MeasurementCost:
        if self.descent_steps is not None and self.ascent_steps is not None:
            return ascent_descent_cost(self.descent_steps, self.ascent_steps)
        return {
            MeasureName.gradient_norm: GRADIENT_NORM,
            MeasureName.directional_curvature: DIRECTIONAL_CURVATURE,
            MeasureName.sam: SAM_SHARPNESS,
            MeasureName.top_eigenvalue: TOP_EIGENVALUE,
        }[self.chosen]

    def check(self) -> None:
        for name in sorted({name for names in MEASURE_VALUES.values() for name in names}):
            value, used = getattr(self, name), name in MEASURE_VALUES[self.chosen]
            if used and value is None:
                raise ValueError(f"{name} = null; expected a number, for measure={self.chosen.name} takes it")
            if value is not None and not used:
                raise ValueError(
                    f"{name} = {value}: measure={self.chosen.name} does not take it; expected null"
                )
        if self.gamma is not None and self.descent_steps is not None and self.ascent_steps is not None:
            check_ascent_descent(self.gamma, self.descent_steps, self.ascent_steps)
        for name in ("radius", "rho"):
            if (value := getattr(self, name)) is not None:
                check_positive(name, value)
        check_count("interval", self.interval, 1)
        if (bound := self.max_factor) is not None:
            expect(0 < bound < math.inf, "max_factor", bound, "a finite number > 0, or null for no bound")


@dataclass
class ReleasedSALRConfig:
    step_scale: float = MISSING
    step_limit: float = MISSING
    descent_steps: int = MISSING
    ascent_steps: int = MISSING
    interval: int = MISSING
    cap: float = MISSING  # the largest factor

    def cost(self) -> MeasurementCost:
        return released_cost(self.descent_steps, self.ascent_steps)

    def check(self) -> None:
        check_released(self.step_scale, self.step_limit, self.descent_steps, self.ascent_steps)
        check_positive("cap", self.cap)
        check_count("interval", self.interval, 1)


class NoiseLaw(Enum):
    """The law of the Langevin dynamics' noise: see :class:`salr.optim.LocalEntropy`."""

    normal = "normal"
    two_point = "two_point"


@dataclass
class LocalEntropyConfig:
    steps: int = MISSING
    inner_lr: float = MISSING
    inner_momentum: float = MISSING
    scope: float = MISSING
    scope_growth: float = MISSING
    noise: float = MISSING
    averaging: float = MISSING
    noise_law: NoiseLaw | None = None  # null: normal

    def __post_init__(self) -> None:
        if self.noise_law is NoiseLaw.normal:
            self.noise_law = None  # one configuration, one run key

    @property
    def values(self) -> dict[str, Any]:
        """The arguments of the class."""
        return {**asdict(self), "noise_law": (self.noise_law or NoiseLaw.normal).value}

    def check(self) -> None:
        numbers = asdict(self)
        del numbers["noise_law"]
        check_local_entropy(**numbers)


@dataclass
class SmoothOutConfig:
    radius: float = MISSING
    adaptive: bool = MISSING

    def check(self) -> None:
        check_positive("radius", self.radius)


@dataclass
class SAMConfig:
    rho: float = MISSING
    adaptive: bool = MISSING

    def check(self) -> None:
        check_positive("rho", self.rho)


@dataclass
class AveragingConfig:
    """Stochastic weight averaging from ``start`` on, a fraction of the epochs; each epoch is a rate cycle."""

    start: float = MISSING
    lr_start: float = MISSING
    lr_end: float = MISSING

    def check(self) -> None:
        check_fraction("start", self.start)
        check_positive("lr_start", self.lr_start)
        check_positive("lr_end", self.lr_end)


@dataclass
class OptimizerConfig:
    name: str = MISSING
    base: BaseConfig = field(default_factory=BaseConfig)
    schedule: ScheduleConfig | None = None  # of the base rate; null: constant
    local_entropy: LocalEntropyConfig | None = None
    smoothout: SmoothOutConfig | None = None
    sam: SAMConfig | None = None
    salr: SALRConfig | None = None
    released: ReleasedSALRConfig | None = None  # instead of salr
    averaging: AveragingConfig | None = None
    # Divides the data set's budget, if the paper's epochs do not follow from the gradient calls.
    budget_divisor: float | None = None

    @property
    def gradient_calls(self) -> float:
        """Gradients per iteration on average, the training gradient included."""
        training = self.local_entropy.steps if self.local_entropy else 2 if self.sam else 1
        salr = self.salr or self.released
        cost, interval = (None, 1) if salr is None else (salr.cost(), salr.interval)
        # The parameters are perturbed, or already updated.
        elsewhere = self.smoothout is not None or self.released is not None
        return average_gradient_calls(training, cost, interval, at_parameters=not elsewhere)

    @property
    def batches(self) -> int:
        """Batches per iteration."""
        return 1 if self.local_entropy is None else self.local_entropy.steps


EXCLUSIVE = (("smoothout", "sam", "local_entropy"), ("salr", "released"))
"""Of each of these parts an optimizer has at most one."""


def check_optimizer(config: OptimizerConfig) -> None:
    """Raise ``ValueError`` with one line that names the wrong value and what was expected."""
    for alternatives in EXCLUSIVE:
        chosen = [part for part in alternatives if getattr(config, part) is not None]
        expect(len(chosen) <= 1, "optimizer", " + ".join(chosen), f"at most one of {', '.join(alternatives)}")
    with within("optimizer.base"):
        _check_base(config.base)
    for name in (*(part for parts in EXCLUSIVE for part in parts), "averaging"):
        if (part := getattr(config, name)) is not None:
            with within(f"optimizer.{name}"):
                part.check()
    if config.schedule is not None:
        with within("optimizer.schedule"):
            check_schedule(config.schedule)
    if config.budget_divisor is not None:
        check_positive("optimizer.budget_divisor", config.budget_divisor)


def _check_base(base: BaseConfig) -> None:
    check_positive("lr", base.lr)
    check_at_least("weight_decay", base.weight_decay, 0)
    owners = (("momentum", base.momentum, BaseName.sgd), ("betas", base.betas, BaseName.adam))
    for name, value, owner in owners:
        if value is not None and base.name is not owner:
            raise ValueError(
                f"{name} = {value}: an option of {owner.value}; the base here is {base.name.value}"
            )
    if base.momentum is not None:
        check_fraction("momentum", base.momentum)
    if base.betas is not None:
        expect(len(base.betas) == 2, "betas", base.betas, "two numbers")
        for beta in base.betas:
            check_fraction("betas", beta)

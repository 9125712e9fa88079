"""What an optimizer is configured by. Defaults are the paper's or the method's authors' (see the class of the same name)."""

from dataclasses import dataclass, field
from enum import Enum

from omegaconf import MISSING

from .checks import above, at_least, expect, within
from .dataset import ScheduleConfig


class BaseName(Enum):
    sgd = "sgd"
    adam = "adam"


@dataclass
class BaseConfig:
    """The ``torch.optim`` optimizer that makes the update."""

    name: BaseName = MISSING
    lr: float = MISSING
    weight_decay: float = 0.0
    momentum: float | None = None  # sgd alone
    betas: list[float] | None = None  # adam alone


@dataclass
class SALRConfig:
    gamma: float = 2e-3
    descent_steps: int = 5
    ascent_steps: int = 5
    interval: int = 2
    shared_noise: bool = True


@dataclass
class ReleasedSALRConfig:
    step_scale: float = 1e-3
    step_limit: float = 5e-4
    descent_steps: int = 5
    ascent_steps: int = 5
    interval: int = 2
    cap: float = 5.0


@dataclass
class LocalEntropyConfig:
    steps: int = 5
    inner_lr: float = 0.1
    inner_momentum: float = 0.9
    scope: float = 0.03
    scope_growth: float = 1e-3
    noise: float = 1e-4
    averaging: float = 0.75


@dataclass
class SmoothOutConfig:
    radius: float = MISSING
    adaptive: bool = False


@dataclass
class SAMConfig:
    rho: float = 0.05
    adaptive: bool = False


@dataclass
class AveragingConfig:
    """Stochastic weight averaging: from ``start`` (a fraction of the epochs) on, a cycle an epoch from lr_start to lr_end."""

    start: float = 0.75
    lr_start: float = 5e-3
    lr_end: float = 1e-4


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
    # The budget's divisor where the paper's is not the number of gradient calls an iteration.
    budget_divisor: float | None = None


def gradient_calls(config: OptimizerConfig) -> float:
    """Gradients an iteration on average, the training gradient included (section 5; a measurement shares the first one)."""
    calls = 1.0
    if config.local_entropy is not None:
        calls = config.local_entropy.steps
    elif config.sam is not None:
        calls = 2
    if config.salr is not None:
        salr = config.salr
        later = max(salr.descent_steps - 1, 0) + max(salr.ascent_steps - 1, 0)
        # SmoothOut's training gradient is not at θ, so that the measurement's first one is its own.
        calls += (later + (config.smoothout is not None)) / salr.interval
    if config.released is not None:
        calls += (config.released.descent_steps + config.released.ascent_steps) / config.released.interval
    return calls


def batches(config: OptimizerConfig) -> int:
    """Batches an iteration."""
    return 1 if config.local_entropy is None else config.local_entropy.steps


def check_optimizer(config: OptimizerConfig) -> None:
    """Raises ValueError with one line: which value, and what was expected."""
    for alternatives in (("smoothout", "sam", "local_entropy"), ("salr", "released")):
        chosen = [part for part in alternatives if getattr(config, part) is not None]
        expect(len(chosen) <= 1, "optimizer", " + ".join(chosen), f"at most one of {', '.join(alternatives)}")
    base = config.base
    above("optimizer.base.lr", base.lr, 0)
    at_least("optimizer.base.weight_decay", base.weight_decay, 0)
    for name, value, owner in (("momentum", base.momentum, BaseName.sgd), ("betas", base.betas, BaseName.adam)):
        if value is not None and base.name is not owner:
            raise ValueError(f"optimizer.base.{name} = {value}: an option of {owner.value}; the base here is {base.name.value}")
    if base.momentum is not None:
        within("optimizer.base.momentum", base.momentum, 0, 1)
    if base.betas is not None:
        expect(len(base.betas) == 2, "optimizer.base.betas", base.betas, "two numbers")
        for beta in base.betas:
            within("optimizer.base.betas", beta, 0, 1)
    if config.salr is not None:
        above("optimizer.salr.gamma", config.salr.gamma, 0)
        _check_measurement("optimizer.salr", config.salr)
    if config.released is not None:
        for name in ("step_scale", "step_limit", "cap"):
            above(f"optimizer.released.{name}", getattr(config.released, name), 0)
        _check_measurement("optimizer.released", config.released)
        at_least("optimizer.released.descent_steps", config.released.descent_steps, 1)  # it ends at the lower loss
    if config.local_entropy is not None:
        _check_local_entropy(config.local_entropy)
    if config.smoothout is not None:
        above("optimizer.smoothout.radius", config.smoothout.radius, 0)
    if config.sam is not None:
        above("optimizer.sam.rho", config.sam.rho, 0)
    if config.averaging is not None:
        within("optimizer.averaging.start", config.averaging.start, 0, 1)
        above("optimizer.averaging.lr_start", config.averaging.lr_start, 0)
        above("optimizer.averaging.lr_end", config.averaging.lr_end, 0)
    if config.budget_divisor is not None:
        above("optimizer.budget_divisor", config.budget_divisor, 0)


def _check_measurement(part: str, salr: SALRConfig | ReleasedSALRConfig) -> None:
    at_least(f"{part}.descent_steps", salr.descent_steps, 0)
    at_least(f"{part}.ascent_steps", salr.ascent_steps, 0)
    steps = salr.descent_steps + salr.ascent_steps
    expect(steps > 0, f"{part}.descent_steps + ascent_steps", steps, "at least one step")
    at_least(f"{part}.interval", salr.interval, 1)


def _check_local_entropy(entropy: LocalEntropyConfig) -> None:
    at_least("optimizer.local_entropy.steps", entropy.steps, 1)
    above("optimizer.local_entropy.inner_lr", entropy.inner_lr, 0)
    within("optimizer.local_entropy.inner_momentum", entropy.inner_momentum, 0, 1)
    for name in ("scope", "scope_growth", "noise"):
        at_least(f"optimizer.local_entropy.{name}", getattr(entropy, name), 0)
    within("optimizer.local_entropy.averaging", entropy.averaging, 0, 1)

"""From a checked configuration to the objects that it names."""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import SGD, Adam, Optimizer

import data
import models
from experiments.schema import Config
from experiments.schema.dataset import RecipeConfig, TextDatasetConfig
from experiments.schema.model import options
from experiments.schema.optimizer import (
    BaseConfig,
    BaseName,
    MeasureName,
    OptimizerConfig,
    ReleasedSALRConfig,
    SALRConfig,
)
from experiments.schema.paths import PROJECT
from experiments.schema.trainer import Precision, TrackerName
from salr.optim import SALR, SAM, LocalEntropy, ReleasedSALR, SmoothOut, WeightAverage, Wrapper
from salr.sharpness import (
    AscentDescent,
    DirectionalCurvature,
    GradientNorm,
    Measure,
    ReleasedMeasure,
    SAMSharpness,
    TopEigenvalue,
)
from salr.training import (
    Classification,
    LanguageModelling,
    NoTracker,
    Parts,
    Schedule,
    Task,
    Tracker,
    WandbTracker,
    constant,
    multi_step_decay,
    seed_default,
    step_decay,
    then_cyclic,
)

MEASURES: dict[MeasureName, type[Measure]] = {
    MeasureName.ascent_descent: AscentDescent,
    MeasureName.gradient_norm: GradientNorm,
    MeasureName.directional_curvature: DirectionalCurvature,
    MeasureName.sam: SAMSharpness,
    MeasureName.top_eigenvalue: TopEigenvalue,
}


def _salr(base: Optimizer, part: SALRConfig) -> SALR:
    bound = math.inf if part.max_factor is None else part.max_factor
    return SALR(base, MEASURES[part.chosen](**part.values), part.interval, part.shared_noise, bound)


def _released(base: Optimizer, part: ReleasedSALRConfig) -> ReleasedSALR:
    measure = ReleasedMeasure(part.step_scale, part.step_limit, part.descent_steps, part.ascent_steps)
    return ReleasedSALR(base, measure, part.interval, max_factor=part.cap)


WRAPPERS: dict[str, Callable[[Optimizer, Any], Wrapper]] = {
    "smoothout": lambda base, part: SmoothOut(base, **asdict(part)),
    "sam": lambda base, part: SAM(base, **asdict(part)),
    "local_entropy": lambda base, part: LocalEntropy(base, **part.values),
    "salr": _salr,
    "released": _released,
}
"""By part of the configuration, from the inside out: what puts the part's wrapper around an optimizer."""


def device_of(config: Config) -> torch.device:
    """Return the chosen device. Raises ``ValueError`` if this machine does not have it."""
    name = config.trainer.device
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        return accelerator or torch.device("cpu")
    device = torch.device(name)
    if device.type != "cpu":
        there = accelerator is not None and accelerator.type == device.type
        if not there or (device.index or 0) >= torch.accelerator.device_count():
            raise ValueError(
                f"trainer.device = {name}; this machine has no such device, expected auto or cpu"
            )
    return device


def devices_of(config: Config) -> list[torch.device]:
    """Return the chosen device, or all of its kind if no index is given. Raises as :func:`device_of`."""
    device = device_of(config)
    count = 1 if device.type == "cpu" or device.index is not None else torch.accelerator.device_count()
    return [device] if count == 1 else [torch.device(device.type, index) for index in range(count)]


def load_data(config: Config, device: torch.device) -> Any:
    """Return the data set on the device. Raises ``data.DataError``."""
    root = PROJECT / Path(config.dataset.root).expanduser()
    return data.load(config.dataset.name, root, device, **config.dataset.load_options())


def build_parts(config: Config, seed: int, dataset: Any, device: torch.device) -> Parts:
    """Build everything that one run trains with. The same seed gives the same parts."""
    seed_default(seed, "initialisation")
    model = models.build(config.model.name, dataset.input_shape, dataset.outputs, **options(config.model)).to(
        device
    )
    averaging = config.optimizer.averaging
    average_from = config.epochs if averaging is None else math.floor(averaging.start * config.epochs)
    return Parts(
        model=model,
        optimizer=build_optimizer(config.optimizer, model.parameters()),
        data=dataset,
        task=_task(config),
        device=device,
        schedule=_schedule(config.optimizer, average_from),
        batches_per_iteration=config.optimizer.batches,
        splits=config.dataset.splits,
        average=None if averaging is None else WeightAverage(model),
        average_from=average_from,
        recompute_statistics=config.trainer.recompute_batch_statistics,
    )


def build_optimizer(config: OptimizerConfig, parameters: Iterable[Tensor]) -> Optimizer:
    """Build the base optimizer with its wrappers, SALR outermost."""
    optimizer = _base(config.base, list(parameters))
    for name, wrapper in WRAPPERS.items():
        if (part := getattr(config, name)) is not None:
            optimizer = wrapper(optimizer, part)
    return optimizer


def build_tracker(config: Config) -> Tracker:
    """Build what shows the run elsewhere."""
    tracker = config.tracker
    if tracker.name is TrackerName.none:
        return NoTracker()
    directory = Path(tracker.directory).expanduser()
    return WandbTracker(tracker.project, tracker.entity, tracker.mode.value, directory, tracker.tags)


def _base(config: BaseConfig, parameters: list[Tensor]) -> Optimizer:
    """Build torch's optimizer, fused: one pass over memory, and a rate that may be a tensor."""
    if config.name is BaseName.sgd:
        momentum = config.momentum or 0.0
        return SGD(parameters, lr=config.lr, momentum=momentum, weight_decay=config.weight_decay, fused=True)
    first, second = config.betas or (0.9, 0.999)
    return Adam(
        parameters,
        lr=config.lr,
        betas=(first, second),
        weight_decay=config.weight_decay,
        fused=True,
        capturable=parameters[0].device.type == "cuda",  # by a CUDA graph
    )


def _task(config: Config) -> Task:
    recipe = config.dataset.recipe
    bf16, clip = config.trainer.precision is Precision.bf16, _clip(recipe)
    if isinstance(config.dataset, TextDatasetConfig):
        return LanguageModelling(bf16=bf16, sum_steps=recipe.sum_steps, clip=clip)
    return Classification(bf16=bf16, clip=clip)


def _schedule(config: OptimizerConfig, average_from: int) -> Schedule:
    decay = config.schedule
    schedule: Schedule = constant
    if decay is not None and decay.milestones is not None:
        schedule = multi_step_decay(decay.milestones, decay.factor)
    elif decay is not None and decay.start is not None:
        schedule = step_decay(decay.start, decay.every, decay.factor)
    if config.averaging is None:
        return schedule
    first, last = config.averaging.lr_start / config.base.lr, config.averaging.lr_end / config.base.lr
    return then_cyclic(schedule, average_from, first, last)


def _clip(recipe: RecipeConfig) -> Callable[[list[Tensor]], object] | None:
    if recipe.clip_norm is not None:
        return partial(clip_grad_norm_, max_norm=recipe.clip_norm)
    if recipe.clip_value is not None:
        return partial(clip_grad_value_, clip_value=recipe.clip_value)
    return None

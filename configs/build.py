"""From a checked configuration to the objects that it names."""

import math
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
from salr.optim import SALR, SAM, LocalEntropy, ReleasedSALR, SmoothOut, WeightAverage, Wrapper
from salr.training import (
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

from .schema import Config, epochs
from .schema.dataset import RecipeConfig, TextDatasetConfig, load_options
from .schema.model import options
from .schema.optimizer import BaseConfig, BaseName, OptimizerConfig, batches
from .schema.trainer import Precision, TrackerName

PROJECT = Path(__file__).resolve().parent.parent


def device_of(config: Config) -> torch.device:
    """Raises ValueError where this machine has no such device."""
    name = config.trainer.device
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    device = torch.device(name)
    if device.type != "cpu":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        there = accelerator is not None and accelerator.type == device.type
        if not there or (device.index or 0) >= torch.accelerator.device_count():
            raise ValueError(f"trainer.device = {name}; this machine has no such device, expected auto or cpu")
    return device


def devices_of(config: Config) -> list[torch.device]:
    """The chosen device, or all of its kind where none of them is named. Raises ValueError as :func:`device_of`."""
    device = device_of(config)
    count = 1 if device.type == "cpu" or device.index is not None else torch.accelerator.device_count()
    return [device] if count == 1 else [torch.device(device.type, index) for index in range(count)]


def load_data(config: Config, device: torch.device) -> Any:
    """The data set on the device. Raises data.DataError."""
    root = PROJECT / Path(config.dataset.root).expanduser()
    return data.load(config.dataset.name, root, device, **load_options(config.dataset))


def build_parts(config: Config, seed: int, dataset: Any, device: torch.device) -> Parts:
    """Everything that one run trains with; the same seed gives the same parts."""
    seed_default(seed, "initialisation")
    model = models.build(config.model.name, dataset.input_shape, dataset.outputs, **options(config.model)).to(device)
    recipe = config.dataset.recipe
    language = isinstance(config.dataset, TextDatasetConfig)
    task = Task(
        bf16=config.trainer.precision is Precision.bf16,
        language=language,
        sum_steps=recipe.sum_steps,
        clip=_clip(recipe),
    )
    length, averaging = epochs(config), config.optimizer.averaging
    average_from = length if averaging is None else math.floor(averaging.start * length)
    validated = language or getattr(config.dataset, "validation", False)
    return Parts(
        model=model,
        optimizer=build_optimizer(config.optimizer, model.parameters()),
        data=dataset,
        task=task,
        device=device,
        schedule=_schedule(config.optimizer, average_from),
        batches_per_iteration=batches(config.optimizer),
        splits=("validation", "test") if validated else ("test",),
        average=None if averaging is None else WeightAverage(model),
        average_from=average_from,
        recompute_statistics=config.trainer.recompute_batch_statistics,
    )


def build_optimizer(config: OptimizerConfig, parameters: Any) -> Optimizer:
    """The base with its wrappers, SALR outermost. The parts' fields are the wrappers' arguments."""
    optimizer = _base(config.base, list(parameters))
    wrappers: list[tuple[type[Wrapper], Any]] = [
        (SmoothOut, config.smoothout),
        (SAM, config.sam),
        (LocalEntropy, config.local_entropy),
        (SALR, config.salr),
        (ReleasedSALR, config.released),
    ]
    for wrapper, part in wrappers:
        if part is not None:
            optimizer = wrapper(optimizer, **asdict(part))
    return optimizer


def build_tracker(config: Config) -> Tracker:
    tracker = config.tracker
    if tracker.name is TrackerName.none:
        return NoTracker()
    return WandbTracker(tracker.project, tracker.entity, tracker.mode.value, Path(tracker.directory), tracker.tags)


def _base(config: BaseConfig, parameters: list[Tensor]) -> Optimizer:
    """Fused: one pass over the parameters, and on an accelerator a rate that may be a tensor."""
    if config.name is BaseName.sgd:
        momentum = config.momentum or 0.0
        return SGD(parameters, lr=config.lr, momentum=momentum, weight_decay=config.weight_decay, fused=True)
    first, second = config.betas or (0.9, 0.999)
    return Adam(parameters, lr=config.lr, betas=(first, second), weight_decay=config.weight_decay, fused=True)


def _schedule(config: OptimizerConfig, average_from: int) -> Schedule:
    decay = config.schedule
    schedule: Schedule = constant
    if decay is not None and decay.milestones is not None:
        schedule = multi_step_decay(decay.milestones, decay.factor)
    elif decay is not None and decay.start is not None:
        schedule = step_decay(decay.start, decay.every, decay.factor)
    if config.averaging is None:
        return schedule
    base = config.base.lr
    return then_cyclic(schedule, average_from, config.averaging.lr_start / base, config.averaging.lr_end / base)


def _clip(recipe: RecipeConfig) -> Any:
    if recipe.clip_norm is not None:
        return partial(clip_grad_norm_, max_norm=recipe.clip_norm)
    if recipe.clip_value is not None:
        return partial(clip_grad_value_, clip_value=recipe.clip_value)
    return None

"""Time a gradient call of each network on this device over a few real iterations, and keep the result."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from experiments.build import build_parts, device_of, load_data
from experiments.plan import CellPlan, Network
from experiments.schema import Config
from salr.records import atomic, check_writable
from salr.training import device_name, generator

BUDGET = 3.0
"""Seconds that a network is timed for, after its first iteration."""


def seconds_a_call(plans: Sequence[CellPlan]) -> dict[Network, float]:
    """Return the seconds of a gradient call by data set and network, for all cells that have something left.

    What ``results/calibration.json`` lacks for this device and precision is timed and added to it.
    """
    left = {plan.network: plan.config for plan in plans if plan.seeds_left}
    times: dict[Network, float] = {}
    for place, (network, config) in enumerate(left.items(), 1):
        device = device_of(config)
        path = Path(config.results) / "calibration.json"
        known = _read(path)
        name = _name(network, config, device)
        if name not in known:
            check_writable(path.parent)
            print(f"timing {' '.join(network)} ({place} of {len(left)})", flush=True)
            known[name] = _measure(config, device)
            atomic.write(path, json.dumps(known, indent=1, sort_keys=True).encode(), several=True)
        times[network] = known[name]
    return times


def _name(network: Network, config: Config, device: torch.device) -> str:
    """Return all that a time depends on."""
    size, threads = f"batch {config.dataset.batch_size}", f"{torch.get_num_threads()} threads"
    made_by = (config.trainer.precision.value, size, threads, f"torch {torch.__version__}")
    return " / ".join((device_name(device), *network, *made_by))


def _read(path: Path) -> dict[str, float]:
    """Return nothing for a file that is missing or damaged, so that it is measured again."""
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {str(name): float(value) for name, value in known.items() if isinstance(value, int | float)}


def _measure(config: Config, device: torch.device) -> float:
    """Return the seconds of one forward and backward pass on a training batch.

    The first iteration is a warm-up, unless it takes longer than the budget.
    """
    dataset = load_data(config, device)
    parts = build_parts(config, 0, dataset, device)
    batch = next(iter(dataset.batches(generator(0, "order"), generator(0, "augmentation"))))
    parts.model.train()

    def iteration() -> float:
        begun = time.perf_counter()
        if batch.restart:
            parts.model.reset_state()  # type: ignore[operator]
        parts.model.zero_grad()
        loss = parts.task.loss(parts.model, batch)
        loss.backward()
        loss.item()  # waits for the device
        return time.perf_counter() - begun

    first = iteration()
    if first > BUDGET:
        return first
    times: list[float] = []
    while sum(times) < BUDGET:
        times.append(iteration())
    return sum(times) / len(times)

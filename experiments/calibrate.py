"""Time a gradient call of each network on this device over a few real iterations, and keep the result."""

import json
import time
from collections.abc import Iterable
from pathlib import Path

import torch

from experiments.build import build_parts, device_of, load_data
from experiments.plan import CellPlan
from experiments.schema import Config
from salr.records import check_writable
from salr.training import device_name, generator

WARM_UP, TIMED = 2, 5


def seconds_a_call(plans: Iterable[CellPlan]) -> dict[tuple[str, str], float]:
    """Return the seconds of a gradient call by data set and network, for all cells that have something left.

    What ``results/calibration.json`` lacks for this device and precision is timed and added to it.
    """
    times: dict[tuple[str, str], float] = {}
    for plan in plans:
        config = plan.config
        if plan.network in times or not plan.left:
            continue
        device = device_of(config)
        path = Path(config.results) / "calibration.json"
        known = _read(path)
        size = f"batch {config.dataset.batch_size}"
        threads = f"{torch.get_num_threads()} threads"
        facts = (device_name(device), *plan.network, config.trainer.precision.value, size, threads)
        name = " / ".join(facts)
        if name not in known:
            check_writable(path.parent)
            print(f"timing {' '.join(plan.network)} ...", flush=True)
            known[name] = _measure(config, device)
            path.write_text(json.dumps(known, indent=1, sort_keys=True))
        times[plan.network] = known[name]
    return times


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
    """Return the seconds of one forward and backward pass on a training batch."""
    dataset = load_data(config, device)
    parts = build_parts(config, 0, dataset, device)
    batch = next(iter(dataset.batches(generator(0, "order"), generator(0, "augmentation"))))
    parts.model.train()
    begun = 0.0
    for iteration in range(WARM_UP + TIMED):
        if iteration == WARM_UP:
            begun = time.perf_counter()
        if batch.restart:
            parts.model.reset_state()  # type: ignore[operator]
        parts.model.zero_grad()
        loss = parts.task.loss(parts.model, batch)
        loss.backward()
        loss.item()  # waits for the device
    return (time.perf_counter() - begun) / TIMED

"""How long a gradient call of a network takes on this device, measured over a few real iterations and kept."""

import json
import time
from collections.abc import Iterable
from pathlib import Path

import torch

from salr.records import check_writable
from salr.training import device_name, generator

from .build import build_parts, device_of, load_data
from .plan import CellPlan
from .schema import Config

WARM_UP, TIMED = 2, 5


def seconds_a_call(plans: Iterable[CellPlan]) -> dict[tuple[str, str], float]:
    """By (data set, network) of what is left. Timed where ``results/calibration.json`` lacks it for this device and precision."""
    times: dict[tuple[str, str], float] = {}
    for plan in plans:
        config = plan.config
        place = (config.dataset.name, config.model.name)
        if place in times or not plan.left:
            continue
        device = device_of(config)
        path = Path(config.results) / "calibration.json"
        known = _read(path)
        size = f"batch {config.dataset.batch_size}"
        name = " / ".join((device_name(device), *place, config.trainer.precision.value, size, f"{torch.get_num_threads()} threads"))
        if name not in known:
            check_writable(path.parent)
            print(f"timing {config.dataset.name} {config.model.name} ...", flush=True)
            known[name] = _measure(config, device)
            path.write_text(json.dumps(known, indent=1, sort_keys=True))
        times[place] = known[name]
    return times


def _read(path: Path) -> dict[str, float]:
    """Nothing where the file is missing or damaged: it is measured again."""
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {str(name): float(value) for name, value in known.items() if isinstance(value, int | float)}


def _measure(config: Config, device: torch.device) -> float:
    """Seconds of one forward and backward pass on a training batch."""
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

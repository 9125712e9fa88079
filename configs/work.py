"""The training of a cell's seeds, one after another or side by side."""

import os
from dataclasses import dataclass
from typing import Any

import torch

from salr.records import RunBusy
from salr.training import (
    OUT_OF_MEMORY,
    Event,
    Listener,
    Trainer,
    Watch,
    display,
    out_of_memory,
    reason,
    run_side_by_side,
    sigterm_interrupts,
)

from .build import build_parts, build_tracker, devices_of, load_data
from .compose import plain
from .records import ENDED, record_of
from .schema import Config, epochs


@dataclass
class Shared:
    """What the runs of a cell on a device have in common."""

    config: Config
    data: Any
    device: torch.device


def train_seeds(config: Config, seeds: list[int], watch: Watch | None = None) -> dict[int, str]:
    """Trains the seeds and returns the state of each (see :func:`configs.cell.train_cell`)."""
    devices = devices_of(config)
    workers, threads = _workers(config, len(seeds), devices)
    shares = [Shared(config, load_data(config, device), device) for device in devices[:workers]]
    with sigterm_interrupts(), display(_title(config, len(seeds), workers, devices[:workers]), watch) as listen:
        if workers > 1:
            return run_side_by_side(train_seed, shares, seeds, workers, threads, listen)
        torch.set_num_threads(threads)
        return {seed: train_seed(shares[0], seed, listen) for seed in seeds}


def train_seed(shared: Shared, seed: int, listen: Listener) -> str:
    """One run. Whatever goes wrong is its own matter: it is said and recorded, and the other seeds go on."""
    config = shared.config
    record = record_of(config, seed)
    number = epochs(config)

    def ended(state: str, text: str) -> str:
        listen(Event(seed, "ended", 0, number, state=state, text=text))
        return state

    try:
        with record.claim():
            if (state := record.state()) in ENDED:
                return ended(state, "by another process in the meantime")
            trainer = Trainer(
                run=record,
                epochs=number,
                build=lambda: build_parts(config, seed, shared.data, shared.device),
                config={**plain(config), "seeds": [seed]},
                tracker=build_tracker(config),
                listen=listen,
            )
            return trainer.train()
    except RunBusy as error:
        return ended("busy", str(error))
    except Exception as error:
        ended("failed", reason(error))
        return OUT_OF_MEMORY if out_of_memory(error) else "failed"


def _workers(config: Config, runs: int, devices: list[torch.device]) -> tuple[int, int]:
    """Processes, and threads of each: one run takes all cores, several share them (on one accelerator they queue)."""
    cores = _cores()
    if config.trainer.workers != "auto":
        workers = min(int(config.trainer.workers), runs)
    else:
        workers = min(runs, cores if devices[0].type == "cpu" else len(devices))
    return workers, config.trainer.threads or max(1, cores // workers)


def _cores() -> int:
    """Cores that this process may use, or as many as OMP_NUM_THREADS says."""
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    if chosen.isdigit() and int(chosen) > 0:
        return int(chosen)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _title(config: Config, runs: int, workers: int, devices: list[torch.device]) -> str:
    cell = f"{config.dataset.name} {config.model.name} {config.optimizer.name}"
    beside = f", {workers} side by side" if workers > 1 else ""
    places = ", ".join(map(str, devices))
    return f"{cell}: {epochs(config)} epochs, {runs} run{'s' if runs > 1 else ''} on {places}{beside}"

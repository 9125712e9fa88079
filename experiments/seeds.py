"""Train the seeds of a cell, one after another or in parallel."""

import os
from dataclasses import dataclass
from typing import Any

import torch

from experiments.build import build_parts, build_tracker, devices_of, load_data
from experiments.records import record_of
from experiments.schema import Config, plain
from salr.records import RunBusy, State
from salr.training import (
    Event,
    Listener,
    Trainer,
    Watch,
    display,
    out_of_memory,
    reason,
    run_in_parallel,
    sigterm_interrupts,
)


@dataclass
class Shared:
    """What the runs of a cell on one device have in common."""

    config: Config
    data: Any
    device: torch.device


def train_seeds(config: Config, seeds: list[int], watch: Watch | None = None) -> dict[int, State]:
    """Train the seeds and return the state of each (see :func:`experiments.cell.train_cell`)."""
    devices = devices_of(config)
    workers, threads = processes(config, len(seeds), devices)
    shares = [Shared(config, load_data(config, device), device) for device in devices[:workers]]
    title = _title(config, len(seeds), workers, devices[:workers])
    with sigterm_interrupts(), display(title, watch) as listen:
        if workers > 1:
            return run_in_parallel(train_seed, shares, seeds, workers, threads, listen)
        torch.set_num_threads(threads)
        return {seed: train_seed(shares[0], seed, listen) for seed in seeds}


def train_seed(shared: Shared, seed: int, listen: Listener) -> State:
    """Train one run. Whatever goes wrong is reported and recorded, and does not stop the other seeds."""
    config = shared.config
    record = record_of(config, seed)

    def ended(state: State, text: str) -> State:
        listen(Event(seed, "ended", 0, config.epochs, state=state, text=text))
        return state

    try:
        with record.claim():
            if (state := record.state()).settled:
                return ended(state, "by another process in the meantime")
            trainer = Trainer(
                run=record,
                epochs=config.epochs,
                build=lambda: build_parts(config, seed, shared.data, shared.device),
                config={**plain(config), "seeds": [seed]},
                tracker=build_tracker(config),
                listen=listen,
            )
            return trainer.train()
    except RunBusy as error:
        return ended(State.BUSY, str(error))
    except Exception as error:
        ended(State.FAILED, reason(error))
        return State.OUT_OF_MEMORY if out_of_memory(error) else State.FAILED


def processes(config: Config, runs: int, devices: list[torch.device]) -> tuple[int, int]:
    """Return how many processes train the runs, and the threads of each.

    One run takes all cores and several share them. On one accelerator the runs are trained one after another.
    """
    cores = _cores()
    if config.trainer.workers != "auto":
        workers = min(int(config.trainer.workers), runs)
    else:
        workers = min(runs, cores if devices[0].type == "cpu" else len(devices))
    return workers, config.trainer.threads or max(1, cores // workers)


def _cores() -> int:
    """Return the cores that this process may use; OMP_NUM_THREADS overrides their number."""
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    if chosen.isdecimal() and int(chosen) > 0:
        return int(chosen)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _title(config: Config, runs: int, workers: int, devices: list[torch.device]) -> str:
    parallel = f", {workers} in parallel" if workers > 1 else ""
    places = ", ".join(map(str, devices))
    return (
        f"{config.title}: {config.epochs} epochs, {runs} run{'s' if runs > 1 else ''} on {places}{parallel}"
    )

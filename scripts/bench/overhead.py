"""The share of an epoch of our trainer that is not steps: evaluation, data, logging, records."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data import DataError
from experiments.build import build_parts, load_data
from experiments.records import record_of
from experiments.schema.compose import load
from salr.training import Event, NoTracker, Trainer
from scripts.bench.clock import wait

EPOCHS = 2  # the first one warms up


class _Timed(Trainer):
    """Add up the seconds of the steps. Unlike the trainer it waits for an accelerator after each one."""

    stepping = 0.0

    def _stepper(self, stream: Any) -> Callable[[], Tensor]:
        step = super()._stepper(stream)

        def timed() -> Tensor:
            begun = time.perf_counter()
            loss = step()
            wait(self.parts.device)
            self.stepping += time.perf_counter() - begun
            return loss

        return timed


def epoch_overhead(bf16: bool, device: torch.device) -> list[dict[str, object]]:
    """Time an epoch of SGD and of SGD-SALR on real MNIST, from its start to its record.

    Returns:
        One row per network and optimizer; none if MNIST is missing.
    """
    rows: list[dict[str, object]] = []
    for network in ("mnistfc", "lenet"):
        for optimizer in ("sgd", "sgd_salr"):
            try:
                epoch, steps, evaluation = _epoch(network, optimizer, bf16, device)
            except DataError as error:
                print(f"epoch overhead: {error}")
                return []
            row: dict[str, object] = {
                "network": network,
                "optimizer": optimizer,
                "epoch_seconds": round(epoch, 2),
                "steps_share": round(steps / epoch, 4),
                "evaluation_share": round(evaluation / epoch, 4),
                "rest_share": round(1 - (steps + evaluation) / epoch, 4),
            }
            rows.append(row)
            print("  ".join(f"{value}" for value in row.values()), flush=True)
    return rows


def _epoch(network: str, optimizer: str, bf16: bool, device: torch.device) -> tuple[float, float, float]:
    """Return the seconds of an epoch, of its steps and of its evaluation."""
    moments: list[tuple[float, float]] = []

    def listen(event: Event) -> None:
        if event.kind == "epoch":
            moments.append((time.perf_counter(), trainer.stepping))

    with tempfile.TemporaryDirectory() as results:
        precision = "bf16" if bf16 else "float32"
        options = [f"trainer.epochs={EPOCHS}", f"trainer.precision={precision}", f"results={Path(results)}"]
        config = load(["dataset=mnist", f"model={network}", f"optimizer={optimizer}", *options])
        data, record = load_data(config, device), record_of(config, 0)
        trainer = _Timed(
            record, EPOCHS, lambda: build_parts(config, 0, data, device), {}, NoTracker(), listen
        )
        trainer.train()
        first, last = record.read_metrics()
    (begun, before), (ended, after) = moments
    return ended - begun, after - before, last["evaluation_seconds"] - first["evaluation_seconds"]

"""What an epoch of our trainer spends on anything but steps: evaluation, data, logging, records."""

import tempfile
import time
from pathlib import Path

import torch

from configs.build import build_parts, load_data
from configs.compose import load
from configs.records import record_of
from data import DataError
from salr.training import Event, NoTracker, Trainer

from .contestants import our_sgd
from .seeds import ITERATIONS, seconds_a_step
from .subjects import subject

EPOCHS = 3


def epoch_overhead(bf16: bool, device: torch.device) -> list[dict[str, object]]:
    """SGD on real MNIST: an epoch from its begin to its record, against as many bare steps timed before and after.

    Empty where MNIST is not there.
    """
    rows: list[dict[str, object]] = []
    for network in ("mnistfc", "lenet"):
        step = our_sgd(subject(network, bf16, device))
        before = seconds_a_step(step)
        try:
            epoch, evaluation = _epoch(network, bf16, device)
        except DataError as error:
            print(f"epoch overhead: {error}")
            return []
        steps = ITERATIONS * (before + seconds_a_step(step)) / 2
        row: dict[str, object] = {
            "network": network,
            "optimizer": "sgd",
            "epoch_seconds": round(epoch, 2),
            "steps_share": round(steps / epoch, 4),
            "evaluation_share": round(evaluation / epoch, 4),
            "rest_share": round(1 - (steps + evaluation) / epoch, 4),
        }
        rows.append(row)
        print("  ".join(f"{value}" for value in row.values()), flush=True)
    return rows


def _epoch(network: str, bf16: bool, device: torch.device) -> tuple[float, float]:
    """Seconds of an epoch, and of them those of its evaluation; the first epoch warms up."""
    moments: list[float] = []

    def listen(event: Event) -> None:
        if event.kind == "epoch":
            moments.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as results:
        precision = "bf16" if bf16 else "float32"
        options = [f"trainer.epochs={EPOCHS}", f"trainer.precision={precision}", f"results={Path(results)}"]
        config = load(["dataset=mnist", f"model={network}", "optimizer=sgd", *options])
        data, record = load_data(config, device), record_of(config, 0)
        Trainer(record, EPOCHS, lambda: build_parts(config, 0, data, device), {}, NoTracker(), listen).train()
        first, *_, last = record.read_metrics()
    epochs = EPOCHS - 1
    return (moments[-1] - moments[0]) / epochs, (last["evaluation_seconds"] - first["evaluation_seconds"]) / epochs

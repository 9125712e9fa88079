"""Seeds of a cell: in parallel with our trainer, and one after another in a plain float32 loop."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from data import DataError
from experiments.records import records_of
from experiments.schema.compose import load
from experiments.seeds import train_seeds
from scripts.bench.clock import seconds_of
from scripts.bench.contestants import Contestant, Step, literal_salr, plain_sgd
from scripts.bench.subjects import subject

ITERATIONS = 468  # of an epoch of MNIST at batch 128
TIMED = 20


@dataclass(frozen=True)
class Case:
    """A number of seeds of an optimizer, and the plain loop that they are compared with."""

    seeds: int
    optimizer: str
    precision: str
    epochs: int
    against: Contestant


CASES = [
    Case(4, "sgd", "float32", 2, plain_sgd),
    Case(4, "sgd", "bf16", 2, plain_sgd),
    Case(4, "sgd_salr", "bf16", 1, literal_salr),
    # How it grows with the number of seeds
    Case(1, "sgd", "bf16", 2, plain_sgd),
    Case(2, "sgd", "bf16", 2, plain_sgd),
]


def seeds_in_parallel(device: torch.device) -> list[dict[str, object]]:
    """Train LeNet on real MNIST with our trainer, its start-up and its evaluations included.

    The time of the plain loop is that of one iteration, measured directly before and after ours, times the
    iterations. It starts no processes and evaluates nothing.

    Returns:
        One row per case; none if MNIST is missing.
    """
    rows: list[dict[str, object]] = []
    for case in CASES:
        step = case.against(subject("lenet", False, device))
        before = _seconds_a_step(step, device)
        try:
            ours, evaluation_share = _train(case)
        except DataError as error:
            print(f"seeds in parallel: {error}")
            return []
        theirs = case.seeds * case.epochs * ITERATIONS * (before + _seconds_a_step(step, device)) / 2
        rows.append(
            {
                "optimizer": case.optimizer,
                "precision": case.precision,
                "seeds": case.seeds,
                "epochs": case.epochs,
                "against": f"{case.against.__name__} float32, one after another",
                "our_seconds": round(ours, 1),
                "their_seconds": round(theirs, 1),
                "ratio": round(ours / theirs, 3),
                "evaluation_share": round(evaluation_share, 4),
            }
        )
        print("  ".join(f"{value}" for value in rows[-1].values()), flush=True)
    return rows


def _train(case: Case) -> tuple[float, float]:
    """Return the seconds from start to end, and the share of the evaluations in the seconds of the epochs."""
    with tempfile.TemporaryDirectory() as results:
        options = [
            f"optimizer={case.optimizer}",
            f"trainer.epochs={case.epochs}",
            f"trainer.precision={case.precision}",
        ]
        config = load(
            ["dataset=mnist", "model=lenet", f"seeds={case.seeds}", f"results={Path(results)}", *options]
        )
        threads = torch.get_num_threads()
        begun = time.perf_counter()
        train_seeds(config, list(range(case.seeds)))
        seconds = time.perf_counter() - begun
        torch.set_num_threads(threads)  # our trainer has divided the cores among its runs
        last = [record.read_metrics()[-1] for record in records_of(config)]
    evaluation = sum(row["evaluation_seconds"] for row in last)
    return seconds, evaluation / (evaluation + sum(row["seconds"] for row in last))


def _seconds_a_step(step: Step, device: torch.device) -> float:
    """Return the seconds per iteration, after two iterations that warm up."""
    for _ in range(2):
        step()
    return seconds_of(step, device, TIMED)

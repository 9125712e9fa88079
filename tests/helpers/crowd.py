"""A process of a crowd that trains the runs of one results folder. Importing this loads all that it needs."""

import os
import random
import time
from collections.abc import Iterable
from pathlib import Path

import torch
import torch._dynamo

from salr.optim import SALR
from salr.records import RunBusy
from salr.training import Event, Trainer
from tests.helpers.trainer import trainer

EPOCHS = 4


def small(results: Path, seed: int, **options: object) -> Trainer:
    """A trainer of one of the runs."""
    return trainer(results, wrap=SALR, epochs=EPOCHS, seed=seed, **options)  # type: ignore[arg-type]


def work(results: Path, notes: Path, seeds: Iterable[int], pause: float) -> None:
    """Train every run that has not ended and is not busy, in a random order, until none is left.

    Args:
        results: the folder that all processes share.
        notes: a folder in which each run has a file that says what it began, recorded and ended.
        seeds: the runs.
        pause: seconds between two epochs.
    """
    torch.set_num_threads(1)
    left = list(seeds)
    while left:
        random.Random(os.getpid() + len(left)).shuffle(left)
        left = [seed for seed in left if not _train(results, notes, seed, pause)]


def _train(results: Path, notes: Path, seed: int, pause: float) -> bool:
    """Return whether the run has ended."""

    def listen(event: Event) -> None:
        line = f"{event.kind} {event.epoch:.0f}\n".encode()
        descriptor = os.open(notes / str(seed), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, line)
        os.close(descriptor)
        time.sleep(pause)

    one = small(results, seed, listen=listen)
    try:
        with one.run.claim():
            return one.run.state().settled or one.train().settled
    except RunBusy:
        return False

"""A run that is killed or interrupted at any moment goes on from its last whole epoch, and ends as if it had never stopped."""

import random
import signal
import time
from pathlib import Path

import pytest
from train_helpers import SMALL, command, epochs_done, left, runs, until

import train

IMAGES = SMALL
TEXT = (
    "dataset=pydoc",
    "dataset.batch_size=128",
    "dataset.sequence_length=200",
    "model=lstm_char",
    "model.embedding=8",
    "model.hidden=8",
    "trainer.epochs=3",
    "trainer.threads=1",
)
CELLS = {
    "sgd": ("optimizer=sgd", "optimizer.schedule.start=2", *IMAGES),
    "sgd_salr": ("optimizer=sgd_salr", *IMAGES),
    "adam_salr": ("optimizer=adam_salr", "optimizer.base.lr=0.001", *IMAGES),
    "entropy_sgd_salr": ("optimizer=entropy_sgd_salr", *IMAGES),
    "swa": ("optimizer=swa", "optimizer.averaging.start=0.5", *IMAGES),
    "text": ("optimizer=adam_salr", *TEXT),
}


@pytest.mark.parametrize("cell", CELLS)
def test_killed_at_any_moment_it_ends_as_if_never_stopped(cell: str, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    begun = time.monotonic()
    assert train.main([*CELLS[cell], f"results={whole}"]) == 0
    length = time.monotonic() - begun
    (expected,) = runs(whole).values()
    total = len(expected.read_metrics())

    chance, said = random.Random(cell), []
    for kill in range(4):
        with command(tmp_path, *CELLS[cell], f"results={killed}") as run:
            wanted = min(kill, total - 1)
            until(lambda: not run.running or any(epochs_done(r) >= wanted for r in runs(killed).values()))  # noqa: B023
            time.sleep(chance.uniform(0, 1) * length / total)
            run.send(signal.SIGKILL)
            assert run.wait() in (0, -signal.SIGKILL)
            said.append(run.text)
    with command(tmp_path, *CELLS[cell], f"results={killed}") as run:
        assert run.wait() == 0, run.text
    (survivor,) = runs(killed).values()
    print(length, said, run.text)
    assert left(survivor) == left(expected)

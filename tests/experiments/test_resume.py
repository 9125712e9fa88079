"""A run that is killed or interrupted resumes at its last whole epoch and ends like an uninterrupted run."""

import random
import re
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.commands import SMALL, command, epochs_done, left, runs, train, until
from tests.helpers.records import fill

TEXT = (
    "dataset=pydoc",
    "dataset.batch_size=128",
    "dataset.sequence_length=200",
    "model=lstm_char",
    "model.embedding=4",
    "model.hidden=4",
    "optimizer.salr.interval=6",
    "trainer.epochs=2",
    "trainer.threads=1",
)
CELLS = {
    "sgd": ("optimizer=sgd", "optimizer.schedule.start=2", *SMALL),
    "sgd_salr": ("optimizer=sgd_salr", *SMALL),
    "adam_salr": ("optimizer=adam_salr", "optimizer.base.lr=0.001", *SMALL),
    "entropy_sgd_salr": ("optimizer=entropy_sgd_salr", *SMALL),
    "swa": ("optimizer=swa", "optimizer.averaging.start=0.5", "model=lenet", *SMALL),
    "text": ("optimizer=adam_salr", *TEXT),
}


FIFTY = [
    pytest.param(
        cell,
        ["trainer.epochs=10"],
        id=f"{cell}, ten times",
        marks=pytest.mark.soak,
    )
    for cell in CELLS  # sixty moments, for a run may have ended before its last one
]


@pytest.mark.parametrize(("cell", "length"), [*(pytest.param(cell, [], id=cell) for cell in CELLS), *FIFTY])
def test_killed_at_any_moment_it_ends_as_if_never_stopped(
    cell: str, length: list[str], tmp_path: Path
) -> None:
    whole, killed = ([*CELLS[cell], *length, f"results={tmp_path / name}"] for name in ("whole", "killed"))
    begun = time.monotonic()
    assert train(whole) == 0
    expected = runs(tmp_path / "whole")[0]
    epochs = len(expected.read_metrics())
    epoch = (time.monotonic() - begun) / epochs

    chance, said = random.Random(cell), []
    for kill in range(epochs):
        with command(tmp_path / "here", *killed) as run:
            # One kill while it starts, and one within each epoch or while the epoch is recorded.
            until(lambda: not run.running or epochs_done(tmp_path / "killed") >= kill)  # noqa: B023
            time.sleep(chance.uniform(0, epoch))
            run.send(signal.SIGKILL)
            assert run.wait() in (0, -signal.SIGKILL)
            said.append(run.text)
    with command(tmp_path / "here", *killed) as run:
        assert run.wait() == 0, run.text
        said.append(run.text)
    assert left(runs(tmp_path / "killed")[0]) == left(expected)
    lines = re.findall(r"^  seed 0: epoch (\d+)/", "".join(said), re.MULTILINE)
    assert max(Counter(lines).values()) == 1  # an epoch that was told of is not trained again
    assert "set aside" not in "".join(said)
    assert "Traceback" not in "".join(said)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_cleanly_and_the_same_command_goes_on(
    number: signal.Signals, tmp_path: Path
) -> None:
    long = [*CELLS["sgd_salr"], "seeds=2", "trainer.epochs=12"]
    assert train([*long, f"results={tmp_path / 'whole'}"]) == 0
    stopped = tmp_path / "stopped"
    with command(tmp_path / "here", *long, f"results={stopped}") as run:
        until(lambda: epochs_done(stopped) >= 2)
        run.send(number)
        assert run.wait() == 130
        assert "train.py: interrupted; run the same command again to resume\n" in run.text
        assert "seed 0: interrupted" in run.text
        assert "Traceback" not in run.text
    interrupted = runs(stopped)[0]
    assert interrupted.state() == "interrupted"
    assert (interrupted.read_json("status.json") or {})["state"] == "interrupted"
    assert not interrupted.is_claimed()
    with command(tmp_path / "here", *long, f"results={stopped}") as run:
        assert run.wait() == 0
        assert re.search(r"seed 0: resumed after epoch \d+ of 12", run.text)
    for seed, expected in runs(tmp_path / "whole").items():
        assert left(runs(stopped)[seed]) == left(expected)


def test_a_full_disk_ends_a_run_with_one_line_and_it_goes_on_once_there_is_room(
    small_disk: Path, tmp_path: Path
) -> None:
    long = [*CELLS["text"], "trainer.epochs=8"]
    assert train([*long, f"results={tmp_path / 'whole'}"]) == 0
    results = small_disk / "results"
    with command(tmp_path / "here", *long, f"results={results}") as run:
        until(lambda: epochs_done(results) >= 2)  # then the first epoch's checkpoint is there
        filler = fill(small_disk, leave=0)
        assert run.wait() == 1, run.text
        assert "No space left on device; free some space and start the same command again" in run.text
        assert "Traceback" not in run.text
    assert runs(results)[0].state() in ("failed", "interrupted")
    filler.unlink()
    with command(tmp_path / "here", *long, f"results={results}") as run:
        assert run.wait() == 0, run.text
        assert re.search(r"seed 0: resumed after epoch \d of 8", run.text)
    assert left(runs(results)[0]) == left(runs(tmp_path / "whole")[0])

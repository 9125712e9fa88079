"""Train a cell: skip the seeds that have ended, resume the interrupted ones, train the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli import ExitCode, code_of
from experiments.records import records_of
from experiments.schema import Config
from salr.records import State, check_writable
from salr.reporting import summarise, text_table

if TYPE_CHECKING:
    from salr.training import Watch


def train_cell(config: Config, watch: Watch | None = None) -> dict[int, State]:
    """Train every seed that has not ended. Torch is loaded only if there is something to train.

    Args:
        config: the cell and its seeds.
        watch: reports how far the sweep is that the cell belongs to.

    Returns:
        The state of each seed: ``FINISHED``, ``DIVERGED``, ``FAILED`` or ``OUT_OF_MEMORY`` (the record says
        why), or ``BUSY`` (another live process trains it).

    Raises:
        ValueError, data.DataError, salr.records.RecordError: before anything is trained.
        KeyboardInterrupt: when stopped. The same call resumes every run at its last whole epoch.
    """
    check_writable(Path(config.results))
    states = {}
    for record in records_of(config):
        states[record.seed] = state = record.state()
        if state.settled:
            print(f"seed {record.seed}: already {state}, skipped ({record.folder})", flush=True)
    left = [seed for seed, state in states.items() if not state.settled]
    if left:
        from experiments.seeds import train_seeds

        states |= train_seeds(config, left, watch)
    return states


def train_and_print(config: Config) -> ExitCode:
    """Train a cell, print the result of its seeds, and return the exit code."""
    states = train_cell(config)
    print(results_table([config]))
    return code_of(states.values())


def results_table(configs: Sequence[Config]) -> str:
    """Return the results of finished runs as text, one row per cell."""
    return text_table([summarise(config.title, records_of(config)) for config in configs])

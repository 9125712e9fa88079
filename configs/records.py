"""Where the runs of a configuration are recorded. No torch here."""

from dataclasses import replace
from pathlib import Path

from salr.records import Run, run_key

from .compose import plain
from .schema import Config, epochs, key_of, seeds_of

ENDED = ("finished", "diverged")
"""The states of runs that are not trained again."""


def record_of(config: Config, seed: int) -> Run:
    """Where the run of this configuration and seed is recorded."""
    key = run_key(key_of(plain(config), epochs(config)))
    return Run(Path(config.results), config.dataset.name, config.model.name, config.optimizer.name, key, seed)


def folder_of(config: Config) -> Path:
    """Where the runs of the cell are: what several tables show is one cell where this is the same."""
    return record_of(config, 0).folder.parent


def records_of(config: Config) -> list[Run]:
    """The records of all its seeds, begun or not. The key, which costs milliseconds, is the cell's: it is made once."""
    first = record_of(config, 0)
    return [replace(first, seed=seed) for seed in seeds_of(config)]

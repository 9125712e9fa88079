"""Where the runs of a configuration are recorded. Does not import torch."""

from dataclasses import replace
from pathlib import Path

from experiments.schema import Config, plain
from experiments.schema.config import key_of
from salr.records import Run, run_key


def record_of(config: Config, seed: int) -> Run:
    """Return the record of the run with this configuration and seed."""
    key = run_key(key_of(plain(config), config.epochs))
    dataset, model, optimizer = config.dataset.name, config.model.title, config.optimizer.name
    return Run(Path(config.results), dataset, model, optimizer, key, seed)


def folder_of(config: Config) -> Path:
    """Return the folder of a cell's runs. Two configurations with the same folder are the same cell."""
    return record_of(config, 0).folder.parent


def records_of(config: Config) -> list[Run]:
    """Return the records of all seeds, begun or not."""
    first = record_of(config, 0)  # making the key takes milliseconds, and all seeds have the same
    return [replace(first, seed=seed) for seed in config.seed_list]

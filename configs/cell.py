"""A cell from start to end: its seeds trained, skipped or resumed. Torch is loaded only where there is something to train."""

from pathlib import Path

from salr.records import Run, check_writable, run_key

from .compose import plain
from .schema import Config, epochs, key_of, seeds_of

ENDED = ("finished", "diverged")


def record_of(config: Config, seed: int) -> Run:
    """Where the run of this configuration and seed is recorded."""
    key = run_key(key_of(plain(config), epochs(config)))
    return Run(Path(config.results), config.dataset.name, config.model.name, config.optimizer.name, key, seed)


def records_of(config: Config) -> list[Run]:
    """The records of all its seeds, begun or not."""
    return [record_of(config, seed) for seed in seeds_of(config)]


def train_cell(config: Config) -> dict[int, str]:
    """Trains every seed that has not ended; returns the state of each seed.

    States: "finished", "diverged", "failed" (the reason is on its record) and "busy" (another live process trains it).

    Raises:
        ValueError, data.DataError, salr.records.RecordError: before anything is trained.
        KeyboardInterrupt: when stopped; every run goes on from its last whole epoch the next time.
    """
    check_writable(Path(config.results))
    states = {}
    for record in records_of(config):
        states[record.seed] = record.state()
        if states[record.seed] in ENDED:
            print(f"seed {record.seed}: already {states[record.seed]}, skipped ({record.folder})", flush=True)
    to_train = [seed for seed, state in states.items() if state not in ENDED]
    if to_train:
        from .work import train_seeds

        states |= train_seeds(config, to_train)
    return states

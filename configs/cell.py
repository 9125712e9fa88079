"""A cell from start to end: its seeds trained, skipped or resumed. Torch is loaded only where there is something to train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from salr.records import check_writable

from .records import ENDED, records_of
from .schema import Config

if TYPE_CHECKING:
    from salr.training import Watch


def train_cell(config: Config, watch: Watch | None = None) -> dict[int, str]:
    """Trains every seed that has not ended; returns the state of each seed. ``watch`` tells of the sweep that it is a part of.

    States: "finished", "diverged", "failed" or "out of memory" (its record says why), "busy" (another live process trains it).

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

        states |= train_seeds(config, to_train, watch)
    return states

"""All the runs of a results folder."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salr.records.errors import RecordError, cannot
from salr.records.run import NAME, Run
from salr.records.state import State

if TYPE_CHECKING:
    import pandas

log = logging.getLogger("salr.records")

_SEED = re.compile(r"seed-(0|[1-9][0-9]*)")
_IDENTITY = ("dataset", "model", "optimizer", "key", "seed", "state")


def find_runs(results: Path) -> Iterator[Run]:
    """Every run under `results`, in the order of names and seeds; files and folders not named like a run are passed by."""
    root = results / "runs"
    for dataset in _named(root):
        for model in _named(root / dataset):
            for cell in _folders(root / dataset / model):
                optimizer, _, key = cell.partition("-")
                if NAME.fullmatch(optimizer) and NAME.fullmatch(key):
                    matches = map(_SEED.fullmatch, _folders(root / dataset / model / cell))
                    for seed in sorted(int(match[1]) for match in matches if match):
                        yield Run(results, dataset, model, optimizer, key, seed)


def summaries(results: Path) -> pandas.DataFrame:
    """One row a run: dataset, model, optimizer, key, seed, state, then every key of its `summary.json`.

    A run whose status or summary is damaged is logged and has the state "damaged" and no values. Nothing is renamed,
    so that reading never disturbs a run at work. Memory: the table's rows and one record at a time.
    """
    import pandas

    rows = [_row(run) for run in find_runs(results)]
    return pandas.DataFrame(rows) if rows else pandas.DataFrame(columns=list(_IDENTITY))


def check_writable(results: Path) -> None:
    """Raise RecordError, one line, unless files can be made in `results`, which is created where it is absent."""
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        raise RecordError(f"cannot write to {results}: it is not a folder") from error
    except OSError as error:
        raise cannot("write to", results, error) from error


def _row(run: Run) -> dict[str, Any]:
    try:
        state, summary = run.inspect()
    except RecordError as error:
        log.warning("%s; the run counts as damaged", error)
        state, summary = State.DAMAGED, {}
    identity = (run.dataset, run.model, run.optimizer, run.key, run.seed, state)
    row: dict[str, Any] = dict(zip(_IDENTITY, identity, strict=True))
    return row | {key: value for key, value in summary.items() if key not in row}


def _named(folder: Path) -> list[str]:
    return [name for name in _folders(folder) if NAME.fullmatch(name)]


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise cannot("read", folder, error) from error

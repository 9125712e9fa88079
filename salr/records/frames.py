"""Load all runs of a results folder into pandas."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salr.records.collection import find_runs
from salr.records.errors import RecordError
from salr.records.run import Run
from salr.records.state import State

if TYPE_CHECKING:
    import pandas

log = logging.getLogger("salr.records")

RUN_COLUMNS = ("dataset", "model", "optimizer", "key", "seed")
"""The columns that identify a run, in both frames."""


def load_runs(results: str | os.PathLike[str]) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Load all runs of a results folder. Nothing is renamed, so runs in training are not disturbed.

    Args:
        results: the folder that holds ``runs/``.

    Returns:
        Two frames. The first has one row per run, with the columns ``dataset``, ``model``, ``optimizer``,
        ``key``, ``seed``, ``state`` (see :class:`~salr.records.State`), the configuration's values as
        ``config.optimizer.base.lr`` and the summary's values, those of nested entries as ``made_by.device``.
        Lists become tuples; a value that a run does not have is missing. The second has one row per epoch,
        with the columns that identify the run, and the metrics. A run that cannot be read is logged; it has
        the state ``damaged``, no values and no epochs. Damaged lines of metrics are logged and left out. The
        memory needed is about twice that of the frames.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from salr.records import Run, State, load_runs
        >>> results = Path(tempfile.mkdtemp())
        >>> for seed, accuracy in ((0, 0.97), (1, 0.99)):
        ...     run = Run(results, "digits", "lenet", "sgd", "0123456789", seed)
        ...     with run.claim():
        ...         run.append_metrics({"epoch": 1, "test_accuracy": accuracy})
        ...         run.write_json("summary.json", {"test_accuracy": accuracy})
        ...         run.write_status(State.FINISHED, epoch=1)
        >>> runs, epochs = load_runs(results)
        >>> finished = runs[runs.state == "finished"]
        >>> finished.groupby(["dataset", "model", "optimizer"]).test_accuracy.mean().round(2).tolist()
        [0.98]
    """
    runs = _Table([*RUN_COLUMNS, "state"])
    parts: list[pandas.DataFrame] = []
    owners: list[Run] = []
    for run in find_runs(Path(results)):
        try:
            row, metrics = _load(run)
        except RecordError as error:
            log.warning("%s; the run counts as damaged", error)
            row, metrics = _identity(run) | {"state": str(State.DAMAGED)}, []
        runs.append(row)
        if metrics:
            part = _Table([])
            for values in metrics:
                part.append(values)
            parts.append(part.frame())
            owners.append(run)
    return runs.frame(), _join(parts, owners)


class _Table:
    """Rows kept as columns, which need less memory than a dict per row."""

    def __init__(self, columns: Iterable[str]) -> None:
        self._known = tuple(columns)
        self._columns: dict[str, list[Any]] = {name: [] for name in self._known}
        self._rows = 0

    def append(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            if name not in self._columns:
                self._columns[name] = [None] * self._rows
            self._columns[name].append(value)
        self._rows += 1
        for column in self._columns.values():
            if len(column) < self._rows:
                column.append(None)

    def frame(self) -> pandas.DataFrame:
        """Return the rows, with the configuration's columns before those that are not the run's identity."""
        import pandas

        configured = [name for name in self._columns if name.startswith("config.")]
        order = dict.fromkeys([*self._known, *configured, *self._columns])
        return pandas.DataFrame({name: self._columns[name] for name in order})


def _load(run: Run) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the run's row and its metrics, or raise RecordError."""
    state, summary = run.inspect()
    known = _identity(run) | {"state": str(state)}
    known |= {f"config.{name}": value for name, value in _flat(run.inspect_config())}
    values = {name: value for name, value in _flat(summary) if name not in known}
    return known | values, [dict(_flat(row)) for row in run.read_metrics()]


def _identity(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in RUN_COLUMNS}


def _flat(entries: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value with its dotted name. Lists become tuples, which pandas can group by."""
    for name, value in entries.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", tuple(value) if isinstance(value, list) else value


def _join(parts: list[pandas.DataFrame], owners: list[Run]) -> pandas.DataFrame:
    """Return one frame of all epochs, with the columns that identify their runs first."""
    import numpy
    import pandas

    lengths = [len(part) for part in parts]
    epochs = pandas.concat(parts, ignore_index=True) if parts else pandas.DataFrame(columns=["epoch"])
    epochs = epochs.drop(columns=[name for name in RUN_COLUMNS if name in epochs])
    for place, name in enumerate(RUN_COLUMNS):
        values = pandas.Series([getattr(run, name) for run in owners])
        epochs.insert(place, name, values.to_numpy()[numpy.repeat(numpy.arange(len(parts)), lengths)])
    return epochs

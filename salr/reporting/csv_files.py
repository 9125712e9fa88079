"""Tables as CSV. The same records give the same bytes: no dates, no times of day."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeVar

from salr.reporting.cells import Cell
from salr.reporting.comparisons import Comparison
from salr.reporting.render import differs
from salr.reporting.tables import Table

TIMES = ("seconds",)
"""Columns that two runs of the same cell do not share."""

T = TypeVar("T")
Columns = Mapping[str, Callable[[T], object]]
"""By name, what a column holds of a row's object."""

_CELL: Columns[tuple[Table, Cell]] = {
    "table": lambda row: row[0].number,
    "preset": lambda row: row[0].preset,
    "overrides": lambda row: " ".join(row[0].overrides),
    "dataset": lambda row: row[1].wanted.published.dataset,
    "network": lambda row: row[1].wanted.published.network,
    "method": lambda row: row[1].wanted.published.method,
    "trained_dataset": lambda row: row[1].wanted.dataset,
    "trained_network": lambda row: row[1].wanted.network,
    "optimizer": lambda row: row[1].wanted.optimizer,
    "metric": lambda row: row[1].metric.name,
    "mean": lambda row: row[1].estimate.mean,
    "std": lambda row: row[1].estimate.std,
    "n": lambda row: row[1].estimate.n,
    "wanted": lambda row: len(row[1].wanted.runs),
    "others": lambda row: row[1].others,
    "test_sampling_error": lambda row: row[1].sampling_error,
    "published_mean": lambda row: row[1].wanted.published.mean,
    "published_std": lambda row: row[1].wanted.published.std,
    "published_n": lambda row: row[1].wanted.published.seeds,
    "mean_minus_published": lambda row: row[1].estimate.mean - row[1].wanted.published.mean,
    "p_holm_published": lambda row: row[1].gap_p,
    "differs": lambda row: differs(row[1]),
    "epochs": lambda row: row[1].mean_of("epochs"),
    "gradient_calls": lambda row: row[1].mean_of("gradient_calls"),
    "seconds": lambda row: row[1].mean_of("seconds"),
}

_RUN: Columns[tuple[Cell, int, Mapping[str, Any]]] = {
    "dataset": lambda row: row[0].wanted.published.dataset,
    "network": lambda row: row[0].wanted.published.network,
    "method": lambda row: row[0].wanted.published.method,
    "seed": lambda row: row[1],
    "value": lambda row: float(row[0].values[row[1]]),
    "epochs": lambda row: row[2]["epochs"],
    "gradient_calls": lambda row: float(row[2]["gradient_calls"]),
    "seconds": lambda row: float(row[2]["seconds"]),
    "device": lambda row: row[2]["made_by"]["device"],
    "threads": lambda row: row[2]["made_by"]["threads"],
    "commit": lambda row: row[2]["made_by"]["commit"],
}

_DIFFERENCE: Columns[Comparison] = {
    "claims": lambda each: " ".join(each.claims),
    "dataset": lambda each: each.pair.dataset,
    "network": lambda each: each.pair.network,
    "method": lambda each: each.pair.method,
    "against": lambda each: each.pair.against,
    "difference": lambda each: each.difference.mean,
    "low_95": lambda each: each.difference.low,
    "high_95": lambda each: each.difference.high,
    "low_corrected": lambda each: each.corrected_interval[0],
    "high_corrected": lambda each: each.corrected_interval[1],
    "p": lambda each: each.difference.p,
    "p_holm": lambda each: each.p,
    "comparisons": lambda each: each.planned,
    "n": lambda each: each.difference.n,
    "paired": lambda each: each.difference.paired,
    "unpaired_low_95": lambda each: each.unpaired.low,
    "unpaired_high_95": lambda each: each.unpaired.high,
    "margin": lambda each: each.margin,
    "p_equivalence_holm": lambda each: each.equivalence_p,
    "outcome": lambda each: each.outcome.value,
    "seeds_to_decide": lambda each: each.seeds_to_decide,
}


def csv_text(table: Table) -> str:
    """Return a line per cell."""
    return _csv(_CELL, [(table, cell) for cell in table.cells])


def runs_csv(table: Table) -> str:
    """Return a line per finished run: what the means are made of."""
    runs = [
        (cell, seed, row) for cell in table.cells for seed, row in zip(cell.values, cell.rows, strict=True)
    ]
    return _csv(_RUN, runs)


def differences_csv(table: Table) -> str:
    """Return a line per comparison."""
    return _csv(_DIFFERENCE, table.comparisons)


def mappings_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """Return a line per mapping; all have the same keys."""
    names = list(rows[0]) if rows else []
    return _csv({name: itemgetter(name) for name in names}, rows)


def _csv(columns: Columns[T], rows: Iterable[T]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_text(value(row)) for value in columns.values()] for row in rows)
    return stream.getvalue()


def _text(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return "" if value is None else value

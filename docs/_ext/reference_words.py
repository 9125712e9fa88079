"""What a row of the committed tables says in words."""

import csv
import re
from pathlib import Path

from salr.reporting.methods import name_of
from salr.reporting.metrics import METRICS
from salr.reporting.statistics import MIN_SEEDS

NO_BREAK = "\u00a0"

Row = dict[str, str]
"""A row of a CSV file."""

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""A head and the rows below it."""


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def budget(first: Row, second: Row) -> str:
    """Return how many gradient calls a run of the first cell makes beside one of the second."""
    times = f"{float(first['gradient_calls']) / float(second['gradient_calls']):.3g}"
    return "at equal gradient calls" if times == "1" else f"with {times} times the gradient calls"


def interval(row: Row) -> str:
    """Return the 95 % interval of a difference and a comma; nothing if there are too few seeds for one."""
    if not row["low_95"]:
        return ""
    low, high = sorted((float(row["low_95"]), float(row["high_95"])))
    return f"95 % interval {low:+.3g} to {high:+.3g}, "


def outcome(row: Row) -> str:
    """Return the outcome of a comparison, with its p-value, and whether the difference matters."""
    p = (
        row["p_holm"]
        and f"after correction for the comparisons of its claim p = {float(row['p_holm']):.2g}: "
    )
    small = row["outcome"] in ("better", "worse") and abs(float(row["difference"])) < float(row["margin"])
    return p + row["outcome"] + (", by less than the margin of equivalence" if small else "")


def seeds(number: str) -> str:
    """Return a number of seeds in words."""
    return f"{number} seed" if number == "1" else f"{number} seeds"


def place(row: Row) -> str:
    """Return the network and the data set of a cell or of a comparison."""
    return f"{row['network']}, {row['dataset']}"


def diverged(row: Row) -> str:
    """Return how many runs of a cell diverged, which its mean does not have; empty if none did."""
    found = re.search(r"\d+ diverged", row.get("others", ""))
    return f", {found[0]}" if found else ""


def ended(row: Row) -> bool:
    """Whether a run of the row has finished or diverged."""
    counts = (row.get(name) for name in ("n", "runs", "diverged"))
    return any(count not in (None, "", "0") for count in counts) or bool(diverged(row))


def beside_published(row: Row) -> str:
    """Return whether a cell's mean differs from the published one, and over how many runs it is taken."""
    cell, number = f"{row['network']}, {row['dataset']}, {name_of(row['method'])}", int(row["n"])
    runs = f"{row['n']} of {row['wanted']} seeds{diverged(row)}"
    if number == 0:
        return f"{cell}: nothing is measured ({runs})"
    differs = "differs" if row["differs"] == "True" else "does not differ significantly"
    word = f"{differs} from" if number >= MIN_SEEDS else "has too few seeds to be compared with"
    metric = METRICS[row["metric"]]
    gap = metric.difference(f"{float(row['mean_minus_published']):+.{metric.digits}f}")
    return f"{cell}: the measured mean {word} the published mean ({gap}, {runs})"

#!/usr/bin/env python3
"""List the cells of a results folder: seeds done, mean, deviation, and the options in which cells differ.

python scripts/runs.py                                       all cells below results/
python scripts/runs.py dataset=mnist state=finished          only such runs
python scripts/runs.py results=DIR optimizer.base.lr=0.1 --csv
"""

import json
import math
from pathlib import Path
from typing import Any

from experiments.cli import ExitCode, Parser, start
from experiments.schema import ConfigError, load
from experiments.schema.config import has_effect


def main(arguments: list[str]) -> int:
    parser = Parser(__doc__)
    parser.add_argument(
        "filters",
        nargs="*",
        metavar="NAME=VALUE",
        help="results=DIR names the folder, the others choose runs",
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--csv", action="store_true", help="print comma-separated values")
    kind.add_argument("--json", action="store_true", help="print a JSON list")
    chosen = parser.parse_args(arguments)
    filters: dict[str, str] = {}
    for word in chosen.filters:
        name, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"{word}: expected name=value, such as dataset=mnist")
        if name in filters:
            raise ConfigError(f"{word}: {name} is given twice; expected one value")
        filters[name] = value
    results = Path(load([f"results={filters.pop('results', 'results')}"]).results)
    if not results.is_dir():
        raise ConfigError(f"results={results}: no such folder")

    from salr.records import load_runs
    from salr.reporting.listing import cells, matching

    found = cells(matching(load_runs(results)[0], filters), has_effect)
    if chosen.csv:
        print(found.to_csv(index=False), end="")
    elif chosen.json:
        print(json.dumps([_plain(row) for row in found.to_dict("records")], indent=1))
    else:
        print(_columns(found.to_dict("records")) if len(found) else f"no such runs below {results}")
    return ExitCode.FINISHED


def _columns(rows: list[dict[str, Any]]) -> str:
    from salr.reporting.summary import aligned

    lines = [("cell", "metric", "mean", "std", "n", "states", "options")]
    for row in rows:
        name = f"{row['dataset']} {row['model']} {row['optimizer']}-{row['key']}"
        numbers = ("" if math.isnan(row[each]) else f"{row[each]:.2f}" for each in ("mean", "std"))
        lines.append((name, row["metric"], *numbers, str(row["n"]), row["states"], row["options"]))
    return aligned(lines, left=(0, 1, 5, 6))


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as JSON can hold it, which has no NaN."""
    return {name: None if value != value else value for name, value in row.items()}


if __name__ == "__main__":
    start(main)

#!/usr/bin/env python3
"""SGD and Adam, each with and without SALR, on the embedded digits: a table and a picture in a few minutes, without a network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from configs.cell import train_cell
from configs.compose import load
from configs.records import records_of
from salr.reporting import summarise, text_table
from salr.reporting.figures import error_and_factor
from scripts.command import Parser, start
from train import exit_code

OPTIMIZERS = ("sgd", "sgd_salr", "adam", "adam_salr")


def main(arguments: list[str]) -> int:
    parser = Parser(__doc__)
    parser.add_argument("results", nargs="?", default="results/demo", help="where the records go (default %(default)s)")
    results = parser.parse_args(arguments).results
    worst, cells, curves = 0, [], {}
    for optimizer in OPTIMIZERS:
        config = load([f"optimizer={optimizer}", "seeds=3", f"results={results}"])
        states = train_cell(config)
        worst = max(worst, exit_code(states))
        records = records_of(config)
        cells.append(summarise(optimizer, records))
        curves[optimizer] = [record.read_metrics() for record in records]
    picture = Path(results) / "demo.png"
    error_and_factor(curves, picture)
    print(f"\n{text_table(cells)}\n\nTest error and learning-rate factor against gradient calls: {picture}")
    return worst


if __name__ == "__main__":
    sys.exit(start(main))

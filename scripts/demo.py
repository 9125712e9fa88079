#!/usr/bin/env python3
"""Train SGD and Adam with and without SALR on embedded digits: a table and a picture, no download."""

import argparse
from pathlib import Path

from experiments.cell import train_cell
from experiments.cli import Parser, code_of, start, worst
from experiments.records import records_of
from experiments.schema import load
from salr.records import State
from salr.reporting import summarise, text_table
from salr.reporting.figures import error_and_factor

OPTIMIZERS = ("sgd", "sgd_salr", "adam", "adam_salr")


def main(arguments: list[str]) -> int:
    parser = Parser(__doc__)
    parser.add_argument(
        "results",
        nargs="?",
        type=_results,
        default="results=results/demo",
        metavar="results=DIR",
        help="the folder of the records (default %(default)s)",
    )
    results = parser.parse_args(arguments).results
    codes, cells, curves = [], [], {}
    for optimizer in OPTIMIZERS:
        config = load([f"optimizer={optimizer}", "seeds=3", results])
        codes.append(code_of(train_cell(config).values()))
        records = records_of(config)
        cells.append(summarise(optimizer, records))
        curves[optimizer] = [record.read_metrics() for record in records if record.state() is State.FINISHED]
    picture = Path(config.results) / "demo.png"
    error_and_factor(curves, picture)
    print(f"\n{text_table(cells)}\n\nTest error and learning-rate factor against gradient calls: {picture}")
    return worst(codes)


def _results(word: str) -> str:
    """Check ``results=DIR``, as an argparse type."""
    if not word.startswith("results="):
        raise argparse.ArgumentTypeError(f"{word}: expected results=DIR")
    return word


if __name__ == "__main__":
    start(main)

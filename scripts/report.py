#!/usr/bin/env python3
"""Make tables, verdicts, figures and the page of whatever the records hold. Trains nothing.

python scripts/report.py                        all nine tables and results/report.html
python scripts/report.py 1 --seeds 3 --override trainer.precision=bf16
"""

import argparse
from pathlib import Path

from experiments.cli import ExitCode, Parser, start
from experiments.paper.published import TABLES
from experiments.paper.tables import PRESETS
from experiments.report import make_report
from experiments.schema import load
from salr.reporting.metrics import MARGINS


def main(arguments: list[str]) -> int:
    parser = Parser(__doc__)
    parser.add_argument("tables", nargs="*", type=int, help="numbers from 1 to 9; all by default")
    parser.add_argument("--preset", choices=PRESETS, default="paper")
    parser.add_argument(
        "--seeds", default="30", help="the seeds that the tables need: 30 (default) or [0,3,7]"
    )
    parser.add_argument(
        "--margin",
        nargs="*",
        default=[],
        type=_margin,
        metavar="METRIC=VALUE",
        help=f"smaller differences do not matter; by default {_words(MARGINS)}",
    )
    parser.add_argument(
        "--override", nargs="*", default=[], metavar="NAME=VALUE", help="options of cells, as for train.py"
    )
    chosen = parser.parse_args(arguments)
    overrides = [f"seeds={chosen.seeds}", *chosen.override]
    results = Path(load([word for word in overrides if word.startswith("results=")]).results)
    margins = {**MARGINS, **dict(chosen.margin)}
    make_report(chosen.tables or list(TABLES), chosen.preset, overrides, results, margins=margins)
    return ExitCode.FINISHED  # what is missing is said, and is no error


def _margin(text: str) -> tuple[str, float]:
    """Parse ``accuracy_percent=0.2``, as an argparse type."""
    name, _, value = text.partition("=")
    try:
        margin = float(value)
    except ValueError:
        margin = 0.0
    if name not in MARGINS or not 0 < margin < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected METRIC=VALUE > 0, METRIC of {', '.join(MARGINS)}")
    return name, margin


def _words(margins: dict[str, float]) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in margins.items())


if __name__ == "__main__":
    start(main)

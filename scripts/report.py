#!/usr/bin/env python3
"""Make tables, verdicts, figures and the page of whatever the records hold. Trains nothing; can be run at any time.

python scripts/report.py                        all nine tables and results/report.html
python scripts/report.py 1 --seeds 3 --override trainer.precision=bf16
"""

from pathlib import Path

from experiments.cli import ExitCode, Parser, start
from experiments.paper.published import TABLES
from experiments.paper.tables import PRESETS
from experiments.report import make_report
from experiments.schema import load


def main(arguments: list[str]) -> int:
    parser = Parser(__doc__)
    parser.add_argument("tables", nargs="*", type=int, help="numbers from 1 to 9; all by default")
    parser.add_argument("--preset", choices=PRESETS, default="paper")
    parser.add_argument("--seeds", default="30", help="the seeds that the tables want")
    parser.add_argument(
        "--override", nargs="*", default=[], metavar="NAME=VALUE", help="of the cells, as for train.py"
    )
    chosen = parser.parse_args(arguments)
    overrides = [f"seeds={chosen.seeds}", *chosen.override]
    results = Path(load([word for word in overrides if word.startswith("results=")]).results)
    missing = make_report(chosen.tables or list(TABLES), chosen.preset, overrides, results)
    return ExitCode.FAILED if missing else ExitCode.FINISHED


if __name__ == "__main__":
    start(main)

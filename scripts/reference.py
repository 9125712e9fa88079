#!/usr/bin/env python3
"""Copy finished runs into results/reference/runs, without weights, hosts, processes and paths.

python scripts/reference.py results          every finished run of this results folder that is not there yet
"""

from pathlib import Path

from experiments.cli import Parser, start
from experiments.reference import export
from experiments.schema.paths import PROJECT
from salr.records import check_writable


def main(arguments: list[str]) -> None:
    parser = Parser(__doc__)
    parser.add_argument("results", type=Path, help="the folder of the records")
    parser.add_argument("--reference", type=Path, default=PROJECT / "results" / "reference", metavar="DIR")
    chosen = parser.parse_args(arguments)
    if not (chosen.results / "runs").is_dir():
        parser.error(f"{chosen.results}: expected a folder with runs")
    check_writable(chosen.reference)
    copies = export(chosen.results, chosen.reference)
    for run in copies:
        print(run.name)
    print(f"{len(copies)} runs copied to {chosen.reference}")


if __name__ == "__main__":
    start(main)

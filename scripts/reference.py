#!/usr/bin/env python3
"""Make the tables, figures and pages of results/reference from the runs that are kept there. Trains nothing.

python scripts/reference.py                  make everything anew; the same runs give the same files
python scripts/reference.py results          first copy every run of this folder that has ended

A copy has no weights, hosts, processes and paths. What is kept already is not copied again.
"""

from pathlib import Path

from experiments.cli import Parser, start
from experiments.reference import export, make
from experiments.schema.paths import PROJECT
from salr.records import check_writable


def main(arguments: list[str]) -> None:
    parser = Parser(__doc__)
    parser.add_argument("results", type=Path, nargs="*", help="folders of records to copy from")
    parser.add_argument(
        "--reference",
        type=Path,
        default=PROJECT / "results" / "reference",
        metavar="DIR",
        help="the folder of these runs and of what is made from them",
    )
    chosen = parser.parse_args(arguments)
    for results in chosen.results:
        if not (results / "runs").is_dir():
            parser.error(f"{results}: expected a folder with runs")
    check_writable(chosen.reference)
    for results in chosen.results:
        copies = export(results, chosen.reference)
        for run in copies:
            print(run.name)
        print(f"{len(copies)} runs copied to {chosen.reference}")
    make(chosen.reference)


if __name__ == "__main__":
    start(main)

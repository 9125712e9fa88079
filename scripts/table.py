#!/usr/bin/env python3
"""Train the cells of tables, say first what that costs, and make the tables of whatever the records hold.

python scripts/table.py 1 2 --seeds 30                  train what is missing, then make the tables
python scripts/table.py all --preset smoke --seeds 2    everything end to end in minutes, on embedded data
python scripts/table.py 2 --plan                        only say what it would cost
python scripts/table.py 1 --networks lenet,mnistfc      train only these of its networks
"""

from experiments.cli import Parser, start
from experiments.paper.tables import PRESETS
from experiments.paper.training import TableRequest, train_tables
from experiments.sweep import add_arguments


def main(arguments: list[str]) -> int:
    parser = Parser(__doc__)
    parser.add_argument("tables", nargs="+", help="numbers from 1 to 9, or all")
    parser.add_argument("--preset", choices=PRESETS, default="paper")
    parser.add_argument("--seeds", default="30", help="how many, or which: 30 (default) or [0,3,7]")
    parser.add_argument(
        "--networks", default="", metavar="A,B", help="only these networks of the tables; all by default"
    )
    add_arguments(parser)
    return train_tables(TableRequest(**vars(parser.parse_args(arguments))))


if __name__ == "__main__":
    start(main)

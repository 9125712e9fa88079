"""Fetch and check the data sets: `python scripts/download.py [NAME ...] [--root FOLDER]`."""

import os
import sys

import data
from experiments.cli import Parser, start


def main(arguments: list[str]) -> int:
    """One line a data set; 1 where one of them failed (the others are still fetched), else 0."""
    parser = Parser("Fetch and check the official files of the data sets.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which ones (default: all): {', '.join(data.names())}"
    )
    parser.add_argument(
        "--root", default=os.environ.get("SALR_DATA_DIR", "datasets"), help="where (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in data.names()]:
        parser.error(f"no data set {', '.join(unknown)}: expected some of {', '.join(data.names())}")
    failed = False
    for name in options.names or data.names():
        try:
            folder = data.fetch(name, options.root)
        except data.DataError as error:
            failed = True
            print(error, file=sys.stderr)
        else:
            print(
                f"{name}: {'needs no files' if folder is None else f'complete and checked in {folder}'}",
                flush=True,
            )
    return int(failed)


if __name__ == "__main__":
    start(main)

"""Fetch and check the official files of the data sets: ``python scripts/download.py [NAME ...]``."""

import os
import sys

import data
from experiments.cli import ExitCode, Parser, start


def main(arguments: list[str]) -> ExitCode:
    """Print one line per data set. If one of them fails, the others are still fetched."""
    parser = Parser("Fetch and check the official files of the data sets.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which data sets (default: all): {', '.join(data.names())}"
    )
    parser.add_argument(
        "--root",
        metavar="FOLDER",
        default=os.environ.get("SALR_DATA_DIR", "downloads"),
        help="the folder of the files (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in data.names()]:
        parser.error(f"no data set {', '.join(unknown)}: expected some of {', '.join(data.names())}")
    code = ExitCode.FINISHED
    for name in options.names or data.names():
        try:
            folder = data.fetch(name, options.root)
        except data.DataError as error:
            code = ExitCode.FAILED
            print(error, file=sys.stderr)
        else:
            state = "needs no files" if folder is None else f"complete and checked in {folder}"
            print(f"{name}: {state}", flush=True)
    return code


if __name__ == "__main__":
    start(main)

#!/usr/bin/env python3
"""Upload the runs that W&B has kept offline. Needs `wandb login` or WANDB_API_KEY.

python scripts/wandb_sync.py                       those below results/
python scripts/wandb_sync.py results=DIR --dry-run     only say which
"""

import subprocess
import sys
from pathlib import Path

from experiments.cli import ExitCode, Parser, say, start
from experiments.schema import ConfigError, load


def main(arguments: list[str]) -> int:
    parser = Parser(__doc__)
    parser.add_argument(
        "overrides", nargs="*", metavar="NAME=VALUE", help="results or tracker.directory, as for train.py"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be uploaded")
    chosen = parser.parse_args(arguments)
    folder = Path(load(["tracker=wandb", *chosen.overrides]).tracker.directory) / "wandb"
    runs = sorted(folder.glob("offline-run-*"))
    if not runs:
        raise ConfigError(f"{folder}: no offline runs; expected those of train.py tracker=wandb")
    options = ["--dry-run"] if chosen.dry_run else []
    if not chosen.dry_run:
        _check_login()
    # W&B uploads the parts of a resumed run in the order in which they began, and skips what is uploaded.
    code = subprocess.run([sys.executable, "-m", "wandb", "sync", *options, *map(str, runs)]).returncode
    if code:
        say(f"W&B has not uploaded everything (exit code {code}); run the same command again to resume")
    return ExitCode.FAILED if code else ExitCode.FINISHED


def _check_login() -> None:
    try:
        import wandb
    except ImportError:
        raise ConfigError("wandb is not installed; expected `make setup`") from None
    if not wandb.login(prompt=False):
        raise ConfigError("not logged in to W&B; expected `wandb login` before, or WANDB_API_KEY")


if __name__ == "__main__":
    start(main)

"""Train many cells, here or through a launcher, as the tables and the study do. Does not import torch."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.cell import train_cell
from experiments.cli import ExitCode, code_of, count
from experiments.jobs import MOST_JOBS, cut, estimate
from experiments.launch import LAUNCHERS, check_launcher, launch
from experiments.plan import CellPlan, Network
from experiments.progress import Sweep
from experiments.schema import ConfigError
from experiments.schema.overrides import check_overrides, is_launching
from salr.records import check_writable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that become the fields of a :class:`SweepRequest`, but for the preset."""
    parser.add_argument("--launcher", choices=["local", *LAUNCHERS], default="local")
    parser.add_argument(
        "--jobs",
        type=count,
        default=MOST_JOBS,
        help="at most this many jobs of a launcher (default %(default)s)",
    )
    parser.add_argument("--plan", action="store_true", help="only print what it would cost")
    parser.add_argument(
        "--override", nargs="*", default=[], metavar="NAME=VALUE", help="options of cells, as for train.py"
    )


@dataclass(frozen=True)
class SweepRequest:
    """How cells are to be trained, in the words of the arguments."""

    preset: str
    launcher: str
    plan: bool
    jobs: int
    override: Sequence[str]

    @property
    def launching(self) -> list[str]:
        """The launcher's own overrides."""
        return [word for word in self.override if is_launching(word)]

    @property
    def cell_overrides(self) -> list[str]:
        """The overrides of every cell that are on the command line."""
        return [word for word in self.override if not is_launching(word)]

    def check_launching(self) -> None:
        """Raise ConfigError if what is only for a launcher is not allowed, or if there is none."""
        check_overrides(self.launching)
        jobs = [f"--jobs {self.jobs}"] if self.jobs != MOST_JOBS and not self.plan else []
        if (given := [*self.launching, *jobs]) and self.launcher == "local":
            needed = f"expected --launcher {' or '.join(LAUNCHERS)} with it"
            raise ConfigError(f"{given[0]}: only for a launcher; {needed}")

    def check_launcher(self) -> None:
        """Raise ConfigError if this machine lacks what the launcher needs."""
        if self.launcher != "local":
            check_launcher(self.launcher)

    def train(self, plans: Sequence[CellPlan], results: Path) -> list[ExitCode]:
        """Train what is left of the plans.

        Returns:
            Exit codes of the cells that were trained here. The records say what became of the others.

        Raises:
            ConfigError, RecordError, ValueError: before anything is trained.
        """
        left = [each for each in plans if each.seeds_left]
        if self.launcher == "local":
            check_devices(left)
        check_writable(results)
        if not left:
            return []
        if self.launcher == "local":
            return train_here(left)
        launch_all(left, self.jobs, [*LAUNCHERS[self.launcher], *self.launching])
        return []


def check_devices(plans: Sequence[CellPlan]) -> None:
    """Raise ``ValueError`` before anything is made on disk if this machine lacks a chosen device."""
    if not plans:
        return
    from experiments.build import device_of  # loads torch

    for each in plans:
        device_of(each.config)


def train_here(plans: Sequence[CellPlan]) -> list[ExitCode]:
    """Train cell after cell; one that fails does not stop the others."""
    sweep = Sweep(plans)
    codes = []
    for place, each in enumerate(plans, 1):
        print(f"[{place}/{len(plans)}]", end=" ", flush=True)
        codes.append(code_of(train_cell(each.config, sweep.watch(each.config)).values()))
    return codes


def launch_all(plans: Sequence[CellPlan], jobs: int, launching: Sequence[str]) -> None:
    """Hand all that is left to the launcher, in jobs of about equal cost."""
    seconds = seconds_a_call(plans)
    print(estimate(plans, seconds, jobs), flush=True)
    launch([job.cells for job in cut(plans, seconds, jobs)], plans[0].config.results, launching)


def seconds_a_call(plans: Sequence[CellPlan]) -> dict[Network, float]:
    """Return the seconds of a gradient call, timed on this device if no record has them."""
    from experiments.calibrate import seconds_a_call as timed  # loads torch

    return timed(plans)

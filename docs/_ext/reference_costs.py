"""What the paper's tables cost: runs and gradient calls are counted, times are those that were measured.

``OMP_NUM_THREADS=1 make plan ARGS="results=results/reference"`` measures what
``results/reference/calibration.json`` lacks for the device that it runs on.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from reference_words import Table

from experiments.jobs import cut, makespan
from experiments.paper.published import CAPTIONS
from experiments.paper.tables import cells_of_tables
from experiments.plan import CellPlan, Network, duration, plan

ROOT = Path(__file__).resolve().parents[2]
CALIBRATION = ROOT / "results" / "reference" / "calibration.json"
SEEDS = 30
CLUSTER = 64
"""Devices that are alike and share the jobs of a table."""

NOT_MEASURED = "not measured yet"


@dataclass(frozen=True)
class Timed:
    """Where gradient calls were timed, and the seconds of one on each network."""

    made_by: str
    seconds: dict[Network, float]

    def duration(self, plans: list[CellPlan], devices: int) -> str:
        """Return how long devices like this one take, if each network has been timed."""
        if any(each.network not in self.seconds for each in plans):
            return NOT_MEASURED
        return duration(makespan(cut(plans, self.seconds), devices))

    def milliseconds(self, network: Network) -> str:
        seconds = self.seconds.get(network)
        return NOT_MEASURED if seconds is None else f"{1e3 * seconds:,.0f}"


def timed(kind: str) -> Timed:
    """Return the times of the device of a kind, ``cpu`` or ``cuda``. There are none if none was measured.

    Raises:
        ValueError: several devices of this kind were measured, or one of them in several ways.
    """
    found: dict[str, dict[Network, float]] = {}
    for name, seconds in json.loads(CALIBRATION.read_text(encoding="utf-8")).items():
        device, dataset, network, precision, _, threads, torch = name.split(" / ")
        if device.partition(" ")[0] == kind:
            parts = [device.partition(" ")[2], precision, torch]
            if kind == "cpu":
                parts.insert(1, threads.replace("1 threads", "one core"))
            found.setdefault(", ".join(parts), {})[dataset, network] = seconds
    if len(found) > 1:
        raise ValueError(f"{CALIBRATION}: expected one device of the kind {kind}, found {'; '.join(found)}")
    return Timed(*found.popitem()) if found else Timed(NOT_MEASURED, {})


@cache
def plans_of_tables() -> dict[int, list[CellPlan]]:
    """Return what each table needs at the paper's budgets if nothing has been trained."""
    nowhere = f"results={ROOT / 'results' / 'none'}"
    cells = cells_of_tables(list(CAPTIONS), "paper", [f"seeds={SEEDS}", nowhere])
    return {number: plan(each) for number, each in cells.items()}


def costs() -> Table:
    """Return what each table costs on a core of a CPU, on a GPU, and on many of them."""
    head = (
        "table",
        "what",
        "runs",
        "gradient calls",
        "1 CPU core",
        f"{CLUSTER} cores",
        "1 GPU",
        f"{CLUSTER} GPUs",
    )
    lines: list[tuple[str, ...]] = []
    for number, plans in plans_of_tables().items():
        runs, calls = sum(each.runs for each in plans), sum(each.left for each in plans)
        times = [timed(kind).duration(plans, devices) for kind in ("cpu", "cuda") for devices in (1, CLUSTER)]
        lines.append((str(number), CAPTIONS[number], str(runs), f"{calls / 1e6:.1f} million", *times))
    return head, lines


def call_times() -> Table:
    """Return the milliseconds of a gradient call on each network of the tables."""
    networks = {each.network: each.config for plans in plans_of_tables().values() for each in plans}
    lines: list[tuple[str, ...]] = []
    for network, config in networks.items():
        dataset, title = network
        times = [timed(kind).milliseconds(network) for kind in ("cpu", "cuda")]
        lines.append((title, dataset, str(config.dataset.batch_size), *times))
    return ("network", "data", "batch", "CPU core (ms)", "GPU (ms)"), lines


def devices() -> str:
    """Return a sentence that names the devices."""
    return f"CPU: {timed('cpu').made_by}. GPU: {timed('cuda').made_by}."

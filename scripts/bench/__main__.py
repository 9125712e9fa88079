"""Time one iteration of every contestant on every network, interleaved, and write results/bench/.

python -m scripts.bench                      all networks in float32, then growth, epochs and seeds
python -m scripts.bench --networks lenet --precision bf16
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from salr.records import atomic
from salr.training.provenance import provenance
from scripts.bench.clock import seconds_of
from scripts.bench.contestants import CONTESTANTS, Contestant, Step, our_salr, plain_sgd
from scripts.bench.overhead import epoch_overhead
from scripts.bench.seeds import seeds_in_parallel
from scripts.bench.subjects import SIZES, CountedSubject, Subject, matrix_rate, multilayer, subject

CYCLE = 2
"""Iterations that are timed together: SALR measures in one of them and not in the other."""
BUDGET = 20.0
"""Seconds that the contestants on a network are timed for, at most. They are timed three times at least."""


class _Synchronisations(TorchDispatchMode):
    """Count how often the host reads a value of the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--output", type=Path, default=Path("results/bench"))
    parser.add_argument("--only-networks", action="store_true", help="no growth, epochs and seeds")
    parser.add_argument("--memory", nargs=2, metavar=("NETWORK", "CONTESTANT"), help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    bf16 = chosen.precision == "bf16"
    if chosen.memory:
        print(_peak_memory(subject(chosen.memory[0], bf16, device), chosen.memory[1]))
        return 0
    # The C library learns from this to keep memory that is freed, as it does once a data set has been loaded:
    # else steps that need much memory get it anew from the system each time.
    torch.empty(31 * 2**20, dtype=torch.uint8)
    made = provenance(device)
    suffix = f"{device.type}_{chosen.precision}"
    rows = [row for name in chosen.networks for row in _network(subject(name, bf16, device), bf16, device)]
    _write(chosen.output / f"step_{suffix}.csv", rows, made)
    if not chosen.only_networks:
        _write(chosen.output / f"growth_{suffix}.csv", _growth(bf16, device), made)
        _write(chosen.output / f"epoch_{suffix}.csv", epoch_overhead(bf16, device), made)
        _write(chosen.output / f"seeds_{device.type}.csv", seeds_in_parallel(device), made)
    return 0


def _network(timed: Subject, bf16: bool, device: torch.device) -> list[dict[str, object]]:
    """Return one row per contestant: the medians of its time and of its ratio to the plain loop."""
    steps = {name: build(timed) for name, build in CONTESTANTS.items()}
    flops = _flops(timed)
    times = _interleaved(steps, device, BUDGET)
    rate = matrix_rate(
        bf16, device, lambda action: statistics.median(seconds_of(action, device, 3) for _ in range(5))
    )
    rows: list[dict[str, object]] = []
    for name, taken in times.items():
        ratios = _ratios_to(times["plain SGD"], taken)
        seconds = statistics.median(taken)
        gradients, losses = _counts(timed, CONTESTANTS[name])
        rows.append(
            {
                "network": timed.name,
                "contestant": name,
                "gradients": gradients,
                "losses": losses,
                "ms": round(1e3 * seconds, 3),
                "ratio_to_plain_sgd": round(statistics.median(ratios), 3),
                "ratio_low": round(ratios[0], 3),
                "ratio_high": round(ratios[-1], 3),
                "ratio_to_our_sgd": round(statistics.median(_ratios_to(times["our SGD"], taken)), 3),
                "rounds": len(taken),
                f"{timed.unit}_a_second": round(timed.count / seconds),
                "synchronisations": _synchronisations(steps[name]),
                "peak_memory_mb": _memory(timed.name, name, bf16)
                if device.type == "cpu" and name in ("plain SGD", "our SGD", "our SALR")
                else "",
                "matrix_rate_fraction": round(flops / seconds / rate, 3) if "SGD" in name else "",
            }
        )
        print("  ".join(f"{value}" for value in list(rows[-1].values())[:8]), flush=True)
    return rows


def _ratios_to(theirs: list[float], mine: list[float]) -> list[float]:
    return sorted(my / their for my, their in zip(mine, theirs, strict=True))


def _interleaved(steps: dict[str, Step], device: torch.device, budget: float) -> dict[str, list[float]]:
    """Return the seconds per iteration. Each round times all steps, so that a disturbance slows all."""
    for step in steps.values():
        for _ in range(CYCLE):
            step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    begun = time.perf_counter()
    rounds = 0
    while rounds < 3 or (rounds < 40 and time.perf_counter() - begun < budget):
        for name, step in steps.items():
            times[name].append(seconds_of(step, device, CYCLE))
        rounds += 1
    return times


def _counts(timed: Subject, build: Contestant) -> tuple[float, float]:
    """Return the gradients and the losses without a gradient per iteration, counted while it trains."""
    counted = CountedSubject(**vars(timed))
    step = build(counted)
    for _ in range(CYCLE):  # the first iterations may look at the network once more
        step()
    counted.counts.update(evaluations=0, gradients=0)
    for _ in range(CYCLE):
        step()
    evaluations, gradients = counted.counts["evaluations"], counted.counts["gradients"]
    return gradients / CYCLE, (evaluations - gradients) / CYCLE


def _flops(timed: Subject) -> int:
    step = plain_sgd(timed)
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def _synchronisations(step: Step) -> float:
    """Return the reads of device values by the host per iteration, which make it wait for a GPU."""
    with _Synchronisations() as counter:
        for _ in range(CYCLE):
            step()
    return counter.count / CYCLE


def _memory(network: str, contestant: str, bf16: bool) -> float:
    """Return the peak memory in MB, of a process of its own, since the peak of a process never falls."""
    precision = "bf16" if bf16 else "float32"
    arguments = ["--memory", network, contestant, "--precision", precision]
    command = [sys.executable, "-m", "scripts.bench", *arguments]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _peak_memory(timed: Subject, contestant: str) -> float:
    """Return the MB by which training raises the peak of a process that already has its network."""
    before = _resident_peak()
    step = CONTESTANTS[contestant](timed)
    for _ in range(2 * CYCLE):
        step()
    return round((_resident_peak() - before) / 2**20, 1)


def _resident_peak() -> int:
    """Return the bytes of this program. ``getrusage`` would begin with the peak of the parent process."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def _growth(bf16: bool, device: torch.device) -> list[dict[str, object]]:
    """Time SALR beside plain SGD for several n1 = n2 on LeNet, and for networks of several widths."""
    lenet = subject("lenet", bf16, device)
    measurements = {f"n1 = n2 = {number}": our_salr(lenet, number) for number in (1, 2, 5, 10)}
    rows = _ratios("lenet", plain_sgd(lenet), measurements, device)
    for width in (64, 256, 1024, 2048):
        layers = multilayer(width, bf16, device)
        parameters = sum(parameter.numel() for parameter in layers.model.parameters())
        rows += _ratios(
            layers.name, plain_sgd(layers), {f"{parameters} parameters": our_salr(layers)}, device
        )
    return rows


def _ratios(name: str, plain: Step, steps: dict[str, Step], device: torch.device) -> list[dict[str, object]]:
    times = _interleaved({"plain SGD": plain, **steps}, device, BUDGET / 4)
    rows: list[dict[str, object]] = []
    for case in steps:
        ratios = _ratios_to(times["plain SGD"], times[case])
        rows.append(
            {"network": name, "measurement": case, "ratio_to_plain_sgd": round(statistics.median(ratios), 3)}
        )
        print("  ".join(f"{value}" for value in rows[-1].values()), flush=True)
    return rows


def _write(path: Path, rows: list[dict[str, object]], made: dict[str, Any]) -> None:
    """Write CSV, with the machine and the versions in every row."""
    machine = {
        "device": made["device"],
        "threads": made["threads"],
        "commit": made["commit"],
        "torch": made["versions"]["torch"],
    }
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ([*(row.get(name, "") for name in names), *machine.values()] for row in rows)
    atomic.write_csv(path, [*names, *machine], lines)
    print(f"{path}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

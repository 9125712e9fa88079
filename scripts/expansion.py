#!/usr/bin/env python3
"""Train a cell with SALR, and compare Definition 1 with its first-order term while it trains.

To first order Ŝ = (n1 + n2) γ ‖∇f‖. The picture shows how far this holds. Arguments choose the cell, as for
train.py:

python scripts/expansion.py dataset=mnist model=lenet --iterations 700
python scripts/expansion.py model=resnet18 --rates 0.01 0.1 --gammas 1e-4 1e-3 1e-2 1e-1 --every 5

The run follows Definition 1 with the γ of the configuration. At the same parameters and batches, Ŝ is
measured with the other γ as well, all on the same dropout masks. Each learning rate is a run of its own.

Writes expansion_<dataset>_<model>_<optimizer>.csv (a row for each measurement), the same with _summary (the
ratio of Ŝ to its first-order term, as median and 5 % and 95 % quantiles, and the correlation of the two
factors; over all iterations, and over the first and the last third), and the picture, .png and .pdf.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator
from torch import Tensor

from experiments.build import build_parts, device_of, load_data
from experiments.cli import Parser, start
from experiments.measuring import (
    PHASES,
    add_arguments,
    check_measurements,
    check_words,
    configurations,
    factors_of,
    train,
    write,
)
from experiments.schema import Config
from salr.closures import Evaluation
from salr.costs import MeasurementCost
from salr.optim import SALR
from salr.records import check_writable
from salr.reporting.figures import COLOURS, save
from salr.sharpness import AscentDescent, GradientNorm, Measure

FEWEST = 3
"""Measurements, so that each third of the run has one."""

TRAINER = ("trainer.device", "trainer.precision")
"""The options of the trainer that have an effect."""


class Recorder(Measure):
    """Definition 1 that also notes the gradient's norm and Definition 1 with other γ, at the same θ.

    Args:
        measure: what SALR follows.
        gammas: the other γ.
        every: measurements from one that is noted to the next.
    """

    def __init__(self, measure: AscentDescent, gammas: Iterable[float], every: int) -> None:
        self.followed, self.every = measure, every
        self.others = [AscentDescent(gamma, measure.descent_steps, measure.ascent_steps) for gamma in gammas]
        self.noted: list[tuple[int, dict[float, float], float]] = []
        """(measurement, Ŝ by γ, ‖∇f‖)."""
        self._count = 0

    @property
    def cost(self) -> MeasurementCost:
        return self.followed.cost

    def measure(self, evaluation: Evaluation, shared_noise: bool) -> Tensor:
        sharpness = self.followed.measure(evaluation, shared_noise)
        if self._count % self.every == 0:
            norm = GradientNorm().measure(evaluation, shared_noise)
            found = {other.gamma: float(other.measure(evaluation, shared_noise)) for other in self.others}
            self.noted.append((self._count, {**found, self.followed.gamma: float(sharpness)}, float(norm)))
        self._count += 1
        return sharpness


@dataclass(frozen=True)
class Row:
    """One measurement; a factor is the value divided by the median of those so far."""

    rate: float
    gamma: float
    iteration: int
    loss: float
    sharpness: float
    first_order: float
    ratio: float
    factor: float
    first_order_factor: float


@dataclass(frozen=True)
class Summary:
    """How Ŝ and its first-order term go together over a part of a run."""

    rate: float
    gamma: float
    phase: str
    measurements: int
    ratio: float
    ratio_low: float
    ratio_high: float
    correlation: float


def record(config: Config, gammas: Sequence[float], iterations: int, every: int, seed: int) -> list[Row]:
    """Train the cell for some iterations and return its measurements."""
    device = device_of(config)
    parts = build_parts(config, seed, load_data(config, device), device)
    optimizer = parts.optimizer
    assert isinstance(optimizer, SALR)
    followed = optimizer.sharpness_measure
    assert isinstance(followed, AscentDescent)
    recorder = Recorder(followed, [gamma for gamma in gammas if gamma != followed.gamma], every)
    optimizer.sharpness_measure = recorder
    rate = float(optimizer.param_groups[0]["lr"])
    losses = train(parts, seed, iterations, f"rate {rate:g}: ")
    rows = []
    for gamma in sorted({followed.gamma, *gammas}):
        length = (followed.descent_steps + followed.ascent_steps) * gamma
        sharpness = np.array([found[gamma] for _, found, _ in recorder.noted])
        first = length * np.array([norm for *_, norm in recorder.noted])
        factors = zip(factors_of(sharpness), factors_of(first), strict=True)
        for index, (factor, first_factor) in enumerate(factors):
            at = recorder.noted[index][0] * optimizer.interval
            pair = float(sharpness[index]), float(first[index])
            rows.append(Row(rate, gamma, at, losses[at], *pair, pair[0] / pair[1], factor, first_factor))
    return rows


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """Return the ratios and correlations by learning rate, γ and phase."""
    summaries = []
    for rate, gamma in sorted({(row.rate, row.gamma) for row in rows}):
        run = [row for row in rows if (row.rate, row.gamma) == (rate, gamma)]
        for phase, (begin, end) in PHASES.items():
            part = run[round(begin * len(run)) : round(end * len(run))]
            ratios = np.array([row.ratio for row in part])
            pairs = np.array([(row.factor, row.first_order_factor) for row in part]).T
            together = (
                float(np.corrcoef(pairs)[0, 1]) if len(part) > 1 and pairs.std(1).all() else float("nan")
            )
            low, middle, high = np.quantile(ratios, (0.05, 0.5, 0.95)).tolist()
            summaries.append(Summary(rate, gamma, phase, len(part), middle, low, high, together))
    return summaries


def draw(rows: Sequence[Row], followed: float, title: str, path: Path) -> None:
    """Draw Ŝ against its first-order term, both factors over training, and the ratio over γ."""
    rates = sorted({row.rate for row in rows})
    figure, grid = plt.subplots(
        len(rates), 3, figsize=(14, 4 * len(rates)), layout="constrained", squeeze=False
    )
    for rate, (points, factors, ratios) in zip(rates, grid, strict=True):
        run = [row for row in rows if row.rate == rate]
        gammas = sorted({row.gamma for row in run})
        for gamma, colour in zip(gammas, _colours(len(gammas)), strict=True):
            pairs = [
                (row.first_order, row.sharpness) for row in run if row.gamma == gamma and row.sharpness > 0
            ]
            points.plot(
                *zip(*pairs, strict=True) if pairs else ([], []),
                ".",
                color=colour,
                markersize=3,
                label=f"γ = {gamma:g}",
            )
        ends = [min(row.first_order for row in run), max(row.first_order for row in run)]
        points.plot(ends, ends, color="grey", linewidth=0.8, label="equal")
        points.set(xscale="log", yscale="log", xlabel="(n1 + n2) γ ‖∇f‖", ylabel="Ŝ", title=f"η0 = {rate:g}")
        main = [row for row in run if row.gamma == followed]
        times = [row.iteration for row in main]
        factors.plot(
            times, [row.factor for row in main], color=COLOURS[0], linewidth=3, alpha=0.6, label="Ŝ / median"
        )
        factors.plot(
            times,
            [row.first_order_factor for row in main],
            "--",
            color=COLOURS[1],
            linewidth=1.2,
            label="‖∇f‖ / median",
        )
        factors.set(xlabel="iteration", ylabel="η / η0", yscale="log", title=f"factors at γ = {followed:g}")
        factors.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        factors.yaxis.set_major_formatter("{x:g}")
        factors.yaxis.set_minor_formatter("")
        _draw_ratios(ratios, [each for each in summarise(run) if each.phase != "all"])
        for axes in (points, factors, ratios):
            axes.grid(alpha=0.25)
            axes.legend(frameon=False, fontsize=8)
    figure.suptitle(title)
    save(figure, path)


def _draw_ratios(axes: Any, summaries: Sequence[Summary]) -> None:
    for phase, colour, shift in (("early", COLOURS[0], 0.96), ("late", COLOURS[1], 1.04)):
        chosen = [each for each in summaries if each.phase == phase]
        middle = np.array([each.ratio for each in chosen])
        bars = [middle - [each.ratio_low for each in chosen], [each.ratio_high for each in chosen] - middle]
        axes.errorbar(
            [each.gamma * shift for each in chosen],
            middle,
            np.abs(bars),
            fmt="o",
            color=colour,
            capsize=3,
            markersize=4,
            label=f"{phase} third",
        )
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set(xscale="log", xlabel="γ", ylabel="Ŝ / ((n1 + n2) γ ‖∇f‖)", title="ratio: median, 5 % to 95 %")


def _colours(number: int) -> list[Any]:
    return [plt.get_cmap("viridis")(place) for place in np.linspace(0, 0.9, number)]


def show(summaries: Sequence[Summary]) -> None:
    """Print the summary as a table."""
    print(f"{'η0':>7} {'γ':>8} {'phase':6} {'n':>5} {'ratio':>8} {'5 %':>8} {'95 %':>8} {'correlation':>12}")
    for each in summaries:
        numbers = f"{each.ratio:8.4f} {each.ratio_low:8.4f} {each.ratio_high:8.4f} {each.correlation:12.4f}"
        print(f"{each.rate:7g} {each.gamma:8g} {each.phase:6} {each.measurements:5} {numbers}")


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"{text}: expected a number > 0")
    return value


def main(arguments: Sequence[str]) -> int:
    parser = Parser(__doc__)
    add_arguments(parser, TRAINER)
    parser.add_argument(
        "--rates", nargs="+", metavar="LR", help="learning rates; default the configuration's"
    )
    parser.add_argument("--gammas", nargs="+", default=[], metavar="γ", help="γ beside the configuration's")
    chosen = parser.parse_intermixed_args(arguments)
    check_words(chosen.words, TRAINER)
    configs = configurations(chosen.words, chosen.rates)
    gammas = [_positive(text) for text in chosen.gammas]
    check_measurements(configs[0], chosen.iterations, chosen.every, FEWEST)
    check_writable(chosen.output)
    rows = [
        row
        for config in configs
        for row in record(config, gammas, chosen.iterations, chosen.every, chosen.seed)
    ]
    config = configs[0]
    name = f"expansion_{config.dataset.name}_{config.model.title}_{config.optimizer.name}"
    path, summaries = chosen.output / name, summarise(rows)
    write(rows, path.with_suffix(".csv"))
    write(summaries, path.with_name(f"{name}_summary.csv"))
    assert config.optimizer.salr is not None
    assert config.optimizer.salr.gamma is not None
    draw(rows, config.optimizer.salr.gamma, config.title, path)
    show(summaries)
    print(f"\nThe picture: {path}.png, .pdf; the numbers: {path}.csv, {path}_summary.csv")
    return 0


if __name__ == "__main__":
    start(main)
